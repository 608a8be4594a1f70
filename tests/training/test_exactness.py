"""Training is exact: the same to the bit, whatever happened on the way, or it says why it stopped."""

import json
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from safetensors.torch import load_file
from support import lives
from support.command import ask
from support.ranks import OneOf
from support.small_training import PREPROCESS, RECIPE, StopAt, assert_same, network, rows, run
from torch import Tensor, nn

from zoo.data import ImageSet
from zoo.data.augmentation import Affine, Augmentation
from zoo.errors import StorageError, TrainingError
from zoo.loading import safetensors_file
from zoo.training import Recipe
from zoo.training.inputs import Batches
from zoo.training.recipe import Lookahead

pytest.importorskip("timm", reason="needs zoo-vision[train]")
pytest.importorskip("sklearn", reason="needs zoo-vision[data]")

EVERYTHING = (
    "epochs=2", "warmup_epochs=0.5", "ema=0.98", "lookahead.every=5", "validation=600", "label_smoothing=0.1",
    "clip_grad=1", "accumulate=2", "progressive.initial_scale=0.5",
)  # fmt: skip
"""All that has a state of its own or draws numbers, on a network with batch statistics and momentum."""


def words(*settings: str, every: int = 1) -> list[str]:
    changes = [word for setting in settings for word in ("--set", setting)]
    return ["train", "resnet20", "--data", "digits", *changes, "--checkpoint-every", str(every), "-o", "run"]


TRAIN = words(*EVERYTHING)


def finish(process: "subprocess.Popen[str]") -> None:
    _, said = process.communicate()
    assert process.returncode == 0, said


def finish_quickly(process: BaseProcess, folder: Path) -> None:
    process.join()
    assert process.exitcode == 0, (folder / "said.txt").read_text()


def contents(directory: Path) -> set[str]:
    """Returns the names of a run's files, TensorBoard's aside."""
    return {file.name for file in directory.iterdir() if not file.name.startswith("events.")}


def losses(directory: Path) -> list[tuple[float, ...]]:
    """Returns all that the log says but for seconds."""
    kept = [
        [value for key, value in row.items() if "second" not in key and "per_s" not in key] for row in rows(directory)
    ]
    return [tuple(row) for row in kept]


WHOLE = {"config.json", "log.jsonl", "checkpoint.safetensors", "model.safetensors"}


def assert_same_run(directory: Path, unbroken: Path) -> None:
    assert contents(directory) == WHOLE | {"confusion.csv", "mistakes.csv"}  # of the images held out
    for file in ("model.safetensors", "checkpoint.safetensors"):
        assert_same(load_file(directory / file), load_file(unbroken / file))
    assert losses(directory) == losses(unbroken)


