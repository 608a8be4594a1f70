"""Several processes train and score as one does: real ones, started by launchers, over gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import launched
from support import pictures as pictures_of
from support.ranks import OneOf
from torch import Tensor

from zoo.errors import RecipeError
from zoo.system import distributed
from zoo.training import Recipe
from zoo.training.inputs import Batches
from zoo.training.optimization import sync_batch_norm

pytest.importorskip("accelerate", reason="needs zoo-vision[train]")

SCRIPT = str(Path(launched.__file__))
COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]


def torchrun(count: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]


def accelerate_launch(count: int) -> list[str]:
    """Starts processes; its ``--cpu`` starts one process; without a GPU, those of ``--multi_gpu`` compute on the
    CPU."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port=0"]
    return [*launcher, f"--num_processes={count}", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]


def start(*command: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def finish(launcher: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = launcher.communicate(timeout=280)
    return launcher.returncode, out, err


def rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, atol=1e-5, rtol=0, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Tensor]]]:
    """The run directory and the weights of one process training a case."""
    done: dict[str, tuple[Path, dict[str, Tensor]]] = {}
    folder = tmp_path_factory.mktemp("alone")

    def get(case: str) -> tuple[Path, dict[str, Tensor]]:
        if case not in done:
            done[case] = folder / case, dict(launched.run(case, folder / case).state_dict())
        return done[case]

    return get


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder in which so many processes did all that ``launched`` does; four go on with a run of two."""
    done: dict[int, Path] = {}

    def get(count: int) -> Path:
        if count not in done:
            folder = tmp_path_factory.mktemp(f"of_{count}")
            earlier: list[str] = []
            if count != 2:
                earlier = [str(shutil.copytree(get(2) / "left", folder / "left of two"))]
            code, _, err = finish(start(*torchrun(count), SCRIPT, "all", str(folder), *earlier))
            assert code == 0, err
            done[count] = folder
        return done[count]

    return get


def seen(folder: Path) -> list[dict[str, Any]]:
    """Returns what each process saw."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("seen.*.json"))]


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", ["plain", "uneven", "pieces", "averaged", "together", "attacked"])
def test_several_processes_train_the_network_of_one(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], together: Callable[[int], Path], case: str, count: int
) -> None:
    directory, expected = alone(case)
    folder = together(count)
    assert_close(load_file(folder / f"{case}.0"), expected)
    for left, right in zip(rows(directory), rows(folder / case), strict=True):
        assert left.keys() == right.keys()
        for key in left.keys() - {"seconds", "images_per_s"}:
            tolerance = {"rel": 1e-5} if "loss" in key else {"rel": 1e-12}  # accuracies come of counts
            assert right[key] == pytest.approx(left[key], **tolerance), key


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("case", [*launched.CASES, "resumed"])
def test_all_processes_end_with_the_same_bits(together: Callable[[int], Path], case: str, count: int) -> None:
    """Also where a network leaves out layers by lot, in each process others."""
    states = [load_file(together(count) / f"{case}.{rank}") for rank in range(count)]
    for state in states[1:]:
        assert [key for key in states[0] if not torch.equal(state[key], states[0][key])] == []


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_statistics_of_each_process_are_averaged(together: Callable[[int], Path], count: int) -> None:
    recipe, network = launched.CASES["apart"]
    data = launched.images()
    images, _ = next(Batches(data, recipe, launched.PREPROCESS, torch.device("cpu")).epoch(0))
    torch.manual_seed(0)
    before = network()[0](images).transpose(0, 1)  # C B H W, as the norm gets them in the only update
    parts = [part.flatten(1) for part in before.detach().chunk(count, dim=1)]
    got = load_file(together(count) / "apart.0")
    mean, variance = (sum(values) / count for values in ((p.mean(1) for p in parts), (p.var(1) for p in parts)))
    torch.testing.assert_close(got["1.running_mean"], 0.1 * mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got["1.running_var"], 0.9 + 0.1 * variance, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_each_process_draws_its_own_random_numbers_and_the_first_those_of_one(
    together: Callable[[int], Path], count: int, tmp_path: Path
) -> None:
    drawn = [process["drawn"] for process in seen(together(count))]
    assert drawn[0] == launched.run("drawing", tmp_path).drawn
    assert len({tuple(numbers) for numbers in drawn}) == count


@pytest.mark.parametrize("count", COUNTS)
def test_counts_of_a_score_are_those_of_one_process(together: Callable[[int], Path], count: int) -> None:
    """Of 1, 3, 50 and 72 images: fewer than processes, more, divisible and not."""
    assert [number for process in seen(together(count)) for number in process["share"]] == list(range(7))
    for process in seen(together(count)):
        for given, got in process["scores"]:
            expected = launched.scored(**given)
            for key in ("n", "correct", "top1", "top5", "interval"):
                assert got[key] == pytest.approx(expected[key], rel=1e-15), (given, key)
            assert got["classes"] == expected["classes"]
            # Another batch rounds otherwise in float32; of single images the same logits are summed.
            assert got["loss"] == pytest.approx(expected["loss"], rel=1e-12 if given["batch_size"] == 1 else 1e-6)
    assert 20 < expected["correct"] < 60  # of 72


@pytest.mark.parametrize("count", COUNTS)
def test_a_fingerprint_names_pixels_only_where_a_process_saw_them_all(
    together: Callable[[int], Path], count: int
) -> None:
    for process in seen(together(count)):
        for given, got in process["scores"]:
            expected = launched.images(given["count"]).fingerprint
            assert got["fingerprint"] == expected if given["is_resident"] else got["fingerprint"].startswith("labels ")


@pytest.mark.parametrize("count", COUNTS)
def test_one_process_writes(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], together: Callable[[int], Path], count: int
) -> None:
    directory, folder = alone("plain")[0], together(count) / "plain"
    names = [sorted(file.name.partition(".")[0] for file in place.iterdir()) for place in (directory, folder)]
    assert names[0] == names[1]
    assert [row["epoch"] for row in rows(folder)] == [1, 2, 3]
    config = json.loads((folder / "config.json").read_text())
    assert config["processes"] == count


