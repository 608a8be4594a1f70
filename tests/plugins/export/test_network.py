"""Exported files as networks: what they compute, and errors for files that are not what they should be."""

import gc
import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from support import exports
from support.command import printed, told
from support.exports import FORMATS, NETWORK

import zoo
from zoo import registry
from zoo.errors import FileFormatError, IntegrityError, MissingExtraError, SpecError, UnknownNameError, WeightsError
from zoo.evaluation import by_name
from zoo.registry import extensions
from zoo.system import sandbox
from zoo_export import formats, graph, network, runtime, writers
from zoo_export.formats import About, Format

DIGIT = str(Path(__file__).parents[3] / "examples" / "digit.png")


def copied(made: Any, folder: Path) -> Path:
    """Returns a copy of an export, with the file beside it."""
    for file in (made.file, formats.sidecar(made.file)):
        shutil.copy(file, folder)
    return folder / made.file.name


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.mark.first(1)
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_computes_what_its_network_does_for_any_number_of_images(root: Path, format: Format) -> None:
    made = exports.made(root, format)
    expected = zoo.create(NETWORK).eval()
    ours = network.open_file(made.file)
    pixels = zoo.data.load("digits", "test").pixels
    inputs = zoo.preprocess(expected).batch(pixels[:7])
    assert zoo.preprocess(ours).batch(pixels[:7]).equal(inputs)
    with torch.inference_mode():
        logits = expected(inputs)
    for count in (1, 7):
        got = ours(inputs[:count])
        assert got.dtype == torch.float32
        assert (got - logits[:count]).abs().max() < 1e-4 * logits.abs().max()
    # As the manifest has it: 360 of 360.
    assert zoo.evaluate(str(made.file)).correct == 360
    assert ours.zoo_info.weights == expected.zoo_info.weights


def test_every_pixel_reaches_a_file_of_pixels_as_it_was(root: Path) -> None:
    """Normalised and back in floating point, of which cutting off decimals would make the pixel below."""
    about = msgspec.structs.replace(exports.made(root, "torch-export").about, input="uint8")
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    mean, std = about.preprocess.mean[0], about.preprocess.std[0]
    assert torch.equal(network.as_taken(about, (pixels / 255 - mean) / std), pixels)


def test_check_compares_the_score_of_a_file_with_the_manifests_claim(root: Path) -> None:
    made = exports.made(root, "onnx")
    outcome = told("evaluate", made.file, "--data", "digits", "--check")
    claim = zoo.info(NETWORK)["weights"][0]["scores"]["digits/test"]
    assert outcome["check"]["agrees"]
    assert (outcome["correct"], outcome["fingerprint"]) == (claim["correct"], claim["fingerprint"])
    assert outcome["weights"] == str(made.file)


def test_a_file_of_another_precision_is_compared_as_another_network(root: Path) -> None:
    made = exports.made(root, "onnx")
    exact = network.open_file(made.file)
    half = network.ExportedNetwork(
        msgspec.structs.replace(exact.about, precision="float16"), exact._run, exact.zoo_info
    )
    methods = [by_name.check(net, "digits")[1].method for net in (exact, half)]  # type: ignore[arg-type]  # exported
    assert methods == ["counts", "Fisher's exact test"]


def test_predict_shows_the_class_names_in_the_file(root: Path) -> None:
    made = exports.made(root, "torch-export")
    done = printed("predict", made.file, DIGIT, "-k", "1")
    assert done.split()[-1] == "3"


def test_weights_of_another_sha256_have_no_claim(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = copied(exports.made(root, "torch-export"), tmp_path)
    current = registry.current().find(NETWORK)
    assert current.weights is not None
    other = current._replace(weights=zoo.manifest.Weights(file="other.safetensors", sha256="0" * 64))
    monkeypatch.setattr(registry.Registry, "find", lambda *_, **__: other)
    with caplog.at_level(logging.WARNING, "zoo"):
        opened = network.open_file(file)
    assert opened.zoo_info.weights is None
    assert "its scores do not apply" in caplog.text


@pytest.mark.first(1)
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_changed_after_it_was_written_is_an_error(root: Path, tmp_path: Path, format: Format) -> None:
    file = copied(exports.made(root, format), tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{file.name} has sha256 .* it was changed"):
        network.open_file(file)
    renamed = file.rename(tmp_path / f"other{file.suffix}")
    formats.sidecar(file).rename(formats.sidecar(renamed))
    with pytest.raises(IntegrityError, match=r"has sha256 .* it was changed"):
        network.open_file(renamed)


@pytest.mark.parametrize("format", FORMATS)
def test_half_a_file_is_an_error_that_names_it(root: Path, tmp_path: Path, format: Format) -> None:
    file = copied(exports.made(root, format), tmp_path)
    formats.sidecar(file).unlink()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(FileFormatError, match=file.name):
        network.open_file(file)


def test_a_foreign_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    exports.needs("onnx")
    import onnx

    node = onnx.helper.make_node("Flatten", ["images"], ["logits"])
    kind = onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info("images", kind, ["batch", 1, 2, 5])
    logits = onnx.helper.make_tensor_value_info("logits", kind, ["batch", 10])
    graph = onnx.helper.make_graph([node], "foreign", [images], [logits])
    file = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), file)
    with pytest.raises(FileFormatError, match="does not state how its input is prepared") as caught:
        zoo.evaluate(str(file), "digits")
    assert "zoo convert" in caught.value.hint


def test_an_archive_of_torchs_without_a_description_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "network.pt2"
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(FileFormatError, match="does not state how its input is prepared"):
        network.open_file(file)


