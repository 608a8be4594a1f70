"""``zoo cache``: what it shows, what it finds wrong, what it removes, and what it never does."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import Result
from support.command import ask
from support.distributions import install, run
from support.pinned import safetensors_of

import zoo
from zoo import registry
from zoo.hub import cache, maintenance
from zoo.hub.parts import Part
from zoo.loading import safetensors_file

DAY = 86400


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory hub with resnet20.a, .b and .c, which are 10, 20 and 30 kB of nonsense, and an unpinned .d."""
    folder = tmp_path / "described"
    folder.mkdir()
    manifest = ""
    for i, tag in enumerate("abcd", start=1):
        content = safetensors_of(10_000 * i, tag)
        (folder / f"{tag}.safetensors").write_bytes(content)
        known = f'sha256 = "{hashlib.sha256(content).hexdigest()}"' if tag != "d" else "pinned = false"
        manifest += f'[resnet20.{tag}]\nfile = "{tag}.safetensors"\n{known}\n'
    (folder / "manifest.toml").write_text(manifest)
    monkeypatch.setenv("ZOO_HUB", str(folder))
    yield folder
    registry.clear()


def fetch(*tags: str) -> dict[str, Path]:
    """Returns the cached files of resnet20.<tag>, used one day apart, the first longest ago: the last one a day ago."""
    files = {}
    for tag in tags:
        answer = ask("fetch", f"resnet20.{tag}")
        files[tag] = Path(answer.stdout.strip())
    for i, file in enumerate(files.values()):
        age(file, len(tags) - i)
    return files


def age(file: Path, days: float) -> None:
    """Makes ``file`` look as if it was fetched and last used ``days`` ago."""
    then = time.time() - days * DAY
    os.utime(cache.stamp_of(file), (then, then))


def rows(answer: Result) -> list[dict[str, object]]:
    assert answer.exit_code == 0, answer.output
    found: list[dict[str, object]] = json.loads(answer.stdout)
    return found


def left() -> set[str]:
    """Returns all files of the cache but its locks."""
    files = (file for file in cache.root().rglob("*") if file.is_file() and file.suffix != ".lock")
    return {file.name for file in files if file.parent.name != "index"}


# ---- what is there --------------------------------------------------------------------------------------------


def test_list_shows_names_sizes_hashes_and_the_last_use_latest_first(described: Path) -> None:
    files = fetch("a", "b", "d")
    listed = rows(ask("cache", "list", "--json"))
    assert [row["weights"] for row in listed] == [["resnet20.d"], ["resnet20.b"], ["resnet20.a"]]
    assert [row["size"] for row in listed] == [40_000, 20_000, 10_000]
    for row, tag in zip(listed, "dba", strict=True):
        assert row["sha256"] == hashlib.sha256(files[tag].read_bytes()).hexdigest()
        assert row["file"] == str(files[tag])
    shown = ask("cache", "list")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["weights", *(f"resnet20.{tag}" for tag in "dba")]
    assert "3 files, 70.0 kB" in shown.stderr


@pytest.mark.slow
def test_fetching_again_is_a_use_and_looking_is_none(described: Path) -> None:
    file = fetch("a")["a"]
    before = cache.last_used(file)
    assert before == pytest.approx(time.time() - DAY, abs=60)
    ask("cache", "list")
    ask("cache", "verify")
    ask("cache", "prune", "--dry-run", "--older-than", "1h")
    ask("list", "resnet20.*")
    assert cache.last_used(file) == before
    ask("fetch", "resnet20.a")
    assert cache.last_used(file) == pytest.approx(time.time(), abs=60)


def test_an_empty_cache_is_no_error() -> None:
    for words in (["list"], ["verify"], ["prune"], ["prune", "--unreferenced", "--keep-under", "0"]):
        answer = ask("cache", *words)
        assert answer.exit_code == 0, answer.output
        json.loads(ask("cache", *words, "--json").stdout)
    assert not left()


