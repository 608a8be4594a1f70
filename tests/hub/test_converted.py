"""Weights of other formats: converted once, found again, made again if their bytes have changed."""

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from support import distributions
from support.children import is_running, wait_for
from support.command import ask
from support.foreign import NAME, calls_here, flip_a_byte, has_state, offer, save_state

import zoo
from zoo import registry
from zoo.errors import IntegrityError, LockError, UnpinnedError
from zoo.hub import cache, converted
from zoo.loading import safetensors_file
from zoo.spec import KeyMap
from zoo.trust import first_use


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HUB", "")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were converted, in this process."""
    return calls_here(monkeypatch)


@pytest.fixture
def state(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The tensors of ``NAME``, which is a .pth file in a directory hub."""
    state = save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth")
    return state


def conversion() -> Path:
    """Returns the only one in the cache."""
    (file,) = (cache.root() / "converted").glob("*.safetensors")
    return file


# ---- once ------------------------------------------------------------------------------------------------------


def test_a_file_is_converted_once_and_then_loaded_without_its_source_or_a_process(
    state: dict[str, torch.Tensor],
    conversions: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="zoo"):
        assert has_state(zoo.create(NAME), state)
    assert [line for line in caplog.messages if line.startswith(f"{NAME}: converted net.pth to safetensors (")]
    (tmp_path / "hub" / "net.pth").unlink()
    for file in (cache.root() / "files").iterdir():
        file.unlink()
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    model = zoo.create(NAME)
    assert has_state(model, state)
    assert model.zoo_info.file == conversion()
    assert conversions == ["net.pth"]


def test_finding_a_conversion_imports_no_torch(state: dict[str, torch.Tensor], conversions: list[str]) -> None:
    zoo.create(NAME)
    code = f"""
import sys
from zoo import registry
from zoo.loading import resolve
print(resolve.use(registry.current().find({NAME!r}))[1])
print(sorted({{"torch", "numpy", "zoo_convert.conversion", "subprocess"}} & sys.modules.keys()))
"""
    for _ in range(2):  # the first process of this search path makes the index of the plugins
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(conversion()), "[]"]


def test_fetch_returns_the_file_as_published(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = zoo.fetch(NAME)
    assert file.suffix == ".pth"
    assert file.read_bytes() == (tmp_path / "hub" / "net.pth").read_bytes()
    assert not (cache.root() / "converted").exists()


def test_the_conversion_describes_itself(state: dict[str, torch.Tensor], conversions: list[str]) -> None:
    zoo.create(NAME)
    about = safetensors_file.metadata(conversion())
    source = zoo.fetch(NAME).stem
    assert (about["model"], about["num_classes"]) == ("resnet20", 10)
    assert about["origin"] == f"converted from net.pth (sha256 {source})"
    assert has_state(zoo.create("resnet20", weights=conversion()), state)


# ---- what decides ------------------------------------------------------------------------------------------------


def job(**fields: Any) -> converted.Job:
    usual: dict[str, Any] = {
        "source": "a" * 64,
        "model": "net",
        "key_map": "",
        "args": {},
        "is_trunk": False,
        "maps": (),
    }
    return converted.Job(**{**usual, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "b" * 64},
        {"model": "other"},
        {"key_map": "keras"},
        {"args": {"width": 2}},
        {"is_trunk": True},
        {"maps": (KeyMap("keras"),)},
    ],
)
def test_what_decides_the_tensors_decides_the_name(fields: dict[str, Any]) -> None:
    assert job(**fields).key != job().key == job().key


def test_values_of_any_type_decide_the_name_and_equal_tables_do_not() -> None:
    assert job(args={"a": 1j}).key != job(args={"a": 2j}).key
    assert job(args=MappingProxyType({"a": 1})).key == job(args={"a": 1}).key


def test_the_converters_version_decides_the_name_and_the_order_of_arguments_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = job(args={"a": 1, "b": 2}).key
    assert job(args={"b": 2, "a": 1}).key == before
    monkeypatch.setattr(converted, "VERSION", converted.VERSION + 1)
    assert job(args={"a": 1, "b": 2}).key != before


@pytest.mark.slow
def test_another_version_of_the_converter_converts_again_and_pruning_removes_the_older_conversion(
    state: dict[str, torch.Tensor], conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.create(NAME)
    old = conversion()
    monkeypatch.setattr(converted, "VERSION", converted.VERSION + 1)
    assert has_state(zoo.create(NAME), state)
    assert len(conversions) == 2
    answer = ask("cache", "prune", "--json")
    assert [row["reason"] for row in json.loads(answer.stdout)["files"]] == ["converted by an older version of Zoo"]
    assert not old.exists()
    assert not converted.record_of(old).exists()


# ---- damage ------------------------------------------------------------------------------------------------------


def test_a_conversion_whose_bytes_changed_is_made_again_and_never_loaded(
    state: dict[str, torch.Tensor], conversions: list[str]
) -> None:
    zoo.create(NAME)
    good = conversion().read_bytes()
    flip_a_byte(conversion())
    assert has_state(zoo.create(NAME), state)
    assert conversion().read_bytes() == good
    assert conversions == ["net.pth"] * 2


@pytest.mark.first(2)
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_a_conversion_without_a_valid_record_is_made_again(
    content: bytes, state: dict[str, torch.Tensor], conversions: list[str]
) -> None:
    zoo.create(NAME)
    converted.record_of(conversion()).write_bytes(content)
    assert has_state(zoo.create(NAME), state)
    assert len(conversions) == 2


# ---- several processes ---------------------------------------------------------------------------------------------

CREATE = f"""
import logging, zoo
logging.basicConfig(level=logging.INFO)
print(sum(tensor.double().sum().item() for tensor in zoo.create({NAME!r}).state_dict().values()))
"""


@pytest.mark.slow
def test_two_processes_that_convert_at_once_both_succeed(state: dict[str, torch.Tensor]) -> None:
    words = [sys.executable, "-c", CREATE]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate(timeout=120) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert said[0][0] == said[1][0] != ""
    assert sum(err.count("converted net.pth to safetensors") for _, err in said) == 1


def test_without_locks_two_processes_that_convert_at_once_both_succeed(
    state: dict[str, torch.Tensor], conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process converts between the moment this one looks and the moment it writes."""
    make, others = converted.make, []

    def make_late(*arguments: Any) -> converted.Record:
        if not others:
            others.append(True)
            others.append(zoo.create(NAME))
        return make(*arguments)

    monkeypatch.setattr(converted, "make", make_late)
    monkeypatch.setattr(converted.cache, "lock", lambda *_, **__: nullcontext(True))
    assert has_state(zoo.create(NAME), state)
    assert has_state(others[1], state)
    assert len(conversions) == 2


HANGS = """
import os, sys, time
from pathlib import Path
from torch import nn

def build(num_classes, in_chans):
    if Path(__file__).with_name("hang").exists():
        print("hangs in", os.getpid(), file=sys.stderr, flush=True)  # all that it may write to
        time.sleep(120)
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * in_chans, num_classes))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_after_a_process_was_killed_while_it_converted_the_next_one_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"slow.py": distributions.plugin("slow", "slow_net"), "slow_model.py": HANGS}
    site = distributions.install(tmp_path / "site", "zoo-slow", {"slow": "slow:plugin"}, files)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    hang = site / "hang"
    torch.save({"1.weight": torch.ones(1000, 12), "1.bias": torch.zeros(1000)}, tmp_path / "slow.pth")
    offer(tmp_path / "hub", tmp_path / "slow.pth", "slow_net.x")
    hang.touch()
    command = [sys.executable, "-c", 'import zoo; zoo.create("slow_net.x")']
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        worker = next(int(line.split()[-1]) for line in child.stderr if line.startswith("hangs in"))
        assert worker != child.pid
        child.send_signal(signal.SIGKILL)
    wait_for(lambda: not is_running(worker))
    hang.unlink()
    assert zoo.create("slow_net.x")[1].weight.sum() == 12_000


# ---- pins and digests -----------------------------------------------------------------------------------------------


def test_an_unpinned_file_is_pinned_and_converted_on_first_use(
    tmp_path: Path, conversions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    state = save_state(tmp_path / "net.pth")
    sha256 = offer(tmp_path / "hub", tmp_path / "net.pth", known="")
    assert has_state(zoo.create(NAME), state)
    assert first_use.pins()[NAME].sha256 == sha256
    assert f"{NAME}: pinned on first use" in caplog.text
    assert has_state(zoo.create(NAME), state)
    assert len(conversions) == 1


@pytest.mark.first(2)
@pytest.mark.parametrize("known", ["", "md5", "sha1"])
def test_a_strict_project_refuses_a_file_that_nothing_determines(
    known: str, tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", known=known)
    monkeypatch.setenv("ZOO_STRICT", "1")
    with pytest.raises(UnpinnedError, match="is not pinned"):
        zoo.create(NAME)
    assert conversions == []


@pytest.mark.parametrize("known", ["sha384", "sha512"])
def test_a_strict_project_accepts_a_file_with_a_strong_digest(
    known: str, tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", known=known)
    monkeypatch.setenv("ZOO_STRICT", "1")
    assert has_state(zoo.create(NAME), state)


@pytest.mark.first(2)
@pytest.mark.parametrize("known", ["sha384", "sha512", "sha1", "md5"])
def test_every_digest_is_checked(known: str, tmp_path: Path, conversions: list[str]) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", known=known)
    flip_a_byte(tmp_path / "hub" / "net.pth")
    with pytest.raises(IntegrityError, match=rf"has {known}:[0-9a-f]+, expected {known}:[0-9a-f]+"):
        zoo.create(NAME)
    assert conversions == []


@pytest.mark.slow
def test_a_lock_records_the_digest_and_refuses_another(tmp_path: Path, inside: Path) -> None:
    save_state(tmp_path / "net.pth")
    offer(tmp_path / "hub", tmp_path / "net.pth", known="sha512")
    zoo.fetch(NAME)
    assert ask("lock", NAME).exit_code == 0
    assert 'digest = "sha512:' in (inside / "zoo.lock").read_text()
    assert ask("lock", "--check").exit_code == 0
    manifest = tmp_path / "hub" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("sha512:", "sha512:" + "0" * 128 + '"#'))
    registry.clear()
    with pytest.raises(LockError, match="digest locked sha512"):
        zoo.fetch(NAME)


# ---- the cache's commands ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_cache_lists_and_verifies_conversions(state: dict[str, torch.Tensor], conversions: list[str]) -> None:
    zoo.create(NAME)
    source, made = zoo.fetch(NAME), conversion()
    rows = {row["file"]: row for row in json.loads(ask("cache", "list", "--json").stdout)}
    assert rows.keys() == {str(source), str(made)}
    assert rows[str(made)]["weights"] == [NAME]
    assert rows[str(made)]["converted_from"] == source.stem
    assert rows[str(made)]["size"] == made.stat().st_size
    assert f"{NAME} (converted)" in ask("cache", "list").stdout
    assert ask("cache", "verify").exit_code == 0
    got = made.read_bytes()
    flip_a_byte(made)
    answer = ask("cache", "verify", "--json")
    assert answer.exit_code == 1
    assert [row["file"] for row in json.loads(answer.stdout) if not row["ok"]] == [str(made)]
    assert not made.exists()
    zoo.create(NAME)
    assert made.read_bytes() == got


@pytest.mark.slow
def test_pruning_removes_a_conversion_with_all_that_belongs_to_it(
    state: dict[str, torch.Tensor], conversions: list[str]
) -> None:
    zoo.create(NAME)
    prune = ("cache", "prune", "--older-than", "0s", "--json")
    size = conversion().stat().st_size
    rows = {row["path"]: row for row in json.loads(ask(*prune).stdout)["files"]}
    assert [row["freed"] for row in rows.values() if "converted" in row["path"]] == [size]
    assert [*(cache.root() / "converted").iterdir()] == []


@pytest.mark.slow
def test_pruning_removes_what_a_killed_conversion_left(state: dict[str, torch.Tensor], conversions: list[str]) -> None:
    zoo.create(NAME)
    part = conversion().with_name(f".{conversion().name}.part-0123456789ab")
    part.write_bytes(b"half")
    assert part.name not in ask("cache", "prune").stdout, "it may still be written"
    os.utime(part, (0, 0))
    assert "written by a process that has ended" in ask("cache", "prune").stdout
    assert not part.exists()
    assert conversion().exists()
