"""Exports: what is written, what is compared, and what is left if the comparison fails."""

import json
import re
import resource
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import exports
from support.command import ask_warm, printed, told
from support.exports import NETWORK
from torch import Tensor, nn

import zoo
from zoo import data
from zoo.errors import DataError, ExportError, MissingExtraError, SpecError, StorageError
from zoo.spec import Preprocess
from zoo_export import agreement, formats, graph, rounding, writers
from zoo_export.formats import Format
from zoo_export.network import as_taken


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def run(file: Path, images: Tensor) -> Tensor:
    """Returns what the runtime of ``file`` computes, without Zoo."""
    if file.suffix == ".pt2":
        logits: Tensor = torch.export.load(file).module()(images)
        return logits.detach()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def unit(pixels: Tensor, normalized: Tensor) -> Tensor:
    return pixels.float() / 255


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("format", "options", "prepare", "allowed"),
    [
        ("onnx", {}, unit, 1e-5),
        ("torch-export", {"preprocess": "beside"}, lambda pixels, normalized: normalized, 1e-5),
        ("onnx", {"precision": "float16", "input": "uint8"}, lambda pixels, normalized: pixels, 1e-2),
        ("onnx", {"precision": "int8"}, unit, 0.2),
    ],
    ids=["float32", "beside", "float16", "int8"],
)
def test_a_user_of_the_runtime_prepares_images_as_the_description_says(
    root: Path, format: Format, options: dict[str, str], prepare: Callable[[Tensor, Tensor], Tensor], allowed: float
) -> None:
    made = exports.made(root, format, **options)
    pixels, labels = (getattr(data.load("digits", "test"), name)[:40] for name in ("pixels", "labels"))
    model = zoo.create(NETWORK).eval()
    normalized = zoo.preprocess(model).batch(pixels)
    with torch.inference_mode():
        expected = model(normalized)
    got = run(made.file, prepare(pixels, normalized))
    assert got.dtype == torch.float32
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


def test_int8_calibrates_on_training_images_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exports.made(root, "onnx", precision="int8")
    loaded = []
    load = data.load

    def record(name: Any, split: str = "train", **options: Any) -> Any:
        loaded.append((name, split))
        return load(name, split, **options)

    monkeypatch.setattr(data, "load", record)
    images, calibration = writers.training_images(made.about, None)
    agreement.pictures(made.about)
    assert set(loaded) == {("digits", "train")}
    assert calibration == made.about.calibration
    chosen = torch.randperm(1437, generator=torch.Generator().manual_seed(0))[:300]
    training = load("digits", "train").subset(chosen, "train")
    assert calibration.fingerprint == training.fingerprint
    assert (images - training.pixels.float() / 255).abs().max() < 1e-6
    assert made.size < exports.made(root, "onnx").size / 2