# ---- is it sound ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_verify_hashes_all_and_moves_what_is_wrong_to_quarantine(described: Path) -> None:
    files = fetch("a", "b")
    assert ask("cache", "verify").stdout == "2 files, 30.0 kB hashed, 0 damaged\n"
    stat = files["a"].stat()
    content = bytearray(files["a"].read_bytes())
    content[5000] ^= 1
    files["a"].write_bytes(content)
    os.utime(files["a"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    expected, got = files["a"].stem, hashlib.sha256(content).hexdigest()
    answer = ask("cache", "verify", "--json")
    assert answer.exit_code == 1
    found = {row["weights"][0]: row for row in json.loads(answer.stdout)}
    assert found["resnet20.b"]["ok"] is True
    assert (found["resnet20.a"]["ok"], found["resnet20.a"]["got"]) == (False, got)
    aside = cache.root() / "quarantine" / f"expected-{expected}-got-{got}"
    assert found["resnet20.a"]["quarantine"] == str(aside)
    assert aside.read_bytes() == content
    assert not files["a"].exists()
    assert ask("cache", "verify").exit_code == 0
    assert ask("fetch", "resnet20.a").exit_code == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_elses_cache_is_looked_at_as_far_as_it_may_be_and_left_as_it_is(
    described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o755)
        monkeypatch.setenv("ZOO_CACHE", f"{folder}/cache")
        files = fetch("a", "b", "c")
        files["a"].chmod(0o000)
        files["b"].write_bytes(b"other")
        held = maintenance.contents(())
        os.seteuid(65534)
        try:
            reasons = {one.file: damage.reason for one in held if (damage := maintenance.verify(one))}
            assert {one.kept for one in maintenance.prune(held, keep_under=0)} == {"Permission denied"}
        finally:
            os.seteuid(0)
        assert set(reasons) == {files["a"], files["b"]}
        assert reasons[files["a"]] == "cannot be read or moved: Permission denied"
        assert reasons[files["b"]].endswith(f"cannot be moved to {folder}/cache/quarantine: Permission denied.")
        assert all(file.exists() for file in files.values())


# ---- what may go ----------------------------------------------------------------------------------------------


def test_prune_by_age(described: Path) -> None:
    files = fetch("a", "b", "c")  # 3, 2 and 1 days ago
    dry = ask("cache", "prune", "--older-than", "36h", "--dry-run")
    assert "would remove resnet20.a" in dry.stdout
    assert dry.stdout.splitlines()[-1].startswith("would free 30.0 kB (2 files)")
    assert all(file.exists() for file in files.values())
    answer = ask("cache", "prune", "--older-than", "36h")
    assert "removed resnet20.a: not used since" in answer.stdout
    assert answer.stdout.splitlines()[-1].startswith("freed 30.0 kB (2 files)")
    name = files["c"].name
    assert left() == {name, f"{name}.stamp"}


@pytest.mark.slow
def test_prune_by_size_removes_the_longest_unused_first_and_no_more_than_it_must(described: Path) -> None:
    files = fetch("b", "a", "c")
    answer = ask("cache", "prune", "--keep-under", "50kB", "--json")
    assert json.loads(answer.stdout)["freed"] == 20_000
    assert {tag for tag, file in files.items() if file.exists()} == {"a", "c"}
    assert ask("cache", "prune", "--keep-under", "40kB").stdout.startswith("freed 0 B")
    ask("cache", "prune", "--keep-under", "0")
    assert left() == set()


@pytest.mark.slow
def test_prune_of_what_no_manifest_names(described: Path) -> None:
    files = fetch("a", "b", "d")
    manifest = described / "manifest.toml"
    tables = manifest.read_text().split("[resnet20")
    manifest.write_text("".join(f"[resnet20{table}" for table in tables if table.startswith((".b", ".d"))))
    answer = ask("cache", "prune", "--unreferenced", "--json")
    (row,) = json.loads(answer.stdout)["files"]
    assert (row["path"], row["reason"], row["removed"]) == (str(files["a"]), "not in any manifest", True)
    assert {tag for tag, file in files.items() if file.exists()} == {"b", "d"}
    manifest.write_text("".join(f"[resnet20{table}" for table in tables if table.startswith(".b")))
    ask("cache", "prune", "--unreferenced")
    assert {tag for tag, file in files.items() if file.exists()} == {"b"}


@pytest.mark.slow
def test_nothing_is_unreferenced_while_a_plugin_is_broken(described: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "zoo-broken", {"broken": "broken_plugin:plugin"}, {"broken_plugin.py": "raise ValueError('no')"})
    file = fetch("a")["a"]
    (described / "manifest.toml").unlink()
    process = run("cache", "prune", "--unreferenced", site=site)
    assert process.returncode == 1
    assert "Cannot tell which weights are unreferenced" in process.stderr
    assert "ZOO_DISABLE_PLUGINS=broken" in process.stderr
    assert file.exists()
    assert run("cache", "prune", "--unreferenced", site=site, ZOO_DISABLE_PLUGINS="broken").returncode == 0
    assert not file.exists()


def test_prune_alone_removes_what_was_left_over_and_no_weights(described: Path) -> None:
    file = fetch("a")["a"]
    with Part("0" * 64) as part:
        part.write(b"x" * 5000)
    for path, content in {
        "parts/1.link": b"x" * 100,
        "quarantine/expected-0-got-1": b"x" * 700,
        f"files/{'2' * 64}.safetensors.stamp": b"x" * 30,
        f"files/{file.name}.stamp.12345678.new": b"x" * 4,
    }.items():
        (cache.root() / path).parent.mkdir(exist_ok=True)
        (cache.root() / path).write_bytes(content)
        os.utime(cache.root() / path, (0, 0))
    mine = cache.root() / "files" / "notes.txt"
    mine.write_text("not Zoo's")
    dry = json.loads(ask("cache", "prune", "--dry-run", "--json").stdout)
    assert (cache.root() / "parts" / "1.link").exists()
    answer = json.loads(ask("cache", "prune", "--json").stdout)
    assert dry["freed"] == answer["freed"] == 5834
    assert left() == {file.name, f"{file.name}.stamp", "notes.txt"}


def test_a_file_that_another_program_has_a_link_to_frees_nothing(described: Path, tmp_path: Path) -> None:
    file = fetch("a")["a"]
    os.link(file, tmp_path / "theirs")
    assert json.loads(ask("cache", "prune", "--keep-under", "0", "--json").stdout)["freed"] == 0
    assert not file.exists()


@pytest.mark.parametrize("words", [["--older-than", "soon"], ["--older-than", "-1d"], ["--keep-under", "few"]])
def test_what_is_no_period_or_size_is_a_wrong_question(words: list[str]) -> None:
    answer = ask("cache", "prune", *words)
    assert answer.exit_code == 2
    assert "is not a" in answer.stderr


# ---- what is in use -------------------------------------------------------------------------------------------


def test_a_loaded_file_that_is_removed_stays_readable_and_is_fetched_again_by_the_next_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = zoo.create("resnet20").state_dict()
    sha256 = safetensors_file.write(weights, tmp_path / "hub" / "real.safetensors", {})
    entry = f'[resnet20.real]\nfile = "real.safetensors"\nsha256 = "{sha256}"\n'
    (tmp_path / "hub" / "manifest.toml").write_text(entry)
    monkeypatch.setenv("ZOO_HUB", str(tmp_path / "hub"))
    registry.clear()
    model = zoo.create("resnet20.real")
    assert "removed resnet20.real" in ask("cache", "prune", "--keep-under", "0").stdout
    assert left() == set()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    zoo.create("resnet20.real")
    assert len(left()) == 2
    registry.clear()


def test_a_part_that_a_running_process_writes_stays(described: Path) -> None:
    with Part("0" * 64) as part:
        part.write(b"x" * 5000)
        assert json.loads(ask("cache", "prune", "--json").stdout)["files"] == []
        assert part.path.exists()
    assert json.loads(ask("cache", "prune", "--json").stdout)["freed"] == 5000
