"""A sandbox from inside: what a file that has taken over the process can still do. Outside, each attempt works."""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.children import is_running

from zoo.errors import WeightsError
from zoo.system import process, sandbox
from zoo.system.sandbox import Sandbox

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


class Listener:
    """A server on this machine that counts who connects, by TCP and by a Unix socket's path."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.path = folder / "socket"
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(str(self.path))
        self._unix.listen()
        self.connections = 0
        for accepting in (self._socket, self._unix):
            threading.Thread(target=self._accept, args=(accepting,), daemon=True).start()

    def _accept(self, accepting: socket.socket) -> None:
        while True:
            try:
                accepting.accept()[0].close()
            except OSError:
                return
            self.connections += 1

    def close(self) -> None:
        self._socket.close()
        self._unix.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path)
    yield listener
    listener.close()


def run(code: str, *words: object) -> str:
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def entering(folder: Path) -> str:
    return f"sandbox.enter(sandbox.Sandbox(({str(folder)!r},), 1 << 30))"


@pytest.mark.parametrize(
    "attempt",
    [
        'socket.create_connection(("127.0.0.1", int(sys.argv[1])))',
        "socket.socket()",
        "socket.socketpair()",
        'socket.getaddrinfo("example.org", 443)',
        'urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1])',
        "__import__('_socket').socket()",
        "subprocess.run([sys.executable, '-c', ''])",
        "os.system('true')",
    ],
)
def test_python_opens_no_socket_and_starts_no_process(attempt: str, listener: Listener, tmp_path: Path) -> None:
    """Other systems have no help of the kernel."""
    code = f"""
import os, socket, subprocess, sys, urllib.error, urllib.request
from zoo.system import sandbox
sys.platform = "another"
assert {entering(tmp_path)} == {{"python"}}
try:
    {attempt}
    print("open")
except (PermissionError, urllib.error.URLError) as error:
    print(error)
"""
    assert "this process " in run(code, listener.port)
    assert listener.connections == 0


RAW = """
import ctypes, os, struct, sys
from zoo.system import sandbox
port, path, writable, parent = int(sys.argv[1]), sys.argv[2], sys.argv[3], os.getppid()
layers = BEFORE
libc = ctypes.CDLL(None, use_errno=True)
tcp = struct.pack("<H", 2) + struct.pack(">H", port) + bytes([127, 0, 0, 1]) + bytes(8)
unix = struct.pack("<H", 1) + path.encode() + bytes(1)

def reads(path):
    file = libc.open(path.encode(), os.O_RDONLY)
    return libc.read(file, ctypes.create_string_buffer(16), 16)

attempts = {
    "connect": lambda: libc.connect(libc.socket(2, 1, 0), tcp, len(tcp)),
    "connect to a path": lambda: libc.connect(libc.socket(1, 1, 0), unix, len(unix)),
    "environment of the parent": lambda: reads(f"/proc/{parent}/environ"),
    "signal to the parent": lambda: libc.kill(parent, 0),
    "a file elsewhere": lambda: libc.open((writable + "-elsewhere").encode(), os.O_WRONLY | os.O_CREAT, 0o600),
    "a file in its folder": lambda: libc.open((writable + "/file").encode(), os.O_WRONLY | os.O_CREAT, 0o600),
    "a file to read": lambda: reads(sandbox.__file__),
}
print("layers", *sorted(layers or ()))
for name, attempt in attempts.items():
    ctypes.set_errno(0)
    print(name, "fails" if attempt() < 0 else "works", sep=": ")
"""
ATTEMPTS = ["connect", "connect to a path", "environment of the parent", "signal to the parent", "a file elsewhere"]


def attempts(listener: Listener, folder: Path, before: str) -> tuple[set[str], dict[str, str]]:
    folder.mkdir(exist_ok=True)
    layers, *lines = run(RAW.replace("BEFORE", before), listener.port, listener.path, folder).splitlines()
    return set(layers.split()[1:]), dict(line.split(": ") for line in lines)


@on_linux
def test_no_c_code_reaches_what_lies_outside(listener: Listener, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    _, outside = attempts(listener, folder, "None")
    assert {outside[name] for name in ATTEMPTS} == {"works"}
    before = listener.connections
    layers, inside = attempts(listener, folder, entering(folder))
    if not {"syscalls", "files"} <= layers:
        pytest.skip("needs a kernel with seccomp and Landlock")
    assert {inside[name] for name in ATTEMPTS} == {"fails"}
    assert inside["a file in its folder"] == inside["a file to read"] == "works"
    assert listener.connections == before == 2


SYSCALLS = """
import ctypes, os, subprocess, sys
from zoo.system import sandbox
parent, layers = os.getppid(), BEFORE
libc = ctypes.CDLL(None, use_errno=True)
refused = {
    "setns": lambda: libc.setns(-1, 0), "unshare": lambda: libc.unshare(-1),
    "ptrace": lambda: libc.ptrace(-1, -1, 0, 0),
    "execve": lambda: libc.execv(b"/no/such/program", None), "io_uring": lambda: libc.syscall(425, 1, None),
    "pidfd": lambda: libc.syscall(434, -1, 0), "mount": lambda: libc.mount(None, None, None, 0, None),
    "terminal": lambda: libc.ioctl(-1, 0x5412, b"x"), "clone3": lambda: libc.syscall(435, None, 0),
}
print("layers", *sorted(layers or ()))
for name, attempt in refused.items():
    ctypes.set_errno(0)
    print(name, attempt() < 0 and ctypes.get_errno(), sep=": ")