def test_onnxruntime_computes_int8_in_integers_sums_too(root: Path, tmp_path: Path) -> None:
    """Its kernels for signed activations have no sums: what feeds one ran in float32."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(exports.made(root, "onnx", precision="int8").file), options)
    kinds = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert (kinds["QLinearConv"], kinds["QLinearAdd"]) == (19, 9)
    assert kinds["Conv"] == kinds["Add"] == 0


def test_int8_without_a_data_set_is_an_error(tmp_path: Path) -> None:
    network = zoo.create("resnet20", num_classes=10, in_chans=1)
    with pytest.raises(DataError, match="int8 needs training images") as found:
        zoo.export(network, tmp_path / "network.onnx", precision="int8")
    assert "--calibrate" in found.value.hint


def test_a_weight_changed_by_hand_is_found(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exports.made(root, "onnx")
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(made.file))
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    changed = tmp_path / "changed.onnx"
    onnx.save(model, str(changed))
    network = zoo.create(NETWORK).eval()
    assert agreement.check(network, made.file, made.about).difference < 1e-5
    with pytest.raises(ExportError, match="differ from the network's by"):
        agreement.check(network, changed, made.about)


def test_without_torch_export_a_network_is_traced_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports.needs("onnx")

    def fail(*_: Any) -> None:
        raise RuntimeError("no rule for this operator\nand more")

    monkeypatch.setattr(writers, "program", fail)
    made = zoo.export(NETWORK, tmp_path / "traced.onnx")
    assert made.agreement.difference < 1e-5
    [note] = made.notes
    assert note.endswith("torch.export failed: RuntimeError: no rule for this operator")


class OutsideTorch(nn.Module):
    """A network of a family that computes features with another library, and says so when it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.zoo_info = 10, zoo.create(NETWORK).zoo_info

    def forward(self, x: Tensor) -> Tensor:
        raise zoo.ZooError("Computed outside torch.")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_network_that_cannot_be_exported_says_why(tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        exports.needs("onnx")
    with pytest.raises(ExportError, match=r"this network[\w ]*: Computed outside torch\.$"):
        zoo.export(OutsideTorch(), tmp_path / f"network{suffix}")
    assert [*tmp_path.iterdir()] == []


def test_a_network_that_returns_several_tensors_is_not_exported(tmp_path: Path) -> None:
    network = zoo.create("resnet20", features_only=True)
    with pytest.raises(ExportError, match="returns list, expected one tensor"):
        zoo.export(network, tmp_path / "network.pt2")


def test_outputs_of_another_shape_or_not_a_number_are_errors(root: Path) -> None:
    about = exports.made(root, "torch-export").about
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
        network.fc.weight.zero_()
    with pytest.raises(ExportError, match="prove nothing"):
        zoo.export(network, tmp_path / "network.pt2")


def test_the_callers_network_stays_as_it_was(tmp_path: Path) -> None:
    network = zoo.create(NETWORK)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    zoo.export(network, tmp_path / "network.pt2", precision="float16")
    assert network.training
    for key, value in network.state_dict().items():
        assert value.dtype == before[key].dtype, key
        assert torch.equal(value, before[key]), key


@pytest.mark.slow
def test_a_network_that_was_changed_does_not_claim_the_weights(tmp_path: Path) -> None:
    network = zoo.create(NETWORK)
    assert zoo.export(network, tmp_path / "same.pt2").about.weights == NETWORK
    with torch.no_grad():
        network.fc.bias += 1
    changed = zoo.export(network, tmp_path / "changed.pt2").about
    assert (changed.weights, changed.sha256) == ("", "")
    assert network.training, "the mode is put back"
    another = zoo.export(NETWORK, tmp_path / "another.pt2", num_classes=5).about
    assert (another.weights, another.num_classes, another.class_names) == ("", 5, ())


def test_the_page_on_export_states_the_tolerances() -> None:
    page = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| `(float32|float16|int8)` \|.*\| ([\d.]+) \|$", page, re.MULTILINE)
    assert {precision: float(value) for precision, value in stated} == agreement.TOLERANCES


def test_a_network_with_a_limit_on_sizes_is_exported_for_one_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = zoo.create(NETWORK).eval()
    usual = type(network).forward_features

    def limited(self: Any, x: Tensor) -> Tensor:
        return usual(self, x * 1 if x.shape[2] > 12 else x)

    monkeypatch.setattr(type(network), "forward_features", limited)
    made = zoo.export(network, tmp_path / "limited.pt2")
    assert not made.about.any_size
    [note] = made.notes
    assert note.startswith("height and width are fixed, because with any size torch.export failed:")
    assert "12" in note


def test_a_network_that_counts_its_images_is_not_exported_and_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = zoo.create(NETWORK).eval()
    usual = type(network).forward_features

    def looping(self: Any, x: Tensor) -> Tensor:
        return torch.cat([usual(self, x[index : index + 1]) for index in range(len(x))])

    monkeypatch.setattr(type(network), "forward_features", looping)
    with pytest.raises(ExportError) as caught:
        zoo.export(network, tmp_path / "looping.pt2")
    assert "any number of images: no loop over them" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{}, {"precision": "int8"}], ids=["float32", "int8"])
