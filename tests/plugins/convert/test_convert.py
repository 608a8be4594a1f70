"""Conversion is strict, says what it did, and runs no code."""

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import distributions

import zoo
from zoo import manifest, registry
from zoo.loading import safetensors_file
from zoo_convert import convert

AKAMASTER = Path(os.environ.get("ZOO_WEIGHTS", "unset"), "akamaster")
needs_weights = pytest.mark.skipif(not AKAMASTER.is_dir(), reason="ZOO_WEIGHTS holds no akamaster weights")
needs_data = pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA is not set")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory hub that the registry knows of."""
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    registry.clear()
    return tmp_path / "hub"


def save(state: object, file: Path) -> Path:
    torch.save(state, file)
    return file


@needs_weights
@needs_data
@pytest.mark.parametrize(
    ("arch", "file", "correct"),
    [
        pytest.param("resnet20", "resnet20-12fca82f.th", 9155, marks=pytest.mark.slow),
        pytest.param("resnet32", "resnet32-d509ac18.th", 9244, marks=pytest.mark.slow),
    ],
)
def test_converted_weights_score_from_a_directory_hub_what_their_author_published(
    hub: Path, arch: str, file: str, correct: int
) -> None:
    report = convert(AKAMASTER / file, arch, hub / f"{arch}.akamaster_c10.safetensors", key_map="akamaster")
    registry.clear()  # the directory has a manifest now
    assert report.key_map == "akamaster"
    score = zoo.evaluate(f"{arch}.akamaster_c10", "cifar10")
    assert (score.correct, score.n) == (correct, 9980)


@needs_weights
def test_the_same_checkpoint_converts_to_the_same_bytes(tmp_path: Path) -> None:
    file = AKAMASTER / "resnet20-12fca82f.th"
    first = convert(file, "resnet20", tmp_path / "a" / "resnet20.x.safetensors", key_map="akamaster")
    second = convert(file, "resnet20", tmp_path / "b" / "resnet20.x.safetensors", key_map="akamaster")
    assert first.sha256 == second.sha256
    assert Path(first.file).read_bytes() == Path(second.file).read_bytes()


@needs_weights
def test_every_renamed_and_added_tensor_is_reported(tmp_path: Path) -> None:
    report = convert(
        AKAMASTER / "resnet20-12fca82f.th", "resnet20", tmp_path / "resnet20.x.safetensors", key_map="akamaster"
    )
    assert ("module.linear.weight", "fc.weight") in report.renamed
    assert len(report.renamed) == 97  # all of the file's tensors
    assert len(report.added) == 19  # one counter each of 19 batch normalisations
    assert all(key.endswith("num_batches_tracked") for key in report.added)
    assert (report.dropped, report.reshaped) == ([], [])


def test_the_entry_beside_the_output_is_the_one_reported_and_names_the_file_by_its_hash(tmp_path: Path) -> None:
    state = zoo.create("resnet20").state_dict()
    report = convert(
        save(state, tmp_path / "mine.pth"), "resnet20.mine", tmp_path / "hub" / "x.safetensors", key_map="as-is"
    )
    [entry] = manifest.read(tmp_path / "hub" / "manifest.toml")
    assert [entry] == list(manifest.parse(report.entry))
    assert (entry.name, entry.sha256, entry.size) == ("resnet20.mine", report.sha256, report.size)


def test_converting_again_replaces_its_entry_and_keeps_the_others(tmp_path: Path) -> None:
    source = save(zoo.create("resnet20").state_dict(), tmp_path / "mine.pth")
    for name in ("resnet20.a", "resnet20.b", "resnet20.a"):
        convert(source, name, tmp_path / f"{name}.safetensors", key_map="as-is", overwrite=True)
    assert [entry.name for entry in manifest.read(tmp_path / "manifest.toml")] == ["resnet20.a", "resnet20.b"]


