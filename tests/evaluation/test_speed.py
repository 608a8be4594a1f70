"""Speed and size: what is counted is what timm publishes, and each time is that of a real step."""

import csv
import json
import time
from pathlib import Path

import pytest
import torch
from support.command import ask
from torch import nn

import zoo
from zoo.errors import SpecError
from zoo.evaluation import speed

# Millions of parameters and of activations in timm's results/benchmark-infer-*.csv.
PUBLISHED = {"resnet18": (11.69, 2.48), "resnet50": (25.56, 11.11), "densenet121": (7.98, 6.9), "vgg11": (132.86, 7.44)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_activations_are_those_that_timm_publishes(name: str) -> None:
    params, activations = PUBLISHED[name]
    with torch.device("meta"):
        network = zoo.create(name)
        _, counted = speed.counting.work(network, (3, 224, 224))
    assert (round(speed.counting.params(network) / 1e6, 2), round(counted / 1e6, 2)) == (params, activations)


def test_the_table_says_the_size_that_the_list_says() -> None:
    """40,551,040 multiply-adds are 40.6 M, and 41.0 M only to someone who rounds twice."""
    shown = ask("benchmark", "resnet20", "--steps", "5", "--warmup", "1", "--batch-size", "1").stdout
    row = next(line for line in shown.splitlines() if line.startswith("resnet20 "))
    assert "40.6 M" in row
    assert speed.benchmark("resnet20", steps=5, warmup=1).gmacs == zoo.info("resnet20")["macs"] / 1e9


class Sleeper(nn.Module):
    """Takes 20 ms a batch, and ``slow`` times as much for every tenth."""

    def __init__(self, slow: int = 1) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 10)
        self.calls, self.slow = 0, slow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 1:  # the first counts multiply-adds
            time.sleep(0.02 * (self.slow if self.calls % 10 == 0 else 1))
        out: torch.Tensor = self.fc(x.flatten(1))
        return out


def sleeper(slow: int = 1) -> nn.Module:
    module = Sleeper(slow)
    module.zoo_info = zoo.create("resnet20").zoo_info  # type: ignore[assignment]
    return module


def test_times_are_those_of_the_steps() -> None:
    measured = zoo.benchmark(sleeper(), batch_size=4, warmup=1, steps=10)
    assert 20 <= measured.latency_ms < 150
    assert 4 / 0.3 < measured.images_per_s <= 4 / 0.02, "a busy machine is slower, none faster than the sleep"
    assert (measured.steps, measured.batch_size, measured.input_size) == (10, 4, "3x32x32")
    outliers = zoo.benchmark(sleeper(slow=10), warmup=1, steps=20)
    assert 20 <= outliers.latency_ms < 150, "the median"
    assert outliers.latency_p95_ms >= 200, "one step of ten took ten times as long"


def test_the_limit_on_seconds_leaves_at_least_five_steps() -> None:
    assert zoo.benchmark(sleeper(), warmup=1, steps=40, seconds=0.01).steps == 5
    assert zoo.benchmark(sleeper(), warmup=1, steps=40, seconds=0.3).steps < 40


def test_training_changes_the_weights_and_inference_does_not() -> None:
    network = zoo.create("resnet8")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    zoo.benchmark(network, batch_size=2, warmup=1, steps=5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert network.training, "its mode is put back"
    measured = zoo.benchmark(network, mode="training", batch_size=2, warmup=1, steps=5)
    assert measured.mode == "training"
    assert not torch.equal(network.state_dict()["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("amp", torch.float32)])
def test_precision_is_that_of_the_weights_except_for_amp(precision: str, dtype: torch.dtype) -> None:
    network = zoo.create("resnet8")
    seen: list[torch.dtype] = []
    network.fc.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    zoo.benchmark(network, precision=precision, warmup=1, steps=5)  # type: ignore[arg-type]
    assert network.fc.weight.dtype == dtype
    assert seen[-1] == torch.bfloat16


def test_what_is_not_possible_is_said() -> None:
    with pytest.raises(SpecError, match="mode = 'both' is invalid: expected inference, training"):
        zoo.benchmark("resnet20", mode="both")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="precision = 'int8' is invalid"):
        zoo.benchmark("resnet20", precision="int8")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="batch_size is too small"):
        zoo.benchmark("resnet20", batch_size=0)
    with pytest.raises(SpecError, match="no parameters that are trained by gradients"):
        zoo.benchmark(zoo.create("resnet8").requires_grad_(False), mode="training", warmup=1, steps=5)


def test_the_command_writes_rows_that_hold_no_score(tmp_path: Path) -> None:
    words = ["benchmark", "resnet8", "--batch-size", "1,4", "--mode", "both", "--warmup", "1", "--steps", "5"]
    done = ask(*words, "--csv", tmp_path / "speed.csv")
    assert done.exit_code == 0, done.output
    rows = [*csv.DictReader((tmp_path / "speed.csv").read_text().splitlines())]
    assert [(row["mode"], row["batch_size"]) for row in rows] == [
        ("inference", "1"), ("inference", "4"), ("training", "1"), ("training", "4"),
    ]  # fmt: skip
    assert {"hardware", "backend", "precision", "threads", "torch"} <= set(rows[0])
    assert not {"top1", "top5", "accuracy"} & set(rows[0])
    assert done.stdout.startswith("model    mode")
    assert {row["channels_last"] for row in rows} == {"True"}


def test_the_command_passes_its_settings_on(tmp_path: Path) -> None:
    words = ["benchmark", "resnet8", "--precision", "bfloat16", "--warmup", "1", "--steps", "9", "--seconds", "0.001"]
    for layout, is_last in (("--channels-last", True), ("--contiguous", False)):
        [row] = json.loads(ask(*words, "--batch-size", "1", layout, "--json").stdout)
        assert (row["precision"], row["steps"], row["channels_last"]) == ("bfloat16", 5, is_last)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_a_compiled_network_says_so() -> None:
    words = ["benchmark", "resnet8", "--batch-size", "1", "--warmup", "1", "--steps", "5", "--compile", "--json"]
    assert json.loads(ask(*words).stdout)[0]["backend"] == "compiled"


def test_a_name_that_fails_is_a_row_of_its_own() -> None:
    words = ["--batch-size", "1", "--warmup", "1", "--steps", "5", "--json"]
    done = ask("benchmark", "resnet8", "resnet9", *words)
    rows = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (rows[0]["model"], rows[1]["model"]) == ("resnet8", "resnet9")
    assert "Unknown" in rows[1]["error"]
    assert ask("benchmark", "resnet8", "--batch-size", "0,x").exit_code == 2