def test_an_onnx_file_names_its_batch_and_imports_only_operators_it_uses(root: Path, options: dict[str, str]) -> None:
    made = exports.made(root, "onnx", **options)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(made.file))
    assert {entry.domain for entry in model.opset_import} == {node.domain for node in model.graph.node} == {""}
    for value in (model.graph.input[0], model.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    onnx.checker.check_model(model)


@pytest.mark.slow
def test_a_network_of_any_size_stays_one_in_torch_export(root: Path) -> None:
    made = exports.made(root, "torch-export")
    assert made.about.any_size
    module = torch.export.load(made.file).module()
    assert module(torch.rand(3, 1, 24, 20)).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": "network.pth"}, "names no format"),
        ({"file": "network.pt2", "format": "onnx"}, "ends in .onnx"),
        ({"format": "tflite"}, "expected one of onnx"),
        ({"format": "openvino"}, "OpenVINO reads ONNX files"),
        ({}, "No format"),
        ({"format": "onnx", "precision": "int4"}, "expected float32, float16 or int8"),
        ({"format": "torch-export", "precision": "int8"}, "int8 is not available"),
        ({"format": "onnx", "calibrate": "digits"}, "has no effect on float32"),
        ({"format": "onnx", "preprocess": "outside"}, "expected inside or beside"),
        ({"format": "onnx", "input": "int8"}, "expected float32 or uint8"),
        ({"format": "onnx", "preprocess": "beside", "input": "uint8"}, "not normalised yet"),
    ],
)
def test_a_value_that_is_not_possible_is_an_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        zoo.export(NETWORK, **options)


def test_an_exported_file_is_not_exported_again(root: Path, tmp_path: Path) -> None:
    made = exports.made(root, "torch-export")
    with pytest.raises(SpecError, match="is an exported file already"):
        zoo.export(str(made.file), tmp_path / "again.pt2")


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_a_missing_exporter_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingExtraError, match=f"needs {library}") as found:
        zoo.export(NETWORK, tmp_path / "network.onnx")
    assert found.value.hint == "pip install 'zoo-vision[export]'"


@pytest.mark.slow
def test_the_command_compares_in_a_process_of_its_own(inside: Path) -> None:
    """By default the file is called as the weights are."""
    words = ["export", NETWORK, "--format", "torch-export", "--preprocess", "beside"]
    outcome = told(*words)
    assert outcome["file"] == "resnet20.digits.pt2"
    assert outcome["about"]["input"] == "normalised"
    assert outcome["agreement"]["images"] == 18, "16 of the network's size, two of twice the size"
    assert outcome["agreement"]["batches"] == [1, 16]
    assert {file.name for file in inside.iterdir()} == {"resnet20.digits.pt2", "resnet20.digits.pt2.json"}


def test_the_command_prints_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "small.pt2"
    done = printed("export", NETWORK, "--precision", "float16", "--input", "uint8", "-o", file)
    assert "torch-export, float16" in done
    assert "B x 1 x H x W, uint8 pixels" in done
    assert "have the same class" in done


def test_the_command_says_what_takes_the_place_of_openvino() -> None:
    done = ask_warm("export", NETWORK, "--format", "openvino")
    assert done.exit_code == 2
    assert "Export to onnx: OpenVINO reads ONNX files" in done.output


def test_the_images_to_calibrate_on_are_a_data_set_with_a_training_split(inside: Path) -> None:
    words = ["export", NETWORK, "--format", "onnx", "--precision", "int8", "--calibrate", "no_such_data"]
    done = ask_warm(*words)
    assert done.exit_code == 2
    assert "Unknown data set 'no_such_data'" in done.output
    assert [*inside.iterdir()] == []


# ---- values, without onnxruntime ----------------------------------------------------------------------------------


