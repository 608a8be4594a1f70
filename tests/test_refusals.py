"""What is refused, and in which words: errors that no other test of their module provokes."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
import zoo_look as look
from zoo import data, evaluation, manifest, training
from zoo.cli import cli
from zoo.convert import convert
from zoo.errors import (
    DataError,
    FileFormatError,
    LockError,
    ManifestError,
    PluginError,
    PolicyError,
    SpecError,
    WeightsError,
)
from zoo.spec import Preprocess
from zoo.trust import lock, policy
from zoo_attack.patch_training import train_patch
from zoo_look.network import as_maps

DIGIT = Path(__file__).parents[1] / "examples" / "digit.png"


def digits() -> Any:
    return data.load("digits", "train")


class Ladder(nn.Module):
    """Takes digits, answers with one dimension too many."""

    num_classes = 10

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), 10, 1)


ASKED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a patch for no network": (lambda: train_patch([], digits(), 3), SpecError, "No network"),
    "outputs of three dimensions": (
        lambda: evaluation.evaluate(
            Ladder(), digits(), preprocess=Preprocess(input_size=(1, 8, 8), mean=(0.5,), std=(0.5,))
        ),
        WeightsError,
        r"returns shape \(\d+, 10, 1\), expected \(images, classes\)",
    ),
    "maps of six dimensions": (
        lambda: as_maps(torch.zeros(1, 2, 3, 4, 5, 6), "s1"),
        WeightsError,
        r"s1 outputs shape \(1, 2, 3, 4, 5, 6\)",
    ),
    "Grad-CAM at a vector": (
        lambda: look.attribute("resnet20.digits", DIGIT, "grad_cam", layer="fc"),
        WeightsError,
        "fc does not output maps",
    ),
    "filters of a network without convolution": (lambda: look.filters("hog_svm.c10"), SpecError, "no convolution"),
    "an unknown parametrisation": (
        lambda: look.maximize("resnet20.digits", parametrisation="wavelet"),  # type: ignore[arg-type]  # on purpose
        SpecError,
        "'fourier' nor 'pixels'",
    ),
    "a layer that is not there": (
        lambda: look.features("resnet20.digits", DIGIT, "nowhere"),
        zoo.UnknownNameError,
        "zoo look layers",
    ),
    "a build hook that raises": (lambda: zoo.create("resnet20", depth=21), SpecError, "21"),
}


@pytest.mark.parametrize(("ask", "error", "said"), ASKED.values(), ids=ASKED)
def test_what_cannot_be_done_is_refused_with_the_reason(
    ask: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask()


def torchscript(folder: Path) -> Path:
    file = folder / "model.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    return file


def sparse(folder: Path) -> Path:
    file = folder / "sparse.pth"
    torch.save({"weight": torch.eye(3).to_sparse()}, file)
    return file


def keras_code(folder: Path) -> Path:
    file = folder / "model.keras"
    file.write_bytes(b"PK")
    return file


def keras_of_another_program(folder: Path) -> Path:
    file = folder / "model.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("weights", data=np.zeros(3))
    return file


def empty_graph(folder: Path) -> Path:
    file = folder / "model.onnx"
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), str(file))
    return file


CHECKPOINTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a TorchScript archive": (torchscript, "TorchScript"),
    "a sparse tensor": (sparse, "only ordinary tensors"),
    "a .keras archive": (keras_code, "contains code as well as weights"),
    "HDF5 that Keras did not write": (keras_of_another_program, "Keras"),
    "ONNX without weights": (empty_graph, "no weights"),
}


@pytest.mark.parametrize(("make", "said"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_file_that_holds_no_weights_is_not_converted(make: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=said):
        convert(make(tmp_path), "resnet20", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_converted_weights_are_safetensors(tmp_path: Path) -> None:
    torch.save(zoo.create("resnet20").state_dict(), tmp_path / "in.pth")
    with pytest.raises(WeightsError, match=r"\.safetensors"):
        convert(tmp_path / "in.pth", "resnet20", tmp_path / "out.pth")


LOCKED = 'distribution = "d"\nversion = "1"\nsize = 1\nsha256 = "' + "0" * 64 + '"\n'
SETTINGS: dict[str, tuple[str, Callable[[Path], object], type[Exception], str]] = {
    "a lock of no name": ('version = 1\n[weights."../x"]\n' + LOCKED, lock.read, LockError, "expected arch.tag"),
    "a default that is not locked": (
        'version = 1\n[defaults]\nresnet20 = "c10"\n',
        lock.read,
        LockError,
        "weights does not contain resnet20.c10",
    ),
    "a rule of an unknown publisher": (
        'version = 1\n[[rules]]\npublishers = ["lab"]\n',
        policy.read,
        PolicyError,
        "publisher 'lab'",
    ),
    "an endless tolerance": (
        '[a.b]\nfile = "x"\npinned = false\n[a.b.probe]\nlogits = [[1.0]]\ntolerance = {float32 = {rtol = inf}}\n',
        manifest.read,
        ManifestError,
        "must be finite",
    ),
}


@pytest.mark.parametrize(("text", "read", "error", "said"), SETTINGS.values(), ids=SETTINGS)
def test_a_file_of_settings_that_contradicts_itself_is_refused(
    text: str, read: Callable[[Path], object], error: type[Exception], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    with pytest.raises(error, match=said):
        read(file)


def test_shards_that_cannot_be_counted_or_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.tar files"):
        data.index_shards(tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, content in (("0.png", DIGIT.read_bytes()), ("0.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    data.index_shards(tmp_path)
    with pytest.raises(DataError, match=r"classes\.txt is not UTF-8 text"):
        data.load(tmp_path, "a")


def test_a_file_in_the_place_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(zoo.TrainingError, match="is a file, expected a directory"):
        training.Run(tmp_path / "run").check()


def test_a_data_set_of_a_plugin_has_the_splits_that_it_declares() -> None:
    with pytest.raises(DataError, match=r"mnist_rot has no split 'validation'(?s:.)*train, test"):
        data.load("mnist_rot", "validation")


WORDS: dict[str, tuple[list[str], int, str]] = {
    "a figure of no kind": (
        ["attack", "image", "resnet20.digits", str(DIGIT), "--epsilon", "0.1", "-o", "x.gif"],
        1,
        "expected the suffix",
    ),
    "a lock of nothing": (["lock"], 2, "zoo lock NAME"),
    "a part of a lock checked": (["lock", "resnet20.digits", "--check"], 2, "leave the names out"),
    "one image for two channels": (
        ["look", "deconv", "resnet20.digits", "--channel", "1", "--channel", "2", "--index", "0"],
        2,
        "one channel",
    ),
    "a folder without a manifest": (["manifest", "sign", ".", "--key", str(DIGIT)], 1, "no manifest.toml"),
}


@pytest.mark.parametrize(("words", "code", "said"), WORDS.values(), ids=WORDS)
def test_a_command_that_cannot_be_carried_out_says_what_to_type(
    words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--check" in words:
        (tmp_path / "zoo.lock").write_text("version = 1\n")
    done = CliRunner().invoke(cli, words, prog_name="zoo")
    assert said in done.output
    assert done.exit_code == code


def test_a_plugins_hook_that_raises_is_named_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo_resnet.model

    def broken(**_: Any) -> nn.Module:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(zoo_resnet.model, "cifar_resnet", broken)
    with pytest.raises(PluginError, match=r"resnet20: zoo_resnet\.model:cifar_resnet\(.*\) raised ZeroDivisionError"):
        zoo.create("resnet20")
