"""Functions that run in a process of their own: their results, their errors, and every way to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.children import is_running, wait_for

from zoo.errors import TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.system import process

WORK = """
import os, signal, sys, time
from zoo import errors

def add(left, right):
    return {"sum": left + right, "argv": len(sys.argv), "offline": os.environ.get("ZOO_OFFLINE", "")}

def refuse(kind):
    raise getattr(errors, kind)("it does not fit", hint="try another")

def die(how):
    os.kill(os.getpid(), how)

def leave(code):
    os._exit(code)

def wait(mark):
    open(mark, "w").write(str(os.getpid()))
    time.sleep(120)

def no_file():
    open("/no/such/file")

def speak():
    print("not an answer")
    return 1
"""


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "its_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))


def ask(function: str, timeout: float = 60, **arguments: Any) -> Any:
    return process.ask(f"its_work:{function}", arguments, what="net: check", timeout=timeout, hint="Wait longer.")


def test_the_result_comes_back() -> None:
    assert ask("add", left=1, right=2) == {"sum": 3, "argv": 2, "offline": ""}
    assert ask("speak") == 1


@pytest.mark.parametrize("kind", [TensorMismatchError, UnknownNameError, ZooError])
def test_an_error_is_the_same_here(kind: type[ZooError]) -> None:
    with pytest.raises(kind, match="it does not fit") as caught:
        ask("refuse", kind=kind.__name__)
    assert type(caught.value) is kind
    assert (caught.value.hint, caught.value.exit_code) == ("try another", kind.exit_code)


def test_an_error_of_the_system_is_one_of_ours() -> None:
    with pytest.raises(ZooError, match=r"No such file or directory: '/no/such/file'"):
        ask("no_file")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(
    ("function", "argument", "said"),
    [
        ("die", {"how": int(signal.SIGSEGV)}, "signal SIGSEGV"),
        ("die", {"how": int(signal.SIGKILL)}, "signal SIGKILL, for example because memory ran out"),
        ("leave", {"code": 3}, "exit code 3"),
    ],
)
def test_an_end_without_an_answer_is_described(function: str, argument: dict[str, int], said: str) -> None:
    with pytest.raises(WeightsError, match=f"net: check process crashed: {said}"):
        ask(function, **argument)


def test_too_long_is_an_error_and_ends_the_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(WeightsError, match="net: check took more than 2 s and was stopped") as caught:
        ask("wait", timeout=2, mark=str(mark))
    assert caught.value.hint == "Wait longer."
    assert not is_running(int(mark.read_text()))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"""
from zoo.system import process
process.ask("its_work:wait", {{"mark": {str(mark)!r}}}, what="x", timeout=60, hint="")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_for(lambda: mark.exists() and mark.read_text() != "")
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(int(mark.read_text())))
