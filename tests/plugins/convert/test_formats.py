"""Keras's, ONNX's and Caffe's conventions, and files by their address; the oracles are Keras and ONNX themselves."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support import foreign
from support.command import told
from torch import nn
from torch.nn import functional as F

import zoo
from zoo import loading, manifest, registry
from zoo.errors import (
    FileFormatError,
    HubError,
    IntegrityError,
    MissingExtraError,
    SpecError,
    TensorMismatchError,
    WeightsError,
)
from zoo.spec import KeyMap
from zoo.trust import first_use
from zoo_convert import ConversionReport, Stated, convert, formats

h5py = pytest.importorskip("h5py", reason="needs zoo-vision[convert]")


def random_images(*shape: int) -> torch.Tensor:
    """Pixels, uint8, as float32 B 3 H W."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).float()


def keras_answer(script: str, folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Returns what Keras, in a process of its own, gives R, G, B pixels B C H W after it saved its weights in
    ``folder``.
    """
    if importlib.util.find_spec("keras") is None:
        pytest.skip("the oracle is Keras")
    numpy.save(folder / "images.npy", images.permute(0, 2, 3, 1).numpy())
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, env=environment, capture_output=True)
    return torch.from_numpy(numpy.load(folder / "logits.npy"))


KERAS = """
import sys, numpy, keras, h5py
from keras.src.legacy.saving import legacy_h5_format
folder = sys.argv[1] + "/"
rng = numpy.random.default_rng(0)
images = numpy.load(folder + "images.npy")
MODEL
for layer in model.layers:
    values = []
    for old in layer.get_weights():
        scale = 0.3 if old.ndim == 1 else (2 / numpy.prod(old.shape[:-1])) ** 0.5
        values.append(rng.normal(0, scale, old.shape).astype("float32"))
    if isinstance(layer, keras.layers.BatchNormalization):
        gamma, beta, mean, variance = values
        values = [1 + 0.2 * gamma, beta, mean, 0.5 + numpy.abs(variance)]
    layer.set_weights(values)
numpy.save(folder + "logits.npy", keras.ops.convert_to_numpy(model(INPUT, training=False)))
with h5py.File(folder + "older.h5", "w") as file:
    legacy_h5_format.save_weights_to_hdf5_group(file, model)
if FORMS:
    model.save_weights(folder + "newer.weights.h5")
    model.save(folder + "whole.h5")
"""

SMALL = """
model = keras.Sequential([
    keras.Input((8, 8, 3)),
    keras.layers.Conv2D(6, 3, padding="same", name="first"),
    keras.layers.BatchNormalization(name="norm", epsilon=1e-3),
    keras.layers.ReLU(),
    keras.layers.Flatten(),
    keras.layers.Dense(5, name="predictions"),
])
"""

SMALL_MAP = """KeyMap(
    "keras_small",
    rename=(
        ("^first", "conv"), ("^predictions", "fc"), (r"[.](kernel|gamma)$", ".weight"), (r"[.]beta$", ".bias"),
        (r"[.]moving_mean$", ".running_mean"), (r"[.]moving_variance$", ".running_var"),
    ),
    transpose=((r"^conv[.]weight$", (), (3, 2, 0, 1)), (r"^fc[.]weight$", (8, 8, 6, 5), (3, 2, 0, 1))),
    fold_bias=((r"^conv[.]bias$", "norm.running_mean"),),
    norm_eps=(1e-3, 1e-5),
    input_order="bgr",
    input_scale=255.0,
    preprocess={"mean": (0.4, 0.5, 0.6), "std": (1.0, 1.0, 1.0)},
)"""


@pytest.fixture
def small(family: Callable[[str], str]) -> str:
    """A family of one small network with a key map for Keras's."""
    return family(SMALL_MAP)


def ours(report: ConversionReport, pixels: torch.Tensor) -> torch.Tensor:
    """Returns the logits of the converted network, prepared as its entry says."""
    return on_pixels(zoo.create(report.model, weights=report.file).eval(), pixels)


def on_pixels(module: loading.Network, pixels: torch.Tensor) -> torch.Tensor:
    preprocess = module.zoo_info.preprocess
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    with torch.inference_mode():
        logits: torch.Tensor = module((pixels / 255 - mean) / std)
    return logits


@pytest.fixture(scope="module")
def of_keras(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """The folder of a Keras network in every form, pixels, and what it gives them.

    Its input is B, G, R in [0, 255] less a mean; its convolution has a bias, its normalisation another epsilon.
    """
    folder, pixels = tmp_path_factory.mktemp("keras"), random_images(4, 3, 8, 8)
    taken = "(images[..., ::-1] - numpy.array([153, 127.5, 102])).astype('float32')"  # 0.6, 0.5 and 0.4 of 255
    script = KERAS.replace("MODEL", SMALL).replace("INPUT", taken).replace("FORMS", "True")
    return folder, pixels, keras_answer(script, folder, pixels)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["older.h5", "whole.h5", "newer.weights.h5"])
def test_a_keras_network_computes_the_same_from_every_form_of_its_file(
    file: str, of_keras: tuple[Path, torch.Tensor, torch.Tensor], small: str, tmp_path: Path
) -> None:
    folder, pixels, theirs = of_keras
    report = convert(folder / file, small, tmp_path / "out.safetensors")
    torch.testing.assert_close(ours(report, pixels), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert {line.split()[0] for line in report.transposed} == {"conv.weight", "fc.weight"}
    folded = "\n".join(report.folded)
    assert "conv.bias into norm.running_mean" in folded
    assert "epsilon 0.001, here 1e-05, into norm.running_var" in folded
    assert "the order B, G, R of the input into conv.weight" in folded
    assert "range 0 to 255 into conv.weight" in folded
    assert dict(report.renamed)["first.kernel"] == "conv.weight"
    assert file in manifest.parse(report.entry)[0].origin


@pytest.mark.slow
def test_a_keras_file_that_a_manifest_names_is_created_like_any_other(
    of_keras: tuple[Path, torch.Tensor, torch.Tensor], small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key map states the mean that the network takes off; the manifest states nothing."""
    folder, pixels, theirs = of_keras
    monkeypatch.setenv("ZOO_HUB", "")
    foreign.calls_here(monkeypatch)
    foreign.offer(tmp_path / "hub", folder / "whole.h5", f"{small}.x")
    network = zoo.create(f"{small}.x").eval()
    logits = on_pixels(network, pixels)
    torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "model"), [("VGG16", "vgg16"), ("VGG19", "vgg19"), ("ResNet50", "resnet50"), ("ResNet101", "resnet101")]
)
def test_keras_applications_compute_the_same_here(theirs: str, model: str, tmp_path: Path) -> None:
    pixels = random_images(1, 3, 224, 224)
    script = (
        KERAS.replace("MODEL", f"model = keras.applications.{theirs}(weights=None, classifier_activation=None)")
        .replace("INPUT", "keras.applications.vgg16.preprocess_input(images.copy())")  # ResNet v1 has the same
        .replace("FORMS", "False")
    )
    logits = keras_answer(script, tmp_path, pixels)
    report = convert(tmp_path / "older.h5", model, tmp_path / "out.safetensors")
    torch.testing.assert_close(ours(report, pixels), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
    assert report.key_map == {"vgg16": "keras_vgg16", "vgg19": "keras_vgg19"}.get(model, "keras")


RESNET8 = """
from keras import layers
def conv(x, width, stride=1, kernel=3):
    return layers.Conv2D(width, kernel, strides=stride, padding="same")(x)
inputs = keras.Input((33, 32, 3))
x = layers.ReLU()(layers.BatchNormalization()(conv(inputs, 16)))
for width, stride in ((16, 1), (32, 2), (64, 2)):
    y = layers.ReLU()(layers.BatchNormalization()(conv(x, width, stride)))
    y = layers.BatchNormalization()(conv(y, width))
    shortcut = x if stride == 1 else conv(x, width, stride, kernel=1)
    x = layers.ReLU()(layers.add([shortcut, y]))
x = layers.GlobalAveragePooling2D()(x)
model = keras.Model(inputs, layers.Dense(10)(x))
"""


@pytest.mark.slow
def test_mlperf_tinys_resnet8_computes_the_same_here(tmp_path: Path) -> None:
    """One side is odd: at stride 2 TensorFlow pads it on both sides, and an even one behind only."""
    pixels = random_images(2, 3, 33, 32)
    script = KERAS.replace("MODEL", RESNET8).replace("INPUT", "images").replace("FORMS", "False")
    logits = keras_answer(script, tmp_path, pixels)
    report = convert(tmp_path / "older.h5", "resnet8", tmp_path / "out.safetensors")
    assert report.key_map == "mlperf_tiny"
    torch.testing.assert_close(ours(report, pixels), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


INCEPTION = """
for _ in range(BEFORE):  # other layers of the same process
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()
model = keras.applications.InceptionV3(weights=None, classifier_activation=None, classes=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "key_map"), [(0, "keras_v3_from_0"), (1, "keras_v3")])
def test_keras_inception_v3_computes_the_same_here_whatever_its_layers_are_numbered_from(
    before: int, key_map: str, tmp_path: Path
) -> None:
    """Its normalisations have no scale, and its means do not count the padding."""
    pixels = random_images(1, 3, 299, 299)
    script = KERAS.replace("MODEL", INCEPTION.replace("BEFORE", str(before))).replace("FORMS", "False")
    script = script.replace("gamma, beta, mean, variance = values", "beta, mean, variance = values")
    script = script.replace("values = [1 + 0.2 * gamma, beta,", "values = [beta,")
    script = script.replace("INPUT", "keras.applications.inception_v3.preprocess_input(images.copy())")
    logits = keras_answer(script, tmp_path, pixels)
    report = convert(tmp_path / "older.h5", "inception_v3", tmp_path / "out.safetensors")
    assert report.key_map == key_map
    torch.testing.assert_close(ours(report, pixels), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))
    assert sum(key.endswith(".bn.weight") for key in report.added) == 94
    counted = zoo.create("inception_v3", weights=report.file, count_include_pad=True).eval()
    with torch.inference_mode():
        assert (counted(pixels / 127.5 - 1) - logits).abs().max() > 1e-2 * logits.abs().max()


def test_the_variables_of_the_first_keras_are_known_by_their_old_names(tmp_path: Path) -> None:
    """vgg16_weights_tf_dim_ordering_tf_kernels.h5 says block1_conv1_W_1:0 and block1_conv1_b_1:0."""
    file = tmp_path / "old.h5"
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [b"block1_conv1", b"block1_pool"]
        group = opened.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"block1_conv1_W_1:0", b"block1_conv1_b_1:0"]
        group["block1_conv1_W_1:0"] = numpy.zeros((3, 3, 3, 64), "float32")
        group["block1_conv1_b_1:0"] = numpy.ones(64, "float32")
        opened.create_group("block1_pool").attrs["weight_names"] = numpy.array([], "S1")
    tensors = formats.read(file).tensors
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == {
        "block1_conv1.kernel": (3, 3, 3, 64),
        "block1_conv1.bias": (64,),
    }


