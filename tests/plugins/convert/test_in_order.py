"""Files without usable names: matched in order by shape, accepted because they compute the same or score."""

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support import foreign
from support.command import ask_warm, printed, told
from torch import Tensor, nn

import zoo
from zoo import manifest
from zoo.errors import FileFormatError, MissingExtraError, TensorMismatchError
from zoo.loading import safetensors_file
from zoo_convert import Stated, convert, fitting, formats
from zoo_convert import onnx as onnx_files
from zoo_convert.fitting import AS_IS, Fitted
from zoo_convert.onnx import Use

onnx = pytest.importorskip("onnx", reason="needs zoo-vision[convert]")
pytest.importorskip("onnxruntime", reason="needs zoo-vision[convert]")

SLOW = ("densenet_bc_40_12", "preact_resnet110", "wrn28_10")
"""Models whose exports have only some normalizations folded: as they are, they match."""

TRAINED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
"""Exports normalisations as they are, not folded into convolutions."""


def random_images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def settled(module: nn.Module, side: int, channels: int = 3) -> nn.Module:
    """Returns ``module`` in evaluation, its normalisations with scales, shifts and the statistics of noise."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.bias, 0, 0.2)  # exporters leave out a bias of zeros
    with torch.no_grad():
        module.train()(torch.randn(8, channels, side, side))
    return module.eval()


def export(module: nn.Module, file: Path, images: Tensor, *, dynamo: bool = False, **how: Any) -> Path:
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's new exporter needs onnxscript")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (images,), str(file), dynamo=dynamo, input_names=["images"], **how)
    return file


def rewritten(file: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(str(file))
    change(model.graph)
    onnx.save(model, str(file))
    return file


def rename(graph: Any, names: dict[str, str]) -> None:
    """Gives initializers other names; the graph computes the same."""
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def anonymize(graph: Any) -> None:
    rename(graph, {initializer.name: f"t{number}" for number, initializer in enumerate(graph.initializer)})


def compare(report: Any, module: nn.Module, images: Tensor) -> None:
    """Checks that the converted network gives ``images`` what ``module`` does."""
    converted = zoo.create(report.model, weights=report.file).eval()
    with torch.inference_mode():
        expected = module(images)
        torch.testing.assert_close(converted(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


# ---- torch's exporters ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_with_folded_normalisations_gives_identities_behind_its_convolutions(
    dynamo: bool, tmp_path: Path
) -> None:
    module, images = settled(zoo.create("resnet20", num_classes=7), 32), random_images(1, 3, 32, 32)
    file = export(module, tmp_path / "net.onnx", images, dynamo=dynamo)
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load(str(file)).graph.node)
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    compare(report, module, random_images(3, 3, 32, 32))
    assert report.key_map == "as-is in order"
    assert report.proof.compared == "logits"
    assert 0 < report.proof.difference < report.proof.tolerance == 1e-4
    assert sum("here an identity" in line for line in report.folded) == 19
    converted = safetensors_file.read(Path(report.file))
    assert converted["bn1.weight"].eq(1).all()
    assert converted["bn1.running_mean"].eq(0).all()


@pytest.mark.parametrize("eps", [1e-5, 1.001e-5, 2e-5, 1e-3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_identity_of_a_folded_normalization_adds_its_bias_and_nothing_else(eps: float, has_bias: bool) -> None:
    bias, x = random_images(8), 100 * random_images(4, 8, 5, 5)
    net = nn.Sequential(nn.Conv2d(8, 8, 1, bias=has_bias), nn.BatchNorm2d(8, eps=eps)).eval()
    state = fitting.identity(net[1], "1", has_bias=has_bias)
    assert ("1.bias" in state) == has_bias
    net.load_state_dict({"1.bias": bias, **state}, strict=False)
    with torch.inference_mode():
        assert torch.equal(net[1](x), x if has_bias else x + bias[:, None, None])


def test_only_a_normalization_that_the_file_has_not_becomes_an_identity() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    first, bias, second = random_images(4, 3, 1, 1), random_images(4), random_images(4, 4, 1, 1)
    scale, shift, mean, var = (float(n) * torch.ones(4) for n in (2, 3, 5, 7))
    uses = [Use("a", first, Use("b", bias)), Use("c", second, Use("h", 2 * bias), is_normalized=True)]
    uses += [Use(name, tensor) for name, tensor in zip("defg", (scale, shift, mean, var), strict=True)]
    state, names, folded = fitting._pair(uses, net, is_folded=False)
    assert folded == ["1"]
    assert ("b", "1.bias") in names
    net.load_state_dict(state, strict=False)
    x = random_images(2, 3, 5, 5)
    with torch.inference_mode():
        after = nn.functional.conv2d(nn.functional.conv2d(x, first, bias), second, 2 * bias)
        expected = (after - 5) / (7 + 1e-5) ** 0.5 * 2 + 3
        torch.testing.assert_close(net.eval()(x), expected, rtol=1e-5, atol=1e-5)


def test_unfolded_normalisations_keep_their_tensors(tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    file = rewritten(export(module, tmp_path / "net.onnx", images, **TRAINED), anonymize)
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    converted = safetensors_file.read(Path(report.file))
    for key, tensor in module.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(converted[key], tensor), key
    assert report.folded == []
    assert {new for _, new in report.renamed} == {key for key in converted if "num_batches" not in key}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["googlenet_small", *SLOW])
def test_networks_whose_layers_run_in_the_order_of_their_keys_match(model: str, tmp_path: Path) -> None:
    module, images = settled(zoo.create(model), 32), random_images(1, 3, 32, 32)
    file = rewritten(export(module, tmp_path / "net.onnx", images, **TRAINED), anonymize)
    compare(convert(file, model, tmp_path / "out.safetensors"), module, random_images(2, 3, 32, 32))


@pytest.mark.slow
def test_a_file_of_which_only_some_normalizations_were_folded_computes_the_same(tmp_path: Path) -> None:
    """Normalizations behind a convolution were folded, those behind a sum were not."""
    module, images = settled(zoo.create("densenet_bc_40_12"), 32), random_images(1, 3, 32, 32)
    file = export(module, tmp_path / "net.onnx", images)
    norms = sum(node.op_type == "BatchNormalization" for node in onnx.load(str(file)).graph.node)
    assert 0 < norms < 39
    compare(convert(file, "densenet_bc_40_12", tmp_path / "out.safetensors"), module, random_images(2, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    ("theirs", "model", "side", "arguments"),
    [
        ("googlenet", "googlenet_tv", 64, {"aux_logits": False, "init_weights": False}),
        ("inception_v3", "inception_v3", 96, {"aux_logits": False, "init_weights": False}),
        ("resnet50", "resnet50", 64, {}),
        ("vgg11_bn", "vgg11_bn", 224, {}),
    ],
)
def test_torchvisions_networks_compute_the_same_here(
    theirs: str, model: str, side: int, arguments: dict[str, Any], dynamo: bool, tmp_path: Path
) -> None:
    models = pytest.importorskip("torchvision", reason="needs zoo-vision[data]").models
    module = settled(models.get_model(theirs, weights=None, num_classes=20, **arguments), side)
    file = export(module, tmp_path / "net.onnx", random_images(1, 3, side, side), dynamo=dynamo)
    report = convert(file, model, tmp_path / "out.safetensors")
    compare(report, module, random_images(2, 3, side, side))
    [entry] = manifest.parse(report.entry)
    assert entry.num_classes == 20
    assert entry.preprocess.input_size == (3, side, side)


# ---- the proof ------------------------------------------------------------------------------------------


def test_names_that_fit_and_are_exchanged_are_found_out_and_put_right(tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    first, second = "layer1.0.conv1.weight", "layer1.1.conv2.weight"
    file = export(module, tmp_path / "net.onnx", images, **TRAINED)
    rewritten(file, lambda graph: rename(graph, {first: second, second: first}))
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    compare(report, module, random_images(2, 3, 32, 32))
    assert report.key_map == "as-is in order"
    assert {(first, second), (second, first)} <= set(report.renamed)
    [by_name] = [reading for reading in report.readings if reading.key_map == "as-is"]
    assert "differ from those that onnxruntime computes" in by_name.verdict


def test_a_network_with_one_other_weight_is_not_proven(tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    file = export(module, tmp_path / "net.onnx", images, **TRAINED)
    prover = onnx_files.Prover(file, formats.read(file).graph)
    preprocess = module.zoo_info.preprocess
    assert prover.prove(module, Fitted(AS_IS, {}), preprocess).difference < 1e-5
    with torch.no_grad():
        module.layer2[0].conv1.weight[3, 2, 1, 1] += 1
    with pytest.raises(TensorMismatchError, match="logits differ from those that onnxruntime computes from the file"):
        prover.prove(module, Fitted(AS_IS, {}), preprocess)


def test_outputs_that_hardly_depend_on_the_image_prove_nothing(tmp_path: Path) -> None:
    module = settled(zoo.create("resnet20"), 32)
    nn.init.zeros_(module.fc.weight)
    nn.init.ones_(module.fc.bias)
    file = export(module, tmp_path / "net.onnx", random_images(1, 3, 32, 32), **TRAINED)
    with pytest.raises(TensorMismatchError, match="hardly differ from image to image"):
        convert(file, "resnet20", tmp_path / "out.safetensors")


def test_the_proof_is_in_the_report_the_entry_and_what_the_command_prints(tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    file, out = export(module, tmp_path / "net.onnx", images, **TRAINED), tmp_path / "out.safetensors"
    words = ["convert", str(file), "resnet20", "-o", str(out), "--from", "as-is"]
    shown = printed(*words)
    assert "\nproven by outputs: 6 images have the same logits in onnxruntime and here, to " in shown
    [entry] = manifest.read(tmp_path / "manifest.toml")
    assert "proven by outputs: 6 images" in entry.origin
    proof = told(*words, "--overwrite")["proof"]
    assert proof["images"] == 6
    assert 0 < proof["difference"] < proof["tolerance"]


@pytest.mark.slow
def test_without_onnxruntime_names_are_enough_and_their_order_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    named = export(module, tmp_path / "named.onnx", images, **TRAINED)
    folded = export(module, tmp_path / "folded.onnx", images)
    proven = convert(named, "resnet20", tmp_path / "a" / "out.safetensors", key_map="as-is")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = convert(named, "resnet20", tmp_path / "b" / "out.safetensors", key_map="as-is")
    assert str(report.proof) == "not proven: onnxruntime is not installed"
    assert "not proven: onnxruntime is not installed" in manifest.parse(report.entry)[0].origin
    assert report.sha256 == proven.sha256  # a file's bytes do not depend on what is installed
    with pytest.raises(MissingExtraError, match="onnxruntime") as caught:
        convert(folded, "resnet20", tmp_path / "out.safetensors")
    assert "zoo-vision[convert]" in caught.value.hint


class WithSoftmax(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).softmax(dim=1)


def test_a_softmax_at_the_end_is_left_out_of_the_comparison(tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20"), 32), random_images(1, 3, 32, 32)
    file = export(WithSoftmax(module), tmp_path / "net.onnx", images)
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    compare(report, module, images)
    assert report.proof.compared == "logits before the file's softmax"


@pytest.mark.first(1)
@pytest.mark.parametrize("batch", [1, 3, None])
def test_any_batch_that_the_file_takes_will_do(batch: int | None, tmp_path: Path) -> None:
    module = settled(zoo.create("resnet20"), 32)
    how = {} if batch else {"dynamic_axes": {"images": {0: "batch"}}}
    file = export(module, tmp_path / "net.onnx", random_images(batch or 1, 3, 32, 32), **how)
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    compare(report, module, random_images(2, 3, 32, 32))


def test_a_file_that_states_its_input_size_is_converted_for_that(tmp_path: Path) -> None:
    module = settled(zoo.create("resnet20"), 48)
    file = export(module, tmp_path / "net.onnx", random_images(1, 3, 48, 48))
    report = convert(file, "resnet20", tmp_path / "out.safetensors")
    assert zoo.create("resnet20", weights=report.file).zoo_info.preprocess.input_size == (3, 48, 48)


@pytest.mark.parametrize("is_here", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_file_that_a_manifest_names_is_matched_when_it_is_first_used(
    is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process without a network, in which onnxruntime runs as well."""
    if is_here:
        foreign.calls_here(monkeypatch)
    monkeypatch.setenv("ZOO_HUB", "")
    module, images = settled(zoo.create("resnet20"), 32), random_images(2, 3, 32, 32)
    foreign.offer(tmp_path / "hub", export(module, tmp_path / "net.onnx", images), "resnet20.x")
    created = zoo.create("resnet20.x").eval()
    with torch.inference_mode():
        expected = module(images)
        torch.testing.assert_close(created(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


# ---- without a head -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("classes", [0, 10])
def test_a_trunk_is_taken_from_a_file_with_or_without_a_head(classes: int, tmp_path: Path) -> None:
    module, images = settled(zoo.create("resnet20", num_classes=classes), 32), random_images(2, 3, 32, 32)
    file = export(module, tmp_path / "net.onnx", images)
    report = convert(file, "resnet20", tmp_path / "out.safetensors", stated=Stated(trunk=True))
    assert report.proof.compared == "features"
    converted = zoo.create("resnet20", weights=report.file).eval()
    module.reset_classifier(0)
    with torch.inference_mode():
        expected = module(images)
        torch.testing.assert_close(converted(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert report.dropped == (["fc.weight", "fc.bias"] if classes else [])


def test_a_file_of_features_is_refused_without_trunk(tmp_path: Path) -> None:
    module = settled(zoo.create("resnet20", num_classes=0), 32)
    file = export(module, tmp_path / "net.onnx", random_images(1, 3, 32, 32))
    with pytest.raises(TensorMismatchError, match="Tensors in order by shape: "):
        convert(file, "resnet20", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


# ---- what does not match --------------------------------------------------------------------------------


@pytest.mark.first(3)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda graph: graph.output.pop(),
        lambda graph: graph.node.pop(),
        lambda graph: graph.node[1].input.pop(),
        lambda graph: graph.node[1].input.__setitem__(0, graph.node[1].output[0]),
        lambda graph: graph.node[0].attribute.pop(),
    ],
)
def test_a_damaged_graph_is_refused(spoil: Callable[[Any], Any], small: str, tmp_path: Path) -> None:
    nodes = [CONVOLUTION, ("BatchNormalization", "c scale shift mean var", "n", {}), *TAIL]
    file = build(nodes, tensors_of_small(), [1, 3, 8, 8], tmp_path / "net.onnx")
    with pytest.raises((TensorMismatchError, FileFormatError)):
        convert(rewritten(file, spoil), small, tmp_path / "out.safetensors")


@pytest.mark.slow
def test_another_network_is_refused_with_the_layers_that_differ(tmp_path: Path) -> None:
    file = export(settled(zoo.create("resnet20"), 32), tmp_path / "net.onnx", random_images(1, 3, 32, 32))
    with pytest.raises(TensorMismatchError) as caught:
        convert(file, "resnet32", tmp_path / "out.safetensors")
    assert "The file has no tensor of the shape of layer1.3.conv1.weight" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.slow
def test_a_file_that_onnxruntime_cannot_run_is_no_match(tmp_path: Path) -> None:
    file = export(settled(zoo.create("resnet20"), 32), tmp_path / "net.onnx", random_images(1, 3, 32, 32))

    def spoil(graph: Any) -> None:
        next(node for node in graph.node if node.op_type == "Relu").op_type = "Reluctant"

    with pytest.raises(FileFormatError, match=r"onnxruntime cannot run net\.onnx"):
        convert(rewritten(file, spoil), "resnet20", tmp_path / "out.safetensors")


# ---- graphs of other exporters --------------------------------------------------------------------------

BGR = 'KeyMap("caffe", drop=(".",), input_order="bgr", input_scale=255.0, preprocess={"mean": MEAN, "std": (1.0,) * 3})'
MEAN = (0.4, 0.5, 0.6)


@pytest.fixture
def small(family: Callable[[str], str]) -> str:
    """A family with a key map that states another input, and no names."""
    return family(BGR.replace("MEAN", repr(MEAN)))


def build(
    nodes: list[tuple[str, str, str, dict[str, Any]]], tensors: dict[str, Any], shape: list[int], file: Path
) -> Path:
    """Returns a file of ``nodes`` (operation, inputs, output, attributes), from ``images`` to ``logits``."""
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node(kind, given.split(), [made], **about) for kind, given, made, about in nodes],
        "net",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [shape[0], 5])],
        [onnx.numpy_helper.from_array(numpy.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return file


def tensors_of_small() -> dict[str, numpy.ndarray]:
    rng = numpy.random.default_rng(0)
    shapes = {"w": (6, 3, 3, 3), "scale": (6,), "shift": (6,), "mean": (6,), "dense": (384, 5), "bias": (5,)}
    made = {name: rng.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}
    return {**made, "var": rng.uniform(0.5, 2, 6).astype("float32")}


TAIL = [("Relu", "n", "r", {}), ("Flatten", "r", "f", {}), ("Gemm", "f dense bias", "logits", {})]
CONVOLUTION = ("Conv", "images w", "c", {"pads": [1, 1, 1, 1]})


def test_a_bias_before_a_normalization_is_folded_into_its_mean(small: str, tmp_path: Path) -> None:
    convolution = ("Conv", "images w b", "c", {"pads": [1, 1, 1, 1]})
    nodes = [convolution, ("BatchNormalization", "c scale shift mean var", "n", {}), *TAIL]
    bias = numpy.random.default_rng(1).normal(0, 1, 6).astype("float32")
    file = build(nodes, {**tensors_of_small(), "b": bias}, [1, 3, 8, 8], tmp_path / "net.onnx")
    report = convert(file, small, tmp_path / "out.safetensors")
    assert report.folded == ["b into mean"]
    images = random_images(1, 3, 8, 8)
    from onnx.reference import ReferenceEvaluator

    [theirs] = ReferenceEvaluator(str(file)).run(None, {"images": images.numpy()})
    with torch.inference_mode():
        ours = zoo.create(small, weights=report.file).eval()(images)
    numpy.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)


def test_a_file_that_takes_channels_last_is_compared_in_that_order(small: str, tmp_path: Path) -> None:
    nodes = [
        ("Transpose", "images", "i", {"perm": [0, 3, 1, 2]}),
        ("Conv", "i w", "c", {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", "c scale shift mean var", "n", {}),
        *TAIL,
    ]
    file = build(nodes, tensors_of_small(), [1, 8, 8, 3], tmp_path / "net.onnx")
    report = convert(file, small, tmp_path / "out.safetensors")
    assert manifest.parse(report.entry)[0].preprocess.input_size == (3, 8, 8)
    assert report.proof is not None


def test_a_key_map_states_the_input_of_a_file_without_names(small: str, tmp_path: Path) -> None:
    """B, G, R in [0, 255] less a mean, there; here R, G, B in [0, 1] less the same mean."""
    nodes = [CONVOLUTION, ("BatchNormalization", "c scale shift mean var", "n", {}), *TAIL]
    file = build(nodes, tensors_of_small(), [1, 3, 8, 8], tmp_path / "net.onnx")
    report = convert(file, small, tmp_path / "out.safetensors", key_map="caffe")
    assert report.key_map == "caffe in order"
    pixels = torch.randint(0, 256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    mean = torch.tensor(MEAN)[:, None, None]
    from onnx.reference import ReferenceEvaluator

    [theirs] = ReferenceEvaluator(str(file)).run(None, {"images": (pixels - 255 * mean).flip(1).numpy()})
    module = zoo.create(small, weights=report.file).eval()
    assert module.zoo_info.preprocess.mean == MEAN
    with torch.inference_mode():
        ours = module(pixels / 255 - mean)
    numpy.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4 * numpy.abs(theirs).max())


# ---- other formats --------------------------------------------------------------------------------------


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """The tensors of ``resnet20.digits`` in the order of its keys, under numbers."""
    state = zoo.create("resnet20.digits").state_dict()
    torch.save({str(number): tensor for number, tensor in enumerate(state.values())}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_tensors_in_order_are_refused_without_data_that_could_tell(nameless: Path, tmp_path: Path) -> None:
    with pytest.raises(TensorMismatchError, match="They fit, which alone proves nothing") as caught:
        convert(nameless, "resnet20", tmp_path / "out.safetensors")
    assert "--check DATA" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


def check_on_digits(file: Path, out: Path, *words: str) -> Any:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    preprocess = zoo.create("resnet20.digits").zoo_info.preprocess
    prepared = ["--mean", str(preprocess.mean[0]), "--std", str(preprocess.std[0])]
    prepared += ["--preprocess", f"input_size={[*preprocess.input_size]}"]
    command = ["convert", str(file), "resnet20", "-o", str(out), "--check", "digits", *prepared, *words]
    return ask_warm(*command)


def test_tensors_in_order_are_accepted_if_the_network_scores_on_data(nameless: Path, tmp_path: Path) -> None:
    done = check_on_digits(nameless, tmp_path / "out.safetensors", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["check"]["correct"] == 360
    assert report["reason"].startswith("matched in order by shape")
    expected = zoo.create("resnet20.digits").state_dict()
    converted = safetensors_file.read(tmp_path / "out.safetensors")
    assert all(torch.equal(converted[key], tensor) for key, tensor in expected.items() if "num_batches" not in key)


def test_a_check_that_fails_writes_nothing(tmp_path: Path) -> None:
    """Two convolutions of one shape are exchanged."""
    state = zoo.create("resnet20.digits").state_dict()
    first, second = "layer1.0.conv1.weight", "layer1.1.conv2.weight"
    state[first], state[second] = state[second], state[first]
    torch.save(state, tmp_path / "theirs.pth")
    done = check_on_digits(tmp_path / "theirs.pth", tmp_path / "out.safetensors", "--from", "as-is")
    assert done.exit_code == 1
    assert "of digits/test, less than 55%: nothing was written" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]
    done = check_on_digits(tmp_path / "theirs.pth", tmp_path / "out.safetensors", "--from", "as-is", "--at-least", "1")
    assert done.exit_code == 0, done.output


# ---- ONNX's own model zoo -------------------------------------------------------------------------------


def published(name: str, file: Path) -> Path:
    """Returns a network of the ONNX model zoo, whose graph ships with onnx, with random weights."""
    from onnx import numpy_helper

    model = onnx.load(str(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"))
    graph, rng = model.graph, numpy.random.default_rng(0)
    shapes = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    variances = {node.input[4] for node in graph.node if node.op_type == "BatchNormalization"}
    scales = {node.input[1] for node in graph.node if node.op_type == "BatchNormalization"}
    made = []
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        shape, called = tuple(shapes[node.input[0]]), node.output[0]
        if called in variances or called in scales or (len(shape) == 1 and called.endswith("_w_0")):
            values = rng.uniform(0.7, 1.3, shape)
        else:
            fan_in = numpy.prod(shape[1:]) if len(shape) > 1 else 5000
            values = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        made.append(numpy_helper.from_array(values.astype("float32"), called))
        graph.node.remove(node)
    graph.initializer.extend(made)
    model.ir_version = 4  # weights need not be inputs
    onnx.save(model, str(file))
    return file


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "key_map"), [("resnet50", None), ("vgg19", None)])
def test_graphs_of_the_onnx_model_zoo_compute_the_same_here(theirs: str, key_map: str | None, tmp_path: Path) -> None:
    file = published(theirs, tmp_path / "net.onnx")
    report = convert(file, theirs, tmp_path / "out.safetensors", key_map=key_map)
    assert report.proof.difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "model"), [("bvlc_alexnet", "alexnet")])
def test_graphs_of_the_onnx_model_zoo_that_pool_otherwise_are_refused(theirs: str, model: str, tmp_path: Path) -> None:
    """Its layers are those of the paper, but no pool reaches over the border, and it adds 1, not 2, to sums."""
    with pytest.raises(TensorMismatchError, match="differ from those that onnxruntime computes"):
        convert(published(theirs, tmp_path / "net.onnx"), model, tmp_path / "out.safetensors")