libc.kill(os.getpid(), 0) and print("no signal to itself")
os.fork() or os._exit(0)
"""


@on_linux
def test_the_kernel_refuses_the_ways_back_before_it_looks_at_the_arguments(tmp_path: Path) -> None:
    """Of arguments that are not valid, it says EPERM where outside of a sandbox it says so."""
    layers, *lines = run(SYSCALLS.replace("BEFORE", entering(tmp_path))).splitlines()
    if "syscalls" not in layers.split():
        pytest.skip("needs a kernel with seccomp")
    said = dict(line.split(": ") for line in lines)
    assert said.pop("clone3") == "38"  # ENOSYS: the C library takes clone then, whose flags can be seen
    assert said == dict.fromkeys(said, "1")
    assert len(said) == 8
    _, *outside = run(SYSCALLS.replace("BEFORE", "None")).splitlines()
    assert not {line.split(": ")[1] for line in outside} & {"1", "38"}


@on_linux
def test_the_process_remains_the_same_users(tmp_path: Path) -> None:
    code = f"import os; from zoo.system import sandbox; {entering(tmp_path)}; print(os.geteuid(), os.getegid())"
    assert run(code) == f"{os.geteuid()} {os.getegid()}"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="changes the user")
def test_a_user_without_privileges_is_closed_in_as_well(listener: Listener, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o777)
    change = "(os.setgid(1234), os.setuid(1234), ctypes.CDLL(None).prctl(4, 1))"  # PR_SET_DUMPABLE, as after a login
    layers, inside = attempts(listener, folder, f"{change} and {entering(folder)}")
    if not {"syscalls", "files"} <= layers:
        pytest.skip("needs a kernel with seccomp and Landlock")
    assert {inside[name] for name in ATTEMPTS} == {"fails"}
    assert listener.connections == 0


def test_a_system_without_these_calls_still_has_the_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object, **__: object) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", none)
    monkeypatch.setattr(sandbox, "_layers", None)
    hooks: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    assert sandbox.enter(Sandbox((str(tmp_path),), 1 << 30)) == {"python"}
    assert hooks


# ---- the process -------------------------------------------------------------------------------------------------

WORK = """
import os

def variables():
    return dict(os.environ)

def fill(size):
    return len(bytearray(size))

def layers():
    from zoo.system import sandbox
    return sorted(sandbox.layers())
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[process.Worker]:
    (tmp_path / "its_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("HF_TOKEN", "ZOO_KEY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "ANYTHING"):
        monkeypatch.setenv(name, "a secret")
    worker = process.Worker(sandbox=Sandbox((str(tmp_path),), 1 << 30))
    yield worker
    worker.close()
    assert not is_running(worker.pid)


def test_its_environment_has_no_secret_and_its_memory_an_end(worker: process.Worker) -> None:
    def ask(function: str, **arguments: object) -> object:
        return worker.ask(f"its_work:{function}", arguments, what="x", timeout=120, hint="")

    variables = ask("variables")
    assert isinstance(variables, dict)
    assert "a secret" not in variables.values()
    assert variables["ZOO_OFFLINE"] == "1"
    assert variables.keys() <= sandbox.PASSED | {
        "ZOO_OFFLINE", "HF_HUB_OFFLINE", "TMPDIR", "MALLOC_ARENA_MAX", "PYTHONPATH",
    } | {name for name in variables if name.startswith(("KMP_", "TORCH", "__CF"))}  # fmt: skip
    if "memory" in msgspec.convert(ask("layers"), list[str]):
        assert ask("fill", size=1 << 29) == 1 << 29
        with pytest.raises(WeightsError, match="memory ran out"):
            ask("fill", size=1 << 31)


def test_the_memory_follows_the_file_or_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(1000))
    assert sandbox.around(file, writable=tmp_path) == Sandbox((str(tmp_path),), 8 * 2**30 + 8000)
    monkeypatch.setenv("ZOO_MAX_MEMORY_BYTES", "5000")
    assert sandbox.around(file, writable=tmp_path).memory == 5000