VARIABLES = {
    "first/kernel": (3, 3, 3, 6),
    "first/bias": (6,),
    **{f"norm/{name}": (6,) for name in ("gamma", "beta", "moving_mean", "moving_variance")},
    "predictions/kernel": (384, 5),
    "predictions/bias": (5,),
}
"""What Keras's file of the small network holds."""


def write_keras(file: Path, variables: dict[str, numpy.ndarray]) -> None:
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [*dict.fromkeys(name.partition("/")[0] for name in variables)]
        for layer in opened.attrs["layer_names"]:
            names = [name for name in variables if name.startswith(f"{layer}/")]
            group = opened.create_group(layer)
            group.attrs["weight_names"] = [f"{name}:0" for name in names]
            for name in names:
                group[f"{name}:0"] = variables[name]


def test_bias_epsilon_and_the_inputs_order_and_range_are_folded_with_their_signs(small: str, tmp_path: Path) -> None:
    """Keras's layers in torch's functions: maps are flattened as H W C, the input is B, G, R in [0, 255]."""
    rng = numpy.random.default_rng(0)
    variables = {name: rng.normal(0, 0.3, shape).astype("float32") for name, shape in VARIABLES.items()}
    variables["norm/moving_variance"] = rng.uniform(1e-3, 4e-3, 6).astype("float32")  # epsilon matters
    write_keras(tmp_path / "theirs.h5", variables)
    pixels, theirs = random_images(2, 3, 8, 8), {name: torch.from_numpy(value) for name, value in variables.items()}
    x = pixels.flip(1) - 255 * torch.tensor([0.6, 0.5, 0.4])[:, None, None]
    x = F.conv2d(x, theirs["first/kernel"].permute(3, 2, 0, 1), theirs["first/bias"], padding=1)
    norm = [theirs[f"norm/{name}"] for name in ("moving_mean", "moving_variance", "gamma", "beta")]
    x = F.batch_norm(x, *norm, eps=1e-3).relu().permute(0, 2, 3, 1).flatten(1)
    expected = x @ theirs["predictions/kernel"] + theirs["predictions/bias"]
    report = convert(tmp_path / "theirs.h5", small, tmp_path / "out.safetensors")
    torch.testing.assert_close(ours(report, pixels), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def hostile_h5(kind: str, folder: Path) -> Path:
    file, other = folder / "hostile.h5", folder / "secret.h5"
    with h5py.File(other, "w") as opened:
        opened["x"] = numpy.ones(3, "float32")
    if kind == "truncated":
        file.write_bytes(other.read_bytes()[:600])
        return file
    if kind == "no HDF5":
        file.write_bytes(b"\x80\x04 not at all")
        return file
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [b"a"]
        group = opened.create_group("a")
        group.attrs["weight_names"] = [b"kernel:0"]
        if kind == "a link to another file":
            group["kernel:0"] = h5py.ExternalLink(str(other), "/x")
        elif kind == "numbers in another file":
            group.create_dataset("kernel:0", (3,), "float32", external=[(str(other), 0, 12)])
        elif kind == "petabytes":
            group.create_dataset("kernel:0", (1 << 50,), "float32", chunks=(1 << 20,), compression="gzip")
        elif kind == "objects":
            group.create_dataset("kernel:0", data=["text"], dtype=h5py.string_dtype())
        elif kind == "nothing there":
            pass
    return file


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "not a usable HDF5 file"),
        ("no HDF5", "not a usable HDF5 file"),
        ("a link to another file", "a link to another file"),
        ("numbers in another file", "stores its data in another file"),
        ("petabytes", "states 4,503,599,627,370,496 bytes"),
        ("objects", "expected numbers"),
        ("nothing there", "is missing"),
    ],
)
def test_a_hostile_or_damaged_h5_is_refused(kind: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=reason):
        formats.read(hostile_h5(kind, tmp_path))


