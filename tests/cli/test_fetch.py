"""``zoo fetch``: several names and patterns at a time, what it shows where, how fast it says no."""

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from support.command import ask
from support.hub_entries import arrived
from support.hub_server import HubServer
from support.terminal import draw

from zoo import registry

CONTENTS = {tag: hashlib.shake_256(tag.encode()).digest(400_000) for tag in ("a", "b", "c", "d")}
SHA256S = {tag: hashlib.sha256(content).hexdigest() for tag, content in CONTENTS.items()}


@pytest.fixture
def served(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with resnet20.a to .d, .twin, which is .a, and .e, which is too; a folder describes them all."""
    hub_server.commit("zoo/four", {f"{tag}.safetensors": content for tag, content in CONTENTS.items()})
    manifest = "".join(
        f'[resnet20.{tag}]\nrepo = "zoo/four"\nfile = "{tag}.safetensors"\nsha256 = "{sha256}"\nsize = 400000\n'
        for tag, sha256 in SHA256S.items()
    )
    manifest += f'[resnet20.twin]\nrepo = "zoo/four"\nfile = "a.safetensors"\nsha256 = "{SHA256S["a"]}"\n'
    manifest += f'[resnet20.e]\nrepo = "zoo/four"\nfile = "a.safetensors"\nsha256 = "{SHA256S["a"]}"\n'
    folder = tmp_path / "described"
    folder.mkdir()
    (folder / "manifest.toml").write_text(manifest)
    monkeypatch.setenv("ZOO_HUB", f"{folder},{hub_server.mirror_url}")
    yield hub_server
    registry.clear()


def files(answer: Result) -> list[bytes]:
    return [Path(line).read_bytes() for line in answer.stdout.splitlines()]


def test_several_names_are_fetched_at_a_time_and_told_in_their_order(served: HubServer) -> None:
    served.inject("slow", "/a.", seconds=0.05)
    served.inject("slow", "/b.", seconds=0.02)
    answer = ask("fetch", "resnet20.c", "resnet20.a", "resnet20.b")
    assert answer.exit_code == 0
    assert files(answer) == [CONTENTS["c"], CONTENTS["a"], CONTENTS["b"]]
    assert answer.stderr == ""
    assert served.most_at_once > 1


def test_jobs_bounds_how_many_are_fetched_at_a_time(served: HubServer) -> None:
    for _ in range(4):
        served.inject("slow", "/mirror/", seconds=0.01)
    assert ask("fetch", "resnet20.[a-d]", "--jobs", 2).exit_code == 0
    assert served.most_at_once == 2
    assert len(served.bodies()) == 4


def test_two_names_of_one_file_are_one_download(served: HubServer) -> None:
    served.inject("slow", "/a.", seconds=0.05)
    answer = ask("fetch", "resnet20.a", "resnet20.twin")
    assert answer.exit_code == 0
    assert len(set(answer.stdout.splitlines())) == 1
    assert files(answer) == [CONTENTS["a"]] * 2
    assert len(served.bodies()) == 1


def test_a_pattern_names_all_weights_that_match_it(served: HubServer) -> None:
    answer = ask("fetch", "resnet20.[b-s]")
    assert answer.exit_code == 0
    assert files(answer) == [CONTENTS["b"], CONTENTS["c"], CONTENTS["d"], CONTENTS["a"]]
    again = ask("fetch", "resnet20.[b-s]", "--json")
    rows = {row["name"]: row for row in json.loads(again.stdout)}
    assert set(rows) == {"resnet20.b", "resnet20.c", "resnet20.d", "resnet20.e"}
    assert all(row["ok"] and row["pinned"] for row in rows.values())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing_like_it.*"], 2, "error: No weights match 'nothing_like_it.*'."),
        (["resnet20.e", "--allow-unpinned"], 2, "weights without a sha256 are pinned on first use."),
        (["resnet20.a", "--jobs", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_meant_says_so(served: HubServer, words: list[str], code: int, said: str) -> None:
    answer = ask("fetch", *words)
    assert (answer.exit_code, answer.stdout) == (code, "")
    assert said in answer.stderr
    assert served.requests == []


def test_one_that_fails_keeps_no_other_from_being_fetched(served: HubServer) -> None:
    served.inject("flip", "/b.")
    answer = ask("fetch", "resnet20.a", "resnet20.b", "resnet20.nope", "resnet20.d", "--json")
    assert answer.exit_code == 1
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert {name: row["ok"] for name, row in rows.items()} == {
        "resnet20.a": True,
        "resnet20.d": True,
        "resnet20.b": False,
        "resnet20.nope": False,
    }
    assert SHA256S["b"] in rows["resnet20.b"]["error"]


def test_a_source_that_is_named_is_the_only_one_asked(served: HubServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = ask("fetch", "resnet20.[a-d]", "--source", tmp_path / "empty")
    assert answer.exit_code == 1
    assert answer.stderr.count("No source served") == 4
    assert served.requests == []
    assert ask("fetch", "resnet20.[a-d]", "--source", served.mirror_url).exit_code == 0


def zoo(*words: str) -> list[str]:
    return [sys.executable, "-m", "zoo", *words]


def test_a_terminal_shows_one_line_of_progress_and_a_pipe_has_one_line(
    served: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    for _ in range(8):
        served.inject("slow", "/mirror/", seconds=0.05)
    names = [f"resnet20.{tag}" for tag in CONTENTS]
    piped = subprocess.run(zoo("fetch", names[0]), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"resnet20.a: fetching 0.\d MB from http://\S+\n", piped.stderr)
    shown, stdout = draw(zoo("fetch", *names), on="stderr", columns=120)
    paths = stdout.splitlines()
    assert [Path(path).read_bytes() for path in paths] == [*CONTENTS.values()]
    assert b"4 files" in shown
    assert b"of 1.6 MB" in shown
    assert b"\n" not in shown, "one line"
    assert shown.rstrip().endswith(b"\x1b[2K\x1b[?25h"), "at the end it is cleared"


def test_ctrl_c_ends_a_fetch_at_once_and_what_arrived_is_continued(served: HubServer) -> None:
    import signal

    served.inject("hang", "/a.", after=200_000, seconds=120)
    with subprocess.Popen(zoo("fetch", "resnet20.a"), stderr=subprocess.PIPE, text=True) as process:
        while arrived(SHA256S["a"]) < 131_072:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)  # the server would be silent for longer
    assert (process.returncode, said) == (130, "Interrupted.\n")
    assert ask("fetch", "resnet20.a").exit_code == 0
    assert served.bodies()[-1].range.startswith("bytes=")