@pytest.mark.parametrize("count", COUNTS)
def test_an_interrupt_that_one_process_sees_stops_all_at_the_same_step_and_is_resumed(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], together: Callable[[int], Path], count: int
) -> None:
    folder = together(count)
    assert [process["interrupted"] for process in seen(folder)] == ["KeyboardInterrupt: "] * count
    assert len(rows(folder / "left")) == 1
    states = [load_file(folder / f"{case}.0") for case in ("plain", "resumed")]
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    assert [row["loss"] for row in rows(folder / "broken")] == [row["loss"] for row in rows(folder / "plain")]


@pytest.mark.parametrize("count", COUNTS)
def test_one_process_goes_on_where_several_stopped(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], together: Callable[[int], Path], count: int, tmp_path: Path
) -> None:
    directory = shutil.copytree(together(count) / "left", tmp_path / "run")
    assert_close(dict(launched.run("plain", directory, resume=True).state_dict()), alone("plain")[1])
    config = json.loads((directory / "config.json").read_text())
    assert (config["processes"], config["earlier"][0]["processes"]) == (1, count)


@pytest.mark.slow
def test_four_processes_go_on_where_two_stopped(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], together: Callable[[int], Path]
) -> None:
    assert_close(load_file(together(4) / "taken over.0"), alone("plain")[1])


@pytest.mark.parametrize("count", COUNTS)
def test_a_loss_that_is_not_a_number_in_one_process_stops_all_with_one_message(
    together: Callable[[int], Path], count: int
) -> None:
    messages = {process["diverged"] for process in seen(together(count))}
    assert len(messages) == 1
    assert messages.pop().startswith("TrainingError: The loss became nan at epoch 2, step 2, learning rate 0.048")


@pytest.mark.parametrize("count", COUNTS)
def test_processes_that_see_different_checkpoints_do_not_go_on(together: Callable[[int], Path], count: int) -> None:
    for process in seen(together(count)):
        assert process["not one checkpoint"].startswith("TrainingError: The processes read different checkpoints")


def test_afterwards_a_network_is_its_process_own_and_plain_again(together: Callable[[int], Path]) -> None:
    """The first process computed a gradient with which no other one helped."""
    for process in seen(together(2)):
        assert process["kinds"] == [type(module).__name__ for module in launched.normalized().modules()]


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"A batch of 4 images cannot be divided among 5 processes"):
        Batches(launched.images(), Recipe(batch_size=4), launched.PREPROCESS, torch.device("cpu"), OneOf(3, 5))