def test_groups_that_contain_each_other_many_times_over_are_refused(tmp_path: Path) -> None:
    """Thirty levels of two links each to the same next group: 2**30 paths in a few kilobytes."""
    file = tmp_path / "dag.weights.h5"
    with h5py.File(file, "w") as opened:
        group = opened
        for _ in range(30):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
    with pytest.raises(FileFormatError, match="linked twice"):
        formats.read(file)


def test_an_h5_that_expands_is_refused_before_it_does(tmp_path: Path) -> None:
    file = tmp_path / "zeros.h5"
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [b"a"]
        group = opened.create_group("a")
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_dataset("kernel:0", (30_000, 1000), "float32", chunks=(1000, 1000), compression="gzip")
    with pytest.raises(FileFormatError, match="states 120,000,000 bytes") as caught:
        formats.read(file)
    assert "ZOO_MAX_CHECKPOINT_BYTES" in caught.value.hint


def test_a_keras_file_that_does_not_name_the_variables_of_a_normalisation_without_scale_is_refused(
    tmp_path: Path,
) -> None:
    """With ``scale=False`` or ``center=False`` there are three of one shape: beta or gamma, mean, variance."""
    file = tmp_path / "net.weights.h5"
    with h5py.File(file, "w") as opened:
        for number in range(3):
            opened[f"layers/batch_normalization/vars/{number}"] = numpy.ones(6, "float32")
    with pytest.raises(FileFormatError, match="the file does not name them") as caught:
        formats.read(file)
    assert "model.save('NAME.h5')" in caught.value.hint