def test_an_unrelated_checkpoint_is_refused_with_the_first_and_last_of_each_kind(tmp_path: Path) -> None:
    file = save({"a.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(zoo.TensorMismatchError) as caught:
        convert(file, "resnet20", tmp_path / "out.safetensors")
    message = str(caught.value)
    assert "unexpected  a.weight (2, 2)" in message
    assert "missing     conv1.weight (16, 3, 3, 3)" in message
    assert "... and 93 more missing" in message  # of 97 without counters
    assert "missing     fc.bias (10,)" in message
    assert len(message.splitlines()) < 12
    assert not (tmp_path / "out.safetensors").exists()


def test_an_unknown_key_map_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    file = save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(zoo.UnknownNameError, match="akamaster"):
        convert(file, "resnet20", tmp_path / "out.safetensors", key_map="akamastr")


class _Touch:
    """Unpickles by creating a file: what an attacker's checkpoint would do."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, is_zip: bool) -> None:
    file, proof = tmp_path / "hostile.pth", tmp_path / "proof"
    if is_zip:
        torch.save({"state_dict": _Touch(proof)}, file)
    else:
        file.write_bytes(pickle.dumps(_Touch(proof)))
    with pytest.raises(zoo.FileFormatError):
        convert(file, "resnet20", tmp_path / "out.safetensors")
    assert not proof.exists()


@given(st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04"]), st.binary(max_size=200))
@example(b"a", b"")  # an opcode that takes from an empty stack
@settings(deadline=None)
def test_a_file_that_is_no_checkpoint_is_refused(beginning: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "broken.pth")
        file.write_bytes(beginning + rest)
        with pytest.raises(zoo.FileFormatError, match=r"broken\.pth"):
            convert(file, "resnet20", Path(folder, "out.safetensors"))


TWO = """
from torch import nn

class Net(nn.Module):
    def __init__(self, chans, classes):
        super().__init__()
        self.fc = nn.Linear(chans, classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))

def plain(*, num_classes, in_chans):
    return Net(in_chans, num_classes)

def wide(*, num_classes, in_chans, width=1):
    return Net(in_chans * width, num_classes)
"""


def test_a_key_map_with_arguments_that_a_network_does_not_know_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = '(KeyMap("of_wide", args={"width": 2}), KeyMap("of_plain", rename=(("^old", "fc"),)))'
    text = distributions.plugin("two", "two_plain", key_maps=maps).replace("import Model", "import KeyMap, Model")
    text = text.replace('"two_model:build"', '"two_model:plain", head=("fc",)')
    files = {"two.py": text, "two_model.py": TWO}
    distributions.bring(monkeypatch, tmp_path / "site", "zoo-two", {"two": "two:plugin"}, files)
    file = save({"old.weight": torch.ones(5, 3), "old.bias": torch.zeros(5)}, tmp_path / "old.pth")
    assert convert(file, "two_plain", tmp_path / "new.safetensors").key_map == "of_plain"
    other = save({"other.weight": torch.ones(5, 3)}, tmp_path / "other.pth")
    with pytest.raises(zoo.TensorMismatchError, match="of_plain"):
        convert(other, "two_plain", tmp_path / "none.safetensors")


def test_only_a_mapping_of_tensors_is_a_checkpoint(tmp_path: Path) -> None:
    file = save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    with pytest.raises(zoo.FileFormatError, match="mapping of names to tensors"):
        convert(file, "resnet20", tmp_path / "out.safetensors")


def test_what_a_run_wrote_keeps_its_description(tmp_path: Path) -> None:
    """The preprocessing, classes and run record of a trained file survive conversion."""
    about: dict[str, Any] = {"model": "resnet20", "class_names": list("abcde"), "classes": "letters", "run": {"lr": 1}}
    preprocess = zoo.create("resnet20", in_chans=1).zoo_info.preprocess
    about["preprocess"] = msgspec.json.decode(msgspec.json.encode(preprocess))
    source = tmp_path / "model.safetensors"
    safetensors_file.write(zoo.create("resnet20", num_classes=5, in_chans=1).state_dict(), source, about)
    report = convert(source, "resnet20.letters", tmp_path / "out.safetensors")
    kept = safetensors_file.metadata(Path(report.file))
    assert {key: kept[key] for key in about} == about
    assert zoo.create("resnet20", weights=report.file).zoo_info.class_names == tuple("abcde")
