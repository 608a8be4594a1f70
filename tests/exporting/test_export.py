"""Exports: what is written, what is compared, and what is left if the comparison fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from support import exports
from support.exports import NETWORK
from torch import Tensor, nn

import zoo
from zoo import data
from zoo.cli import cli
from zoo.errors import DataError, ExportError, MissingExtraError, SpecError
from zoo.exporting import agreement, int8, writers


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def run(file: Path, images: Any) -> Tensor:
    """What onnxruntime alone computes from ``file``."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"images": images})
    return torch.from_numpy(logits)


@pytest.mark.parametrize(
    ("options", "prepare", "allowed"),
    [
        ({}, lambda pixels, _: pixels.float() / 255, 1e-5),
        ({"preprocess": "beside"}, lambda _, normalised: normalised, 1e-5),
        ({"precision": "float16", "input": "uint8"}, lambda pixels, _: pixels, 1e-2),
        ({"precision": "int8"}, lambda pixels, _: pixels.float() / 255, 0.2),
    ],
    ids=["float32", "beside", "float16", "int8"],
)
def test_a_user_of_onnxruntime_prepares_images_as_the_description_says(
    root: Path, options: dict[str, str], prepare: Callable[[Tensor, Tensor], Tensor], allowed: float
) -> None:
    made = exports.made(root, "onnx", **options)
    pixels, labels = (getattr(data.load("digits", "test"), name)[:40] for name in ("pixels", "labels"))
    model = zoo.create(NETWORK).eval()
    normalised = zoo.preprocess(model).batch(pixels)
    with torch.inference_mode():
        expected = model(normalised)
    got = run(made.file, prepare(pixels, normalised).numpy())
    assert (got - expected).abs().max() < allowed * expected.abs().max()
    assert got.argmax(1).equal(labels)


def test_the_description_beside_the_file_and_in_it_names_weights_and_preprocessing(root: Path) -> None:
    import onnx

    made = exports.made(root, "onnx")
    beside = json.loads(made.file.with_name("network.onnx.json").read_text())
    [prop] = onnx.load(str(made.file)).metadata_props
    assert (prop.key, json.loads(prop.value)) == ("zoo.json", beside["about"])
    entry = zoo.info(NETWORK)["weights"][0]
    about = beside["about"]
    assert (about["weights"], about["sha256"]) == (NETWORK, entry["sha256"])
    assert about["preprocess"]["input_size"] == [1, 8, 8]
    assert about["class_names"] == list("0123456789")
    assert beside["agreement"]["difference"] < 1e-4


def test_int8_calibrates_on_training_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.needs("onnx")
    loaded = []
    load = data.load

    def record(name: Any, split: str = "train", **options: Any) -> Any:
        loaded.append((name, split))
        return load(name, split, **options)

    monkeypatch.setattr(data, "load", record)
    made = exports.export(NETWORK, tmp_path / "digits.onnx", precision="int8")
    assert set(loaded) == {("digits", "train")}
    found = made.about.calibration
    assert found is not None
    assert (found.data, found.split, found.n, found.seed) == ("digits", "train", int8.IMAGES, int8.SEED)
    numbers = torch.randperm(1437, generator=torch.Generator().manual_seed(0))[:300]
    assert found.fingerprint == load("digits", "train").subset(numbers, "train").fingerprint
    full = exports.made(tmp_path, "onnx")
    assert made.size < full.size / 2


def test_int8_without_a_data_set_is_an_error(tmp_path: Path) -> None:
    network = zoo.create("resnet20", num_classes=10, in_chans=1)
    with pytest.raises(DataError, match="int8 needs training images") as found:
        zoo.export(network, tmp_path / "network.onnx", precision="int8")
    assert "--calibrate" in found.value.hint


def test_a_weight_changed_by_hand_is_found_and_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.needs("onnx")
    import onnx
    from onnx import numpy_helper

    describe = writers.describe_onnx

    def change(file: Path, text: str) -> None:
        describe(file, text)
        model = onnx.load(str(file))
        weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 0.5
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, str(file))

    monkeypatch.setattr(writers, "describe_onnx", change)
    with pytest.raises(ExportError, match="differ from the network's by"):
        exports.export(NETWORK, tmp_path / "digits.onnx")
    assert [*tmp_path.iterdir()] == []