def test_a_keras_archive_is_refused_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "net.keras"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(FileFormatError, match="contains code") as caught:
        formats.read(file)
    assert "save_weights" in caught.value.hint


# ---- ONNX


def to_onnx(module: nn.Module, file: Path, images: torch.Tensor, *, beside: str = "") -> None:
    """Builds an ONNX graph of ``conv, norm, act, flat, fc``, built with ONNX's own helpers, the state as
    initialisers."""
    onnx = pytest.importorskip("onnx", reason="needs zoo-vision[convert]")
    from onnx import TensorProto, helper, numpy_helper

    state = {key: tensor.detach().numpy() for key, tensor in module.state_dict().items()}
    norm = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], epsilon=1e-5),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(images.shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [len(images), 5])],
        [numpy_helper.from_array(value, key) for key, value in state.items() if "num_batches" not in key]
        + [numpy_helper.from_array(numpy.array([-1, 384]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    if beside:
        onnx.save(model, str(file), save_as_external_data=True, location=beside, size_threshold=100)
    else:
        onnx.save(model, str(file))


@pytest.mark.parametrize("beside", ["", "net.onnx.data"])
def test_an_onnx_file_gives_its_initialisers_and_the_same_logits(beside: str, small: str, tmp_path: Path) -> None:
    module, images = zoo.create(small, num_classes=5), random_images(2, 3, 8, 8) / 255
    module.norm.running_mean.uniform_()
    module.norm.running_var.uniform_(0.5, 2)
    to_onnx(module, tmp_path / "net.onnx", images, beside=beside)
    from onnx.reference import ReferenceEvaluator

    [theirs] = ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, {"images": images.numpy()})
    report = convert(tmp_path / "net.onnx", small, tmp_path / "out.safetensors")
    converted = zoo.create(small, weights=report.file).eval()
    with torch.inference_mode():
        numpy.testing.assert_allclose(converted(images).numpy(), theirs, rtol=1e-4, atol=1e-5)
    assert report.dropped == ["shape"]
    assert report.added == ["norm.num_batches_tracked"]


def test_an_onnx_file_that_a_manifest_names_is_created_like_any_other(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, images = zoo.create(small, num_classes=5), random_images(2, 3, 8, 8) / 255
    to_onnx(module, tmp_path / "net.onnx", images)
    monkeypatch.setenv("ZOO_HUB", "")
    foreign.calls_here(monkeypatch)
    foreign.offer(tmp_path / "hub", tmp_path / "net.onnx", f"{small}.x")
    assert foreign.has_state(zoo.create(f"{small}.x"), module.state_dict())


TRAINED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}


def exported(module: nn.Module, file: Path, images: torch.Tensor, **how: Any) -> numpy.ndarray:
    """Returns what ONNX's reference gives ``images`` after torch exported ``module`` to ``file``."""
    pytest.importorskip("onnx", reason="needs zoo-vision[convert]")
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of an exporter to come
        torch.onnx.export(module.eval(), (images,), str(file), dynamo=False, input_names=["images"], **how)
    [theirs] = ReferenceEvaluator(str(file)).run(None, {"images": images.numpy()})
    return theirs


def test_a_trunk_that_torch_exported_to_onnx_gives_the_same_features(tmp_path: Path) -> None:
    """Torch's exporter stores equal tensors once: of a network's untrained normalisations only the first remain."""
    module, images = zoo.create("resnet20", num_classes=0), random_images(2, 3, 32, 32) / 255
    file, out = tmp_path / "trunk.onnx", tmp_path / "out.safetensors"
    theirs = exported(module, file, images, **TRAINED)
    with pytest.raises(TensorMismatchError, match=r"missing     fc\.weight") as caught:
        convert(file, "resnet20", out, key_map="as-is")
    assert "--trunk" in caught.value.hint
    report = convert(file, "resnet20", out, key_map="as-is", stated=Stated(trunk=True))
    converted = zoo.create("resnet20", weights=report.file).eval()
    with torch.inference_mode():
        features = converted(images)
    assert features.shape == (2, 64)
    numpy.testing.assert_allclose(features.numpy(), theirs, rtol=1e-4, atol=1e-5)
    assert [key for key in report.added if "num_batches" not in key] == []


@pytest.mark.parametrize("places", [["../secret"], ["/etc/hostname"], ["link"], ["data", "../secret"]])
def test_an_onnx_file_that_points_elsewhere_is_refused(places: list[str], small: str, tmp_path: Path) -> None:
    """Of two places ONNX reads the last; the first, which is harmless, is not the one to check."""
    onnx = pytest.importorskip("onnx", reason="needs zoo-vision[convert]")
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(100_000))
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    file = tmp_path / "in" / "net.onnx"
    to_onnx(zoo.create(small, num_classes=5), file, torch.zeros(1, 3, 8, 8), beside="data")
    model = onnx.load(str(file), load_external_data=False)
    for stored in [initializer.external_data for initializer in model.graph.initializer if initializer.external_data]:
        next(entry for entry in stored if entry.key == "location").value = places[0]
        for place in places[1:]:
            stored.add(key="location", value=place)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="not a file beside it"):
        convert(file, small, tmp_path / "out.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"not protobuf at all", b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs zoo-vision[convert]")
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"net\.onnx"):
        formats.read(tmp_path / "net.onnx")