def test_int8_asks_for_the_training_split_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are measured on the others."""
    asked = []

    def load(name: str, split: str) -> Any:
        asked.append((name, split))
        raise DataError("stop")

    monkeypatch.setattr(data, "load", load)
    about = formats.About("onnx", "int8", "float32", "resnet20", 10, Preprocess(), classes="digits")
    with pytest.raises(DataError, match="stop"):
        writers.training_images(about, None)
    assert asked == [("digits", "train")]


def test_int8_keeps_the_first_convolutions_of_a_network_with_depthwise_ones_alone() -> None:
    onnx = pytest.importorskip("onnx", reason="needs zoo-vision[export]")

    def nodes(groups: list[int]) -> Any:
        chain = [
            onnx.helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"conv{i}", group=group)
            for i, group in enumerate(groups)
        ]
        return onnx.helper.make_model(onnx.helper.make_graph(chain, "chain", [], []))

    assert writers.kept_full(nodes([1, 32, 1, 1, 96, 1, 1, 144])) == [f"conv{i}" for i in range(6)]
    assert writers.kept_full(nodes([1] * 8)) == []
    assert writers.kept_full(nodes([])) == []


def test_int8_without_its_training_images_names_the_way_out() -> None:
    about = formats.About("onnx", "int8", "float32", "efficientnet_lite0", 1000, Preprocess(), classes="imagenet-1k")
    with pytest.raises(DataError, match="those of imagenet-1k are not here") as found:
        writers.training_images(about, None)
    assert "--calibrate" in found.value.hint


def test_a_pass_changes_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def halve(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)
        return module

    monkeypatch.setattr(graph.registry, "hook", lambda *_, **__: halve)
    row = SimpleNamespace(spec=SimpleNamespace(run="", requires=()))
    monkeypatch.setattr(graph.extensions, "require", lambda *_: row)
    network = nn.Linear(2, 2).train()
    before = network.weight.clone()
    changed = graph.run_passes(network, ["halve"])
    assert torch.equal(network.weight, before)
    assert torch.equal(changed.weight, before / 2)
    assert network.training
    assert not changed.training


def test_pixels_are_rounded_not_cut_off() -> None:
    """250.6 is 251: a byte that arrives as float32 must leave as itself."""
    preprocess = Preprocess(mean=(0.0,), std=(1.0,), input_size=(1, 2, 2))
    about = formats.About("onnx", "float32", "uint8", "resnet20", 10, preprocess)
    values = torch.tensor([250.6, 0.4, 0.6, 254.9]).div(255).view(1, 1, 2, 2)
    assert as_taken(about, values).flatten().tolist() == [251, 0, 1, 255]


def test_a_disk_without_room_is_said_in_words(tmp_path: Path) -> None:
    network = zoo.create("resnet20.digits").eval()
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most[1]))
    try:
        with pytest.raises(StorageError, match=r"x\.pt2 cannot be written") as caught:
            zoo.exporting.export(network, tmp_path / "x.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        signal.signal(signal.SIGXFSZ, before)
    assert "ulimit -f" in caught.value.hint
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("groups", "of_input"), [(1, 4), (4, 1), (2, 2)])
def test_biases_make_up_for_what_rounded_weights_shift(groups: int, of_input: int) -> None:
    """Checked with torch's convolution: on the calibration images, means of channels are those of float32."""
    onnx = pytest.importorskip("onnx", reason="needs zoo-vision[export]")
    random = torch.Generator().manual_seed(0)
    weights, bias = torch.randn(8, of_input, 3, 3, generator=random), torch.randn(8, generator=random)
    weights[3] = 0  # a dead channel has no scale
    levels = torch.rand(12, 4, 1, 1, generator=random) + torch.arange(4).view(4, 1, 1)
    images = levels.expand(-1, -1, 5, 5).contiguous()
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    node = helper.make_node("Conv", ["images", "w", "b"], ["y"], name="conv", group=groups)
    ends = [
        helper.make_tensor_value_info(name, 1, ["n", *size]) for name, size in (("images", (4, 5, 5)), ("y", (8, 3, 3)))
    ]
    constants = [tensor(weights.numpy(), "w"), tensor(bias.numpy(), "b")]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph([node], "one", ends[:1], ends[1:], constants), opset_imports=opset, ir_version=8
    )
    untouched = model.SerializeToString()
    rounding.correct_biases(model, images, ["conv"])
    assert model.SerializeToString() == untouched, "it stays in float32"
    rounding.correct_biases(model, images, [])
    constants_now = {entry.name: torch.tensor(onnx.numpy_helper.to_array(entry)) for entry in model.graph.initializer}
    changed = constants_now[model.graph.node[0].input[2]]
    scale = weights.flatten(1).abs().amax(1).clamp(min=1e-9)[:, None, None, None] / 127
    rounded = (weights / scale).round() * scale
    means = nn.functional.conv2d(images, weights, bias, groups=groups).mean((0, 2, 3))
    before = nn.functional.conv2d(images, rounded, bias, groups=groups).mean((0, 2, 3))
    after = nn.functional.conv2d(images, rounded, changed, groups=groups).mean((0, 2, 3))
    assert (before - means).abs().max() > 1e-3
    assert (after - means).abs().max() < 1e-5
