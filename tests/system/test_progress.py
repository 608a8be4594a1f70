"""Progress on standard error: bars on a terminal, one line for a download without one."""

import re
import sys

import pytest
from support.terminal import draw

from zoo.system import progress

TWO = """
from zoo.system import progress
with progress.bar("outer") as outer:
    outer(1, 4)
    with progress.of_download("inner.tag", "a hub") as inner:
        inner(1_500_000, 6_000_000)
        progress._shown.refresh()
    outer(2, 4)
"""


def test_a_download_without_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.of_download("net.tag", "https://hub") as report:
        for done in (0, 1_000_000, 97_800_000):
            report(done, 97_800_000)
    assert capsys.readouterr() == ("", "net.tag: fetching 97.8 MB from https://hub\n")
    with progress.of_download("net.tag", "https://hub") as report:
        report(0, 0)  # a server that does not say how long the file is
    assert capsys.readouterr().err == "net.tag: fetching from https://hub\n"


def test_other_work_without_a_terminal_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("evaluating") as report:
        assert report is None
    assert capsys.readouterr() == ("", "")


def test_a_download_within_other_work_is_a_line_below_it() -> None:
    shown = draw([sys.executable, "-c", TWO], on="stderr").terminal
    lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).split(b"\r")
    assert any(b"outer" in line and b"1 of 4" in line for line in lines)
    assert any(b"inner.tag" in line and b"1.5 MB of 6.0 MB" in line for line in lines)
    assert shown.rstrip().endswith((b"\x1b[2K", b"\x1b[?25h")), "at the end all is cleared"
