"""The default training: resumes bit by bit, loses nothing, and does what its recipe says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.small_training import PREPROCESS, RECIPE, RECIPE_FIELDS, StopAt, assert_same, images, network, rows, run
from torch import Tensor, nn

from zoo.data import ImageSet, load
from zoo.data.augmentation import Augmentation
from zoo.errors import RecipeError, TrainingError
from zoo.evaluation import evaluate
from zoo.loading import safetensors_file
from zoo.spec import Preprocess
from zoo.training import Recipe, Run, TrainingData, normalise, optimization, split, train
from zoo.training.inputs import Batches
from zoo.training.optimization import EMA
from zoo.training.run import Lines, Silent


@pytest.mark.first(1)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_two_epochs_and_two_resumed_equal_four(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe(**{**RECIPE_FIELDS, "optimizer": optimizer})
    expected = run(tmp_path / "whole", recipe)
    run(tmp_path / "halves", recipe, stop_after=2)
    assert_same(run(tmp_path / "halves", recipe, resume=True), expected)
    assert [row["epoch"] for row in rows(tmp_path / "halves")] == [1, 2, 3, 4]
    for left, right in zip(rows(tmp_path / "whole"), rows(tmp_path / "halves"), strict=True):
        assert (left["loss"], left["train_top1"], left["lr"]) == (right["loss"], right["train_top1"], right["lr"])


def test_ctrl_c_in_mid_epoch_then_resume_equals_an_unbroken_run(
    tmp_path: Path, whole: tuple[Path, dict[str, Tensor]]
) -> None:
    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, display=StopAt(2, 3, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert len(rows(tmp_path)) == 1
    assert_same(run(tmp_path, resume=True), whole[1])
    assert [row["loss"] for row in rows(tmp_path)] == [row["loss"] for row in rows(whole[0])]
    assert signal.getsignal(signal.SIGINT) is former


def test_tensorboard_holds_the_numbers_of_the_log(whole: tuple[Path, dict[str, Tensor]]) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs zoo-vision[train]"
    ).EventAccumulator(str(whole[0]))
    accumulator.Reload()
    for key in ("loss", "lr", "images_per_s"):
        held = [(event.step, event.value) for event in accumulator.Scalars(key)]
        assert held == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in rows(whole[0])]


class CrashError(Exception):
    pass


@pytest.mark.parametrize("every", [0, 2])
def test_a_crash_in_mid_epoch_then_resume_equals_an_unbroken_run(
    tmp_path: Path, whole: tuple[Path, dict[str, Tensor]], every: int
) -> None:
    def crash() -> None:
        raise CrashError

    with pytest.raises(CrashError):
        run(tmp_path, display=StopAt(3, 4, crash), checkpoint_every=every)
    assert_same(run(tmp_path, resume=True), whole[1])
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_resuming_a_finished_run_gives_its_network(whole: tuple[Path, dict[str, Tensor]]) -> None:
    assert_same(run(whole[0], resume=True), whole[1])


def test_the_callers_random_numbers_and_mode_are_left_alone(tmp_path: Path) -> None:
    model = network().eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tmp_path, model=model)
    assert torch.equal(torch.rand(3), expected)
    assert not model.training


def test_images_decoded_on_demand_train_the_same_network(tmp_path: Path, whole: tuple[Path, dict[str, Tensor]]) -> None:
    assert_same(run(tmp_path, data=images(is_resident=False)), whole[1])


class Drawing(nn.Module):
    """Keeps what it draws in training, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(torch.rand(()).item())
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def test_dropout_draws_anew_in_each_update_of_each_epoch(tmp_path: Path) -> None:
    model = Drawing()
    run(tmp_path, Recipe(epochs=3, batch_size=16), model=model)
    assert len(model.drawn) == len(set(model.drawn)) == 3 * 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_held_out_are_scored_with_the_averaged_weights_in_the_recipes_precision(
    tmp_path: Path, precision: Any
) -> None:
    recipe = Recipe(**{**RECIPE_FIELDS, "validation": 16, "precision": precision})
    model = network()
    run(tmp_path, recipe, model=model)  # ends as the average of its weights
    held_out = split(images(), recipe).validation
    assert held_out is not None
    losses = {
        dtype: evaluate(model, held_out, preprocess=PREPROCESS, device="cpu", dtype=dtype).loss
        for dtype in ("float32", "bfloat16")
    }
    assert losses["float32"] != losses["bfloat16"]
    assert rows(tmp_path)[-1]["val_loss"] == losses[precision]


def test_the_log_tells_accuracy_in_per_cent(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    nn.init.zeros_(model[1].weight)
    model[1].bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])  # always the first of four classes of 18 images
    run(tmp_path, Recipe(epochs=1, batch_size=72, lr=0.0), model=model)
    assert rows(tmp_path)[0]["train_top1"] == 25.0


