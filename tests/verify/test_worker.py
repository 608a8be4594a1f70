"""``zoo verify`` of weights in another format: both files are checked."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from support.foreign import NAME, calls_here, flip_a_byte, offer, save_state

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.hub import cache, converted
from zoo.loading import safetensors_file


@pytest.fixture(autouse=True)
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """``NAME`` in a directory hub; the files that were converted, in this process."""
    monkeypatch.setenv("ZOO_HUB", "")
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth")
    return calls_here(monkeypatch)


def verify(*words: str) -> Result:
    registry.clear()
    return CliRunner().invoke(cli, ["verify", *words], prog_name="zoo")


def conversion() -> Path:
    (file,) = (cache.root() / "converted").glob("*.safetensors")
    return file


@pytest.mark.first(1)
@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_both_files_are_reported(deep: list[str]) -> None:
    zoo.create(NAME)
    source = zoo.fetch(NAME)
    [row] = json.loads(verify(NAME, "--json", *deep).stdout)
    assert (row["file"], row["sha256"], row["size"]) == (str(source), source.stem, source.stat().st_size)
    made = row["conversion"]
    assert (made["file"], made["size"]) == (str(conversion()), conversion().stat().st_size)
    assert made["sha256"] == cache.sha256_of(conversion(), deep=True)
    assert made["key_map"] == "as-is"
    text = verify(*deep).stdout
    assert f"as pinned (sha256 {source.stem[:8]})" in text
    assert f"converted from it (sha256 {made['sha256'][:8]}), 116 tensors fit, no probe" in text


def test_weights_that_were_only_fetched_are_converted_first(conversions: list[str]) -> None:
    zoo.fetch(NAME)
    assert verify().exit_code == 0
    assert conversions == ["net.pth"]


@pytest.mark.parametrize("which", ["source", "conversion"])
def test_a_changed_byte_is_found_in_either_file(which: str) -> None:
    zoo.create(NAME)
    file = zoo.fetch(NAME) if which == "source" else conversion()
    flip_a_byte(file)
    answer = verify(NAME)
    assert answer.exit_code == 1
    assert f"{file} has sha256 {cache.sha256_of(file)}, expected" in answer.stderr


@pytest.mark.slow
def test_without_its_source_a_conversion_is_verified_alone_unless_deep() -> None:
    zoo.create(NAME)
    zoo.fetch(NAME).unlink()
    answer = verify()
    assert answer.exit_code == 0
    assert "not in the cache, " in answer.stdout
    assert "is not in the cache" in verify(NAME, "--deep").stderr


def test_deep_finds_a_conversion_that_is_not_of_its_source() -> None:
    """Its record has its sha256, as if another program had written both."""
    zoo.create(NAME)
    file = conversion()
    tensors = safetensors_file.read(file)
    tensors["fc.bias"] = tensors["fc.bias"] + 1
    sha256 = safetensors_file.write(tensors, file, safetensors_file.metadata(file))
    record = converted.record_of(file)
    about = json.loads(record.read_text())
    record.write_text(json.dumps({**about, "sha256": sha256}))
    assert verify(NAME).exit_code == 0
    answer = verify(NAME, "--deep")
    assert answer.exit_code == 1
    assert f"The conversion of {NAME} has other tensors than net.pth: 1 differ (fc.bias)." in answer.stderr
    assert f"Remove {file}" in answer.stderr


def test_a_conversion_is_checked_for_finite_values_like_any_file() -> None:
    zoo.create(NAME)
    file = conversion()
    tensors = safetensors_file.read(file)
    tensors["fc.bias"] = torch.full_like(tensors["fc.bias"], torch.inf)
    sha256 = safetensors_file.write(tensors, file, {})
    record = converted.record_of(file)
    record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": sha256}))
    assert "1 tensors contain NaN or infinity: fc.bias" in verify(NAME).stderr


def test_a_probe_is_measured_on_the_converted_network_and_checked_from_then_on(
    tmp_path: Path, conversions: list[str]
) -> None:
    answer = CliRunner().invoke(cli, ["manifest", "probe", str(tmp_path / "hub" / "manifest.toml")], prog_name="zoo")
    assert answer.exit_code == 0, answer.output
    registry.clear()
    zoo.create(NAME)
    assert "logits within" in verify(NAME).stdout
    assert conversions == ["net.pth"]