def test_a_missing_runtime_names_the_extra(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exports.made(root, "onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="needs onnxruntime") as found:
        network.open_file(made.file)
    assert found.value.hint == "pip install 'zoo-vision[export]'"


def test_a_file_computes_no_features_and_no_gradients(root: Path) -> None:
    opened = network.open_file(exports.made(root, "torch-export").file)
    with pytest.raises(WeightsError, match="computes no features"):
        opened.forward_features(torch.zeros(1, 1, 8, 8))
    with pytest.raises(WeightsError, match="computes no gradients"):
        opened(torch.zeros(1, 1, 8, 8, requires_grad=True))


def test_a_file_takes_neither_weights_nor_arguments(root: Path) -> None:
    made = exports.made(root, "torch-export")
    with pytest.raises(SpecError, match="is a network with its weights"):
        zoo.evaluate(str(made.file), "digits", weights="other.safetensors")


def test_a_file_that_does_not_exist_is_an_error(inside: Path) -> None:
    with pytest.raises(WeightsError, match=r"digits\.onnx: no such file"):
        zoo.evaluate("resnet20.digits.onnx", "digits")


def test_a_name_of_weights_is_not_a_file_unless_one_is_there(inside: Path) -> None:
    assert extensions.opener_of("resnet20.onnx") is None
    with pytest.raises(UnknownNameError):
        zoo.evaluate("resnet20.onnx", "digits")
    (inside / "resnet20.onnx").touch()
    assert extensions.opener_of("resnet20.onnx")
    assert extensions.opener_of("./networks/mine.pt2")
    assert extensions.opener_of("hf-hub:owner/name.onnx") is None
    assert extensions.opener_of("resnet20.digits") is None


# ---- hostile files -----------------------------------------------------------------------------------------------


class Mark:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.place, "code ran"))


def rewritten(file: Path, folder: Path, changes: dict[str, Any]) -> Path:
    """Copies an archive with other members; of a JSON one, a function of its content."""
    target = folder / file.name
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for end, change in changes.items():
                if name.endswith(end):
                    content = change(json.loads(content)) if callable(change) else change
            new.writestr(name, content)
        for end, change in changes.items():
            if not any(name.endswith(end) for name in old.namelist()):
                new.writestr(f"network/{end}", change)
    return target


def program_with(part: str, text: str) -> Callable[[Any], bytes]:
    def change(program: Any) -> bytes:
        if part == "guards_code":
            program["guards_code"] = [text]
        elif part == "target":
            program["graph_module"]["graph"]["nodes"][0]["target"] = text
        else:
            values = program["graph_module"]["graph"]["tensor_values"]
            next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}
        return json.dumps(program).encode()

    return change


CODE = [
    ("expr_str", "__import__('os').getpid()"),
    ("expr_str", "exec(chr(49))"),
    ("expr_str", "Symbol('s1').__class__"),
    ("guards_code", "open('x', 'w')"),
    ("guards_code", "L['images'].size().__class__"),
    ("target", "torch.serialization.os.system"),
    ("target", "torch.ops.aten.from_file.default"),
]


@pytest.mark.parametrize(("part", "text"), CODE)
def test_a_program_with_code_in_it_is_not_opened(root: Path, tmp_path: Path, part: str, text: str) -> None:
    """Torch evaluates sizes and guards as Python, and finds functions by following names through its modules."""
    file = exports.made(root, "torch-export").file
    hostile = rewritten(file, tmp_path, {"models/model.json": program_with(part, text)})
    with pytest.raises(FileFormatError, match="not opened, since torch could run code from it"):
        network.open_file(hostile)


@pytest.mark.first(1)
@pytest.mark.parametrize("architecture", ["stn_tutorial_mnist", "ror3_56", "deform_cnn", "fractalnet20_narrow"])
def test_what_networks_of_ours_export_is_opened(architecture: str, tmp_path: Path) -> None:
    """Some call autocast or torchvision; guards on any size have max and min in them."""
    module = zoo.create(architecture, pretrained=False).eval()
    preprocess = module.zoo_info.preprocess
    about = About("torch-export", "float32", "float32", architecture, 10, preprocess)
    file = tmp_path / "network.pt2"
    writers.write(graph.Graph(module, preprocess, "float32", "float32"), about, file, None)
    runtime.open_torch_export(file)


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/constants/custom_obj_0", "data/aotinductor/a.so"]
)
def test_a_pickle_or_a_library_in_an_archive_is_not_opened(root: Path, tmp_path: Path, member: str) -> None:
    import pickle

    file, mark = exports.made(root, "torch-export").file, tmp_path / "mark"
    with pytest.raises(FileFormatError, match="not opened, since torch could run code from it"):
        network.open_file(rewritten(file, tmp_path, {member: pickle.dumps(Mark(mark))}))
    assert not mark.exists()


def test_an_exported_file_holds_no_pickle(root: Path) -> None:
    with zipfile.ZipFile(exports.made(root, "torch-export").file) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    starts = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    assert not [name for name, content in members.items() if content.startswith(starts) and "weight_" not in name]


@pytest.mark.first(1)
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_runs_in_a_sandbox(root: Path, monkeypatch: pytest.MonkeyPatch, format: Format) -> None:
    file = exports.made(root, format).file
    images = torch.rand(3, 1, 8, 8)
    here = network.open_file(file)(images)
    monkeypatch.setattr(sandbox, "_layers", None)
    opened = network.open_file(file)
    assert isinstance(opened._run, network.Apart)
    assert (opened(images) - here).abs().max() < 1e-5
    folder = opened._run._folder
    assert folder.is_dir()
    del opened
    gc.collect()
    assert not folder.exists()