@pytest.mark.parametrize(("library", "name"), [("h5py", "net.h5"), ("onnx", "net.onnx")])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingExtraError, match=library) as caught:
        formats.read(tmp_path / name)
    assert "zoo-vision[convert]" in caught.value.hint


# ---- what is declared has to fit


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("(8, 8, 6, 5), (3, 2, 0, 1)", "(8, 8, 7, 5), (3, 2, 0, 1)"), "cannot be read as"),
        (("(8, 8, 6, 5), (3, 2, 0, 1)", "(), (1, 0, 2)"), "cannot be read as"),
        (("(3, 2, 0, 1)), (r", "(2, 3, 0, 1)), (r"), "mis-shaped  first.kernel"),
        (('"norm.running_mean"', '"norm.nothing"'), "has no running mean"),
        (('("^first", "conv")', '("^first", "con")'), "the first layer conv.weight is missing"),
        (('("^predictions", "fc")', '("^(predictions|first)", "conv")'), "both become"),
    ],
)
def test_a_key_map_that_does_not_fit_is_told_and_writes_nothing(
    change: tuple[str, str], reason: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = registry.current().find(small)
    assert change[0] in SMALL_MAP
    changed = eval(SMALL_MAP.replace(*change), {"KeyMap": KeyMap})
    plugin = zoo.spec.Plugin(name="small", api=1, models=model.plugin.models, key_maps=(changed,))
    monkeypatch.setattr(model.row._rows, "plugin", plugin)
    file = tmp_path / "theirs.h5"
    write_keras(file, {name: numpy.ones(shape, "float32") for name, shape in VARIABLES.items()})
    with pytest.raises(TensorMismatchError, match=reason.replace(".", r"\.")):
        convert(file, small, tmp_path / "out.safetensors", key_map="keras_small")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "rules",
    [
        {"transpose": (("x", (), (0, 2)),)},
        {"transpose": (("(", (), (0, 1)),)},
        {"fold_bias": (("(", "x"),)},
        {"ones": ("(",)},
        {"input_scale": 0.0},
        {"input_order": "gbr"},
    ],
    ids=str,
)
def test_a_key_map_that_says_nonsense_is_refused_on_construction(rules: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        KeyMap("x", **rules)


# ---- by address


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a web server."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def serve(folder: Path, state: dict[str, Any], prefix: str = "") -> tuple[str, str]:
    """Returns a checkpoint named as torchvision does, by its true hash or by ``prefix``; its name and sha256."""
    torch.save(state, folder / "part")
    digest = hashlib.sha256((folder / "part").read_bytes()).hexdigest()
    name = f"resnet18-{prefix or digest[:8]}.pth"
    (folder / "part").rename(folder / name)
    return name, digest


@pytest.mark.slow
def test_a_checkpoint_is_fetched_by_address_and_held_against_its_name(web: tuple[str, Path], tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision", reason="the oracle is torchvision's own network")
    oracle = torchvision.models.resnet18(num_classes=7).eval()
    name, digest = serve(web[1], oracle.state_dict())
    done = told("convert", f"{web[0]}/models/../{name}", "resnet18.theirs", "-o", tmp_path / "out.safetensors")
    [entry] = manifest.parse(done["entry"])
    assert name in entry.origin
    assert digest in entry.origin
    assert web[0] in entry.origin
    images = random_images(1, 3, 64, 64) / 255
    with torch.inference_mode():
        got = zoo.create("resnet18", weights=tmp_path / "out.safetensors").eval()(images)
        torch.testing.assert_close(got, oracle(images), rtol=1e-4, atol=1e-5)


def test_an_address_whose_bytes_are_not_those_of_its_name_is_refused(web: tuple[str, Path], tmp_path: Path) -> None:
    name, digest = serve(web[1], {"a": torch.zeros(1)}, prefix="f37072fd")
    with pytest.raises(IntegrityError, match=f"has sha256 {digest}, expected one that begins with f37072fd"):
        convert(f"{web[0]}/{name}", "resnet18", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_checkpoint_known_by_eight_digits_is_pinned_on_first_use(web: tuple[str, Path], tmp_path: Path) -> None:
    name, digest = serve(web[1], zoo.create("resnet20").state_dict())
    convert(f"{web[0]}/{name}", "resnet20", tmp_path / "a.safetensors", key_map="as-is")
    assert first_use.pins()[f"checkpoint.{digest[:8]}"].sha256 == digest
    (web[1] / name).unlink()  # it comes from the cache
    convert(f"{web[0]}/{name}", "resnet20", tmp_path / "b.safetensors", key_map="as-is")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(HubError):  # another address is not held to have the same file
        convert(f"{web[0]}/other/{name}", "resnet20", tmp_path / "c.safetensors", key_map="as-is")


def test_an_address_without_a_hash_needs_one(web: tuple[str, Path], tmp_path: Path) -> None:
    name, digest = serve(web[1], zoo.create("resnet20").state_dict())
    (web[1] / name).rename(web[1] / "net.pth")
    with pytest.raises(SpecError, match=r"The sha256 of 'net\.pth' is unknown"):
        convert(f"{web[0]}/net.pth", "resnet20", tmp_path / "out.safetensors")
    with pytest.raises(IntegrityError):
        convert(f"{web[0]}/net.pth", "resnet20", tmp_path / "out.safetensors", sha256=64 * "0")
    for stated in (digest, digest[:8].upper()):
        out = tmp_path / f"{len(stated)}.safetensors"
        convert(f"{web[0]}/net.pth", "resnet20", out, sha256=stated, key_map="as-is")
    local = tmp_path / "served" / "net.pth"
    with pytest.raises(IntegrityError, match="expected 00000000"):
        convert(local, "resnet20", tmp_path / "other.safetensors", sha256="00000000", key_map="as-is")


@pytest.mark.parametrize("kind", ["nan", "truncated", "another shape", "missing"])
def test_a_broken_checkpoint_is_told_and_nothing_is_written(kind: str, tmp_path: Path) -> None:
    state, file = zoo.create("resnet20").state_dict(), tmp_path / "theirs.pth"
    if kind == "nan":
        state["layer1.0.bn1.weight"][2] = float("nan")
    elif kind == "another shape":
        state["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    if kind != "missing":
        torch.save(state, file)
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-5000])
    reason = {
        "nan": "1 tensors contain NaN or infinity: layer1.0.bn1.weight",
        "truncated": "cannot be read without running code",
        "another shape": "mis-shaped  conv1.weight: expected (16, 3, 3, 3), got (16, 3, 5, 5)",
        "missing": "no such file",
    }[kind]
    with pytest.raises(WeightsError) as caught:
        convert(file, "resnet20", tmp_path / "out.safetensors")
    assert reason in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "manifest.toml").exists()