def test_sync_norm_refuses_a_norm_that_does_more() -> None:
    class Active(torch.nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    with (
        pytest.raises(RecipeError, match="sync_norm: 0 is Active"),
        sync_batch_norm(torch.nn.Sequential(Active(3)), distributed.ALONE),
    ):
        pass


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_over_all_of_one_process_are_torchs(momentum: float | None) -> None:
    torch.manual_seed(0)
    expected = torch.nn.BatchNorm2d(3, momentum=momentum)
    got = torch.nn.BatchNorm2d(3, momentum=momentum)
    with sync_batch_norm(got, distributed.ALONE):
        for _ in range(3):
            images = torch.randn(4, 3, 5, 5) * 3 + 2
            results = []
            for norm in (expected, got):
                inputs = images.clone().requires_grad_()
                outputs = norm(inputs)
                outputs.square().mul(images).sum().backward()
                results.append((outputs, inputs.grad))
            torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.state_dict(), expected.state_dict())
    assert "forward" not in vars(got)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 16 images to learn from, 8 to score on."""
    return pictures_of.write(tmp_path_factory.mktemp("pictures"), ("left", "right"), {"train": 8, "test": 4})


def zoo_train(pictures: Path, output: Path, **settings: Any) -> list[str]:
    words = ["train", "resnet20", "--data", str(pictures), "--recipe", "default", "--device", "cpu", "-o", str(output)]
    for key, value in {"batch_size": 8, "precision": "float32", **settings}.items():
        words += ["--set", f"{key}={value}"]
    return ["-m", "zoo", *words]


@pytest.mark.slow
def test_accelerate_launches_the_command_line_which_speaks_once(pictures: Path, tmp_path: Path) -> None:
    command = zoo_train(pictures, tmp_path / "run", epochs=2)
    code, out, err = finish(start(*accelerate_launch(2), *command))
    assert code == 0, err
    assert out == f"{tmp_path / 'run' / 'model.safetensors'}\n"
    assert [line.split()[1] for line in err.splitlines() if line.startswith("epoch")] == ["1", "2"]
    assert err.count("Score it:") == 1
    assert "Warning" not in err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["processes"] == 2
    assert config["command"].startswith("zoo train resnet20 --data")


@pytest.mark.slow
def test_an_error_of_all_processes_is_shown_once(pictures: Path, tmp_path: Path) -> None:
    code, out, err = finish(start(*torchrun(2), *zoo_train(pictures, tmp_path / "run", lrr=1)))
    assert code != 0
    assert out == ""
    assert err.count("has no field 'lrr'") == 1
    assert err.count("Did you mean lr?") == 1
    assert not (tmp_path / "run").exists()


def wait_for(file: Path, launcher: "subprocess.Popen[str]") -> None:
    while not file.exists():
        assert launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.05)


def workers(launcher: "subprocess.Popen[str]") -> list[Any]:
    """Returns the results by rank."""
    import psutil  # Accelerate's

    found = psutil.Process(launcher.pid).children(recursive=True)
    return sorted((p for p in found if "RANK" in p.environ()), key=lambda p: int(p.environ()["RANK"]))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_leaves_a_checkpoint_to_go_on_from(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], tmp_path: Path, number: signal.Signals
) -> None:
    launcher = start(*torchrun(2), SCRIPT, "slowly", str(tmp_path / "run"))
    wait_for(tmp_path / "run" / "checkpoint.safetensors", launcher)
    launcher.send_signal(number)
    code, _, err = finish(launcher)
    assert code != 0
    assert {"[rank0]: KeyboardInterrupt", "[rank1]: KeyboardInterrupt"} <= set(err.splitlines())
    assert_close(dict(launched.run("plain", tmp_path / "run", resume=True).state_dict()), alone("plain")[1])


@pytest.mark.slow
def test_the_command_line_says_once_how_to_go_on_after_ctrl_c(pictures: Path, tmp_path: Path) -> None:
    command = zoo_train(pictures, tmp_path / "run", epochs=2000)
    launcher = start(*torchrun(2), *command)
    wait_for(tmp_path / "run" / "checkpoint.safetensors", launcher)
    launcher.send_signal(signal.SIGINT)
    code, out, err = finish(launcher)
    assert code != 0
    assert out == ""
    assert err.count("Interrupted. The checkpoint is") == 1
    epochs = len(rows(tmp_path / "run"))
    again = finish(start(*torchrun(4), *command, "--resume", "--stop-after", str(epochs + 3)))
    assert again[0] == 0, again[2]
    assert [row["epoch"] for row in rows(tmp_path / "run")] == list(range(1, epochs + 4))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_killed_ends_the_launch_and_the_run_goes_on(
    alone: Callable[[str], tuple[Path, dict[str, Tensor]]], tmp_path: Path, rank: int
) -> None:
    launcher = start(*torchrun(2), SCRIPT, "slowly", str(tmp_path / "run"))
    wait_for(tmp_path / "run" / "checkpoint.safetensors", launcher)
    workers(launcher)[rank].kill()
    code, _, err = finish(launcher)
    assert code != 0
    assert "SIGKILL" in err
    assert_close(dict(launched.run("plain", tmp_path / "run", resume=True).state_dict()), alone("plain")[1])


@pytest.mark.slow
def test_an_error_of_one_process_ends_the_launch(tmp_path: Path) -> None:
    code, _, err = finish(start(*torchrun(2), SCRIPT, "failing", str(tmp_path / "run")))
    assert code != 0
    assert "what only one process meets" in err
    assert len(rows(tmp_path / "run")) == 1


@pytest.mark.slow
def test_an_image_that_one_process_cannot_decode_is_named_once(pictures: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    Image.new("RGB", (40, 30)).save(folder / "train" / "left" / "large.png")  # not all of one size: read on demand
    damaged = folder / "train" / "right" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    code, _, err = finish(start(*torchrun(2), *zoo_train(folder, tmp_path / "run", epochs=4, batch_size=16)))
    assert code != 0
    assert err.count("3.png") == 1
    assert err.count("Traceback") == 1  # torchrun's own