def test_a_pause_after_the_last_epoch_is_none(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch_size=16)
    started = Run(tmp_path, stop_after=9, display=Silent())
    train(network(), split(images(), recipe), recipe, started, preprocess=PREPROCESS, device="cpu")
    assert not started.is_paused
    assert len(rows(tmp_path)) == 2


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x.flatten(1)), self.other(x.flatten(1))


def test_several_outputs_without_a_criterion_for_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has 2 outputs"):
        run(tmp_path, Recipe(epochs=1), model=TwoHeads())


def test_logs_tell_at_once_what_is_trained_and_then_go_on_telling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.run._SECONDS", 0.0)
    run(tmp_path, display=Lines())
    first, *others = capsys.readouterr().err.splitlines()
    assert (
        first == "Sequential, 72 images of rows, recipe of its own (sgd, lr 0.05, cosine): 4 epochs of 4 steps on cpu"
    )
    assert [line[:24] for line in others[:3]] == [f"epoch 1/4  step {step}/4  loss"[:24] for step in (1, 2, 3)]
    assert sum(line.startswith("epoch   ") for line in others) == 4


def test_the_network_learns(tmp_path: Path) -> None:
    run(tmp_path, Recipe(epochs=12, batch_size=16, lr=0.02, validation=20, normalize="standardize"))
    assert rows(tmp_path)[-1]["val_top1"] == 100
    fields = {"epoch", "step", "loss", "train_top1", "lr", "images_per_s", "seconds", "val_top1", "val_loss"}
    assert rows(tmp_path)[0].keys() == fields


def test_a_directory_that_holds_a_run_is_not_started_in(whole: tuple[Path, dict[str, Tensor]]) -> None:
    before = (whole[0] / "config.json").read_bytes()
    with pytest.raises(TrainingError, match=r"(?s)already contains a run.*--resume"):
        run(whole[0])
    assert (whole[0] / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": Recipe(**{**RECIPE_FIELDS, "lr": 0.1})}, r"recipe\.lr: the run has 0\.05, requested 0\.1"),
        ({"recipe": Recipe(**{**RECIPE_FIELDS, "augment": Augmentation(flip=True)})}, r"recipe\.augment\.pad_crop"),
        ({"data": images(71)}, r"data\.train\.fingerprint"),
        ({"model": nn.Linear(2, 2)}, r"model: the run has 'Sequential', requested 'Linear'"),
    ],
)
def test_a_run_started_with_something_else_is_not_resumed(
    whole: tuple[Path, dict[str, Tensor]], change: dict[str, Any], named: str
) -> None:
    with pytest.raises(TrainingError, match=named):
        run(whole[0], **change, resume=True)


def test_more_epochs_may_be_asked_for_where_the_schedule_does_not_look_ahead(tmp_path: Path) -> None:
    two, four = (Recipe(**{**RECIPE_FIELDS, "schedule": "constant", "epochs": epochs}) for epochs in (2, 4))
    run(tmp_path / "grown", two)
    assert_same(run(tmp_path / "grown", four, resume=True), run(tmp_path / "whole", four))