def assert_same_file(directory: Path, unbroken: Path) -> None:
    """Returns the network's, with the record of its run."""
    assert (directory / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    finish_quickly(lives.begin_quickly(folder, *TRAIN), folder)
    return folder / "run"


def revive(folder: Path) -> list[str]:
    """Returns what to say to go on, or to start where nothing was written yet."""
    return ["--resume"] if (folder / "run" / "config.json").exists() else []


def test_a_run_killed_while_it_writes_ends_as_the_unbroken_one(unbroken: Path, tmp_path: Path) -> None:
    deaths: list[tuple[lives.Stage, int]] = [("written", 1), ("half written", 6), ("written", 5), ("replaced", 4)]
    for death in deaths:
        process = lives.begin_quickly(tmp_path, *TRAIN, *revive(tmp_path), death=death)
        process.join()
        assert process.exitcode == -9, (tmp_path / "said.txt").read_text()
        parts = [file.name for file in (tmp_path / "run").glob(".*")]
        assert len(parts) == (0 if death[0] == "replaced" else 1)
    finish_quickly(lives.begin_quickly(tmp_path, *TRAIN, "--resume"), tmp_path)
    assert_same_run(tmp_path / "run", unbroken)
    assert_same_file(tmp_path / "run", unbroken)


KILLS = 20


@pytest.mark.slow
def test_a_run_killed_at_random_twenty_times_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    """Processes from their start; some write a checkpoint only every few steps, half are killed as they write one."""
    small = [setting for setting in EVERYTHING if not setting.startswith("epochs")] + ["epochs=7", "batch_size=16"]
    for folder in ("killed", "unbroken"):
        (tmp_path / folder).mkdir()
    finish(lives.begin(tmp_path / "unbroken", *words(*small)))
    chance, killed, places, parts = random.Random(20), tmp_path / "killed", [], []
    for kill in range(KILLS):
        every = chance.choice([1, 1, 3]) if kill else 1
        command = [*words(*small, every=every), *revive(killed)]
        start = partial(lives.begin, killed, *command)
        death = lives.kill_at_random(start, killed / "run", chance, most=12, while_it_writes=kill % 2 == 1)
        assert death.was_killed, f"the run was over before kill {kill + 1}"
        places.append(place_of(killed / "run"))
        parts += death.parts
    finish(lives.begin(killed, *words(*small), "--resume"))
    print(f"{KILLS} kills, checkpoints of (epoch, step) {places}, {len(parts)} inside a write")
    assert places == sorted(places)
    assert_same_run(killed / "run", tmp_path / "unbroken" / "run")
    assert_same_file(killed / "run", tmp_path / "unbroken" / "run")


def test_the_record_says_where_more_epochs_changed_what_slow_weights_do(tmp_path: Path) -> None:
    """How far they follow depends on the number of all updates."""
    steady = structs.replace(RECIPE, schedule="constant", epochs=2, lookahead=Lookahead(every=2))
    run(tmp_path, steady)
    run(tmp_path, structs.replace(steady, epochs=4), resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["earlier"] == [{"epochs": 2}]


# ---- a full disk --------------------------------------------------------------------------------------------------


@contextmanager
def file_limits() -> Iterator[Callable[[int], None]]:
    """Gives what forbids this process files of more than so many bytes, within the context alone."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.mark.parametrize(
    ("size", "file", "every", "place"),
    [
        (50, "log.jsonl", 0, (2, 0)),
        (2000, "checkpoint.safetensors", 0, (2, 0)),
        (2000, "checkpoint.safetensors", 2, (2, 2)),
    ],
)
def test_a_file_that_cannot_be_written_stops_the_run_and_the_last_checkpoint_stays(
    tmp_path: Path, whole: tuple[Path, dict[str, Tensor]], size: int, file: str, every: int, place: tuple[int, int]
) -> None:
    with pytest.raises(StorageError) as caught, file_limits() as limit:
        run(tmp_path, display=StopAt(3, 4, lambda: limit(size)), checkpoint_every=every)
    assert caught.value.message == f"{tmp_path / file} cannot be written: File too large."
    assert "bytes, more than the file size limit" in caught.value.hint
    assert place_of(tmp_path) == place
    assert contents(tmp_path) == WHOLE - {"model.safetensors"}
    assert_same(run(tmp_path, resume=True), whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_a_command_that_cannot_write_says_how_to_go_on(tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = ["train", "resnet8", "--data", "digits", "--recipe", "default", "--set", "epochs=1", "-o", output]
    with file_limits() as limit:
        limit(200_000)
        answer = ask(*command, "--device", "cpu")
    assert answer.exit_code == 1
    assert f"error: {output / 'checkpoint.safetensors'} cannot be written: File too large." in answer.stderr
    advice = f"(ulimit -f). Then continue with\n  zoo train --resume -o {output} --device cpu\n"
    assert answer.stderr.endswith(advice)


# ---- numbers that stop being numbers ------------------------------------------------------------------------------


def place_of(directory: Path) -> tuple[int, int]:
    """Returns (epochs, steps) that the checkpoint has done."""
    place = safetensors_file.metadata(directory / "checkpoint.safetensors")["position"]
    return place["epoch"], place["step"]


def test_a_run_stopped_by_a_passing_fault_goes_on_as_the_unbroken_one(
    tmp_path: Path, whole: tuple[Path, dict[str, Tensor]]
) -> None:
    calls = iter(range(100))

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels) * (float("inf") if next(calls) == 6 else 1)

    with pytest.raises(TrainingError, match="The loss became inf at epoch 2, step 3"):
        run(tmp_path, criterion=criterion, checkpoint_every=1)
    assert place_of(tmp_path) == (1, 2)
    assert_same(run(tmp_path, resume=True), whole[1])


@pytest.mark.parametrize(("every", "place"), [(1, (1, 2)), (0, (1, 0))])
def test_weights_that_are_not_finite_are_not_kept_however_good_the_loss(
    tmp_path: Path, every: int, place: tuple[int, int]
) -> None:
    calls = iter(range(100))

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        """Gives a loss that is 0 at the seventh update, whose gradient is 0 times infinity, then 0 again."""
        bad = next(calls) >= 6
        return (logits.nan_to_num() * 0).sum().sqrt().nan_to_num() if bad else logits.square().mean()

    with pytest.raises(TrainingError, match=r"Weights became infinite or NaN \(.*weight\) after \d epochs"):
        run(tmp_path, criterion=criterion, checkpoint_every=every)
    assert place_of(tmp_path) == place
    stored = load_file(tmp_path / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in stored.values())


# ---- what was asked wrongly ---------------------------------------------------------------------------------------


# ---- batches ------------------------------------------------------------------------------------------------------


VARIED = Augmentation(pad_crop=2, padding="reflect", flip=True, affine=Affine(15.0, 0.1, (0.9, 1.1), 10.0), cutout=3)


def numbered(count: int) -> ImageSet:
    """Returns noise of which each image is a class of its own."""
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return ImageSet("numbered", "train", tuple(map(str, range(count))), torch.arange(count), pixels)


def batches(data: ImageSet, recipe: Recipe, rank: int = 0, count: int = 1) -> Batches:
    return Batches(data, recipe, PREPROCESS, torch.device("cpu"), OneOf(rank, count))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 3), st.integers(0, 2**40), st.data())
def test_an_epoch_shows_each_image_once_but_for_what_no_batch_holds(
    count: int, size: int, epoch: int, seed: int, data: st.DataObject
) -> None:
    found = batches(numbered(count), Recipe(batch_size=size, seed=seed))
    labels = [part.tolist() for _, part in found.epoch(epoch)]
    size = min(size, count)
    assert [len(part) for part in labels] == [size] * (count // size)
    seen = [label for part in labels for label in part]
    assert len(set(seen)) == len(seen)
    start = data.draw(st.integers(0, len(labels)))
    assert [part.tolist() for _, part in found.epoch(epoch, start)] == labels[start:]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 50), st.integers(1, 20), st.integers(1, 6), st.integers(0, 3),
    st.sampled_from([VARIED, structs.replace(VARIED, flip="alternate"), Augmentation()]),
)  # fmt: skip
def test_the_shares_of_processes_are_the_batches_of_one_to_the_bit(
    count: int, size: int, processes: int, epoch: int, augment: Augmentation
) -> None:
    data, recipe = numbered(count), Recipe(batch_size=size, augment=augment)
    processes = min(processes, size, count)
    parts = [list(batches(data, recipe, rank, processes).epoch(epoch)) for rank in range(processes)]
    for step, (images, labels) in enumerate(batches(data, recipe).epoch(epoch)):
        assert torch.equal(torch.cat([part[step][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[step][1] for part in parts]), labels)
        lengths = [len(part[step][1]) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("processes", [1, 3])
def test_an_alternating_flip_mirrors_half_at_first_and_the_others_every_other_epoch(processes: int) -> None:
    data, recipe = numbered(1000), Recipe(batch_size=100, augment=Augmentation(flip="alternate"))
    assert data.pixels is not None
    plain = batches(data, recipe)._transform._normalize.batch(data.pixels)
    mirrored = []
    for epoch in range(4):
        is_mirrored = torch.zeros(1000, dtype=torch.bool)
        for rank in range(processes):
            for images, labels in batches(data, recipe, rank, processes).epoch(epoch):
                is_mirrored[labels] = (images == plain[labels].flip(-1)).flatten(1).all(dim=1)
                assert torch.equal(images[~is_mirrored[labels]], plain[labels][~is_mirrored[labels]])
        mirrored.append(is_mirrored)
    assert abs(int(mirrored[0].sum()) - 500) < 4 * (1000 / 4) ** 0.5  # four standard deviations
    assert torch.equal(mirrored[1], ~mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0])
    assert torch.equal(mirrored[3], mirrored[1])


# ---- accumulation -------------------------------------------------------------------------------------------------


class Double(nn.Module):
    """A network without batch statistics that computes in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(has_norm=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.double())  # type: ignore[no-any-return]  # torch's stubs


@pytest.mark.parametrize("pieces", [2, 3, 5, 7, 32])
def test_pieces_even_or_not_add_up_to_the_batch_in_float64(tmp_path: Path, pieces: int) -> None:
    """With a loss whose gradient float32, in which the engine takes logits, holds exactly."""

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        return (logits * torch.tensor([1.0, -2.0, 0.5, 4.0])).sum(dim=1).mean()

    recipe = Recipe(epochs=2, batch_size=32, lr=0.01, precision="float32", clip_grad=0.5, schedule="constant")
    expected = run(tmp_path / "batch", recipe, model=Double(), criterion=criterion)
    recipe = structs.replace(recipe, accumulate=pieces)
    got = run(tmp_path / "pieces", recipe, model=Double(), criterion=criterion)
    for key, value in expected.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(got[key], value, rtol=1e-12, atol=1e-14)


def test_the_kept_networks_are_those_of_shorter_and_of_resumed_trainings(tmp_path: Path) -> None:
    words = ["train", "resnet8", "--data", "digits", "--recipe", "default", "--device", "cpu"]
    words += ["--set", "epochs=3", "--set", "schedule=constant"]  # so that a shorter training begins alike
    whole, paused = tmp_path / "whole", tmp_path / "paused"
    assert ask(*words, "--keep-epochs", "0,1,3", "-o", whole).exit_code == 0
    assert sorted(file.name for file in (whole / "epochs").iterdir()) == [
        "0.safetensors",
        "1.safetensors",
        "3.safetensors",
    ]
    short = tmp_path / "short"
    assert ask(*words[:-4], "--set", "epochs=1", *words[-2:], "-o", short).exit_code == 0
    assert_same_tensors(whole / "epochs/1.safetensors", short / "model.safetensors")
    assert_same_tensors(whole / "epochs/3.safetensors", whole / "model.safetensors")
    assert ask(*words, "--keep-epochs", "0,1,3", "--stop-after", "1", "-o", paused).exit_code == 0
    (paused / "epochs/0.safetensors").unlink()
    assert ask("train", "--resume", "-o", paused, "--keep-epochs", "0,1,3").exit_code == 0
    assert_same_tensors(whole / "epochs/3.safetensors", paused / "epochs/3.safetensors")
    assert not (paused / "epochs/0.safetensors").exists()  # a resumed run does not know it any more
    refused = ask(*words, "--keep-epochs", "0,x", "-o", tmp_path / "no")
    assert (refused.exit_code, "numbers of epochs" in refused.stderr) == (2, True)


def assert_same_tensors(left: Path, right: Path) -> None:
    first, second = load_file(left), load_file(right)
    assert first.keys() == second.keys()
    assert all(map(torch.equal, first.values(), second.values()))