class CountsImages(nn.Module):
    """A network whose Python code uses the number of images as a number: a trace repeats the one it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.network = zoo.create(NETWORK)
        self.num_classes, self.zoo_info = 10, self.network.zoo_info

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits * float(x.shape[0])


def test_a_trace_that_holds_for_one_batch_size_alone_is_found(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="differ from the network's"):
        exports.export(CountsImages(), tmp_path / "network.ts")
    assert [*tmp_path.iterdir()] == []


def test_outputs_of_another_shape_or_not_a_number_are_errors(root: Path) -> None:
    about = exports.made(root, "torchscript").about
    network = zoo.create(NETWORK).eval()
    pixels = agreement.pictures(about)
    with torch.inference_mode():
        logits = network(zoo.preprocess(network).batch(pixels))
    good = {"pixels": pixels, "alone": logits, "together": logits}
    assert agreement.compare(network, about, good, "a runtime").difference == 0
    with pytest.raises(ExportError, match="outputs have shape"):
        agreement.compare(network, about, good | {"together": logits[:, :9]}, "a runtime")
    with pytest.raises(ExportError, match="differ from the network's by nan"):
        agreement.compare(network, about, good | {"alone": logits * float("nan")}, "a runtime")


def test_a_network_that_ignores_its_input_proves_nothing(tmp_path: Path) -> None:
    network = zoo.create(NETWORK)
    with torch.no_grad():
        network.fc.weight.zero_()  # type: ignore[union-attr]  # its head
    with pytest.raises(ExportError, match="prove nothing"):
        exports.export(network, tmp_path / "network.ts")


def test_a_network_that_was_changed_does_not_claim_the_weights(tmp_path: Path) -> None:
    network = zoo.create(NETWORK)
    assert exports.export(network, tmp_path / "same.ts").about.weights == NETWORK
    with torch.no_grad():
        network.fc.bias += 1  # type: ignore[operator, union-attr]  # its head
    changed = exports.export(network, tmp_path / "changed.ts").about
    assert (changed.weights, changed.sha256) == ("", "")
    assert network.training, "the mode is put back"


def test_a_network_of_any_size_stays_one_in_torch_export(root: Path) -> None:
    made = exports.made(root, "torch-export")
    assert made.about.any_size
    module = torch.export.load(made.file).module()
    assert module(torch.rand(3, 1, 24, 20)).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "network.pth"}, "names no format"),
        ({"file": "network.ts", "format": "onnx"}, "ends in .onnx"),
        ({"format": "tflite"}, "expected one of onnx"),
        ({}, "No format"),
        ({"format": "onnx", "precision": "int4"}, "expected float32, float16 or int8"),
        ({"format": "torchscript", "precision": "int8"}, "int8 is not available"),
        ({"format": "onnx", "preprocess": "outside"}, "expected inside or beside"),
        ({"format": "onnx", "input": "int8"}, "expected float32 or uint8"),
        ({"format": "onnx", "preprocess": "beside", "input": "uint8"}, "not normalised yet"),
    ],
)
def test_a_value_that_is_not_possible_is_an_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        zoo.export(NETWORK, **options)  # type: ignore[arg-type]  # texts all


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_a_missing_exporter_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingExtraError, match=f"needs {library}") as found:
        zoo.export(NETWORK, tmp_path / "network.onnx")
    assert found.value.hint == "pip install 'zoo-vision[export]'"


def test_the_command_compares_in_a_process_of_its_own(inside: Path) -> None:
    """By default the file is called as the weights are."""
    words = ["export", NETWORK, "--format", "torchscript", "--preprocess", "beside", "--json"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["file"] == "resnet20.digits.ts"
    assert found["about"]["input"] == "normalised"
    assert found["agreement"]["batches"] == [1, found["agreement"]["images"]]
    assert {file.name for file in inside.iterdir()} == {"resnet20.digits.ts", "resnet20.digits.ts.json"}


def test_the_command_prints_what_it_wrote(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.needs("onnx")
    monkeypatch.setattr("zoo.system.process.ask", exports.here)
    words = ["--precision", "int8", "--calibrate", "digits", "--input", "uint8", "-o", str(tmp_path / "small.onnx")]
    done = CliRunner().invoke(cli, ["export", NETWORK, *words])
    assert done.exit_code == 0, done.output
    assert "onnx, int8" in done.output
    assert "B x 1 x 8 x 8, uint8 pixels" in done.output
    assert "on 300 images of digits/train, seed 0" in done.output