def test_a_longer_run_takes_the_rates_of_its_new_length_from_where_it_stands(
    tmp_path: Path, whole: tuple[Path, dict[str, Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    two = Recipe(**{**RECIPE_FIELDS, "epochs": 2})
    run(tmp_path, two)
    run(tmp_path, RECIPE, resume=True)  # of four epochs
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert [row["lr"] for row in rows(tmp_path)][2:] == [row["lr"] for row in rows(whole[0])][2:]
    assert "Extending the run after epoch 2: 4 epochs instead of 2" in caplog.text
    assert json.loads((tmp_path / "config.json").read_text())["earlier"] == [{"epochs": 2}]


def test_a_run_of_a_zoo_without_some_field_of_recipes_is_resumed(tmp_path: Path) -> None:
    expected = run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["recipe"]["optimizer_args"], config["recipe"]["hook_args"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same(run(tmp_path, resume=True), expected)


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match="is not a valid checkpoint"):
        run(tmp_path, model=network(has_norm=False), resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="is not a valid checkpoint"):
        run(tmp_path, resume=True)


def test_one_directory_is_trained_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    run(tmp_path, stop_after=1)
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(TrainingError, match="is in use by another training process"):
            run(tmp_path, resume=True)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        other.communicate("\n")
    run(tmp_path, resume=True)
    assert len(rows(tmp_path)) == 4


def test_images_replaced_under_the_same_labels_are_other_images(tmp_path: Path) -> None:
    def folder(seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        for number in range(8):
            file = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            side = 8 + number  # of several sizes: not resident
            pixels = torch.randint(256, (side, side), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(file)
        return load(tmp_path / "data")

    recipe = Recipe(epochs=2, batch_size=8)
    expected = run(tmp_path / "whole", recipe, folder(0))
    run(tmp_path / "run", recipe, folder(0), stop_after=1)
    with pytest.raises(TrainingError, match=r"data\.train\.files: the run has 'sha256:"):
        run(tmp_path / "run", recipe, folder(1), resume=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["data"]["train"]["files"]  # a run of an earlier Zoo
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert_same(run(tmp_path / "run", recipe, folder(0), resume=True), expected)


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ({"step": 5}, r"is at step 5 of an epoch with 4"),
        ({"step": -1}, r"step"),
        ({"epoch": "2"}, r"epoch"),
        ({"meter": {"loss": 0.0}}, r"correct"),
        ({"meter": None}, r"meter"),
        ({"best": {"epoch": 1}}, r"best has epoch, expected"),
    ],
)
def test_a_checkpoint_with_a_damaged_position_is_refused(
    tmp_path: Path, position: dict[str, Any], message: str
) -> None:
    run(tmp_path, stop_after=2)
    file = tmp_path / "checkpoint.safetensors"
    about = safetensors_file.metadata(file)
    changed = {**about, "position": {**about["position"], **position}}
    safetensors_file.write({key: value.clone() for key, value in safetensors_file.read(file).items()}, file, changed)
    with pytest.raises(TrainingError, match=rf"is not a valid checkpoint: .*{message}"):
        run(tmp_path, resume=True)


def test_a_bad_optimiser_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Optimiser"):
        run(tmp_path / "run", Recipe(optimizer="sgdd"))
    assert not (tmp_path / "run").exists()


def test_arguments_of_the_optimiser_reach_it() -> None:
    recipe = Recipe(optimizer="rmsprop", optimizer_args={"alpha": 0.5, "centered": True})
    (group,) = optimization.create_optimizer(nn.Linear(2, 2, bias=False), recipe).param_groups
    assert (group["alpha"], group["centered"]) == (0.5, True)
    with pytest.raises(RecipeError, match="alfa"):
        optimization.create_optimizer(nn.Linear(2, 2), Recipe(optimizer="rmsprop", optimizer_args={"alfa": 0.5}))


def test_the_run_is_recorded(whole: tuple[Path, dict[str, Tensor]]) -> None:
    config = json.loads((whole[0] / "config.json").read_text())
    assert config["recipe"]["lr"] == 0.05
    assert config["data"]["train"] == {"name": "rows", "split": "train", "n": 72, "fingerprint": images().fingerprint}
    assert config["versions"]["torch"] == torch.__version__
    assert list(whole[0].glob("events.*"))
    assert not list(whole[0].glob("*.part"))


def test_an_epoch_shows_each_image_at_most_once_and_others_the_next() -> None:
    batches = Batches(images(70), Recipe(batch_size=16, augment=Augmentation()), PREPROCESS, torch.device("cpu"))
    seen = [{tuple(image.flatten().tolist()) for part, _ in batches.epoch(epoch) for image in part} for epoch in (0, 1)]
    assert batches.steps == 4
    assert [len(epoch) for epoch in seen] == [64, 64]
    assert seen[0] != seen[1]


def test_images_of_another_size_are_brought_to_the_networks() -> None:
    large = Preprocess(input_size=(1, 12, 12), crop_pct=1.0, mean=(0.3,), std=(0.4,))
    batches = Batches(images(), Recipe(batch_size=16), large, torch.device("cpu"))
    assert next(iter(batches.epoch(0)))[0].shape == (16, 1, 12, 12)


def test_the_average_follows_its_closed_form() -> None:
    model = nn.BatchNorm1d(1)
    average = EMA(model, 0.5)
    expected = 1.0
    for update, value in enumerate([2.0, -1.0, 3.0, 5.0, 4.0, 7.0, 7.0, 7.0, 7.0, 7.0, 9.0]):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        model.weight.data.fill_(value)
        model.num_batches_tracked += 1
        average.update(update)
    assert float(average.module.weight) == pytest.approx(expected)  # type: ignore[arg-type]
    assert int(average.module.num_batches_tracked) == 11  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mean", "standardize", "zca"])
def test_training_images_leave_normalisation_as_it_promises(kind: str) -> None:
    from zoo.data.preprocess import Transform

    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    model, data = Network(), TrainingData(images(2000))
    preprocess = normalise(model, data, Recipe(normalize=kind), PREPROCESS)  # type: ignore[arg-type]
    assert data.train.pixels is not None
    outputs = model(Transform(preprocess).batch(data.train.pixels))
    assert outputs.mean().item() == pytest.approx(0, abs=1e-4)
    if kind == "standardize":
        assert outputs.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    if kind == "zca":
        torch.testing.assert_close(outputs.flatten(1).T.cov(correction=0), torch.eye(64), atol=0.02, rtol=0)
        assert "whitening.matrix" in model.state_dict()
        assert preprocess.whitening == "zca"
