"""A process without a network: Python's sockets raise, and where the kernel allows it, no C code gets out either."""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest


class Listener:
    """A server on this machine that counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.connections += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def run(code: str, *words: object) -> str:
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "attempt",
    [
        'socket.create_connection(("127.0.0.1", int(sys.argv[1])))',
        "socket.socket()",
        "socket.socketpair()",
        'socket.getaddrinfo("example.org", 443)',
        'urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1])',
        "__import__('_socket').socket()",
    ],
)
def test_no_socket_opens_in_python(attempt: str, listener: Listener) -> None:
    code = f"""
import socket, sys, urllib.error, urllib.request
from zoo.system import process
process.leave_network()
try:
    {attempt}
    print("open")
except (PermissionError, urllib.error.URLError) as error:
    print(error)
"""
    assert "this process has no network" in run(code, listener.port)
    assert listener.connections == 0


RAW = """
import ctypes, socket, struct, sys
family, kind = int(socket.AF_INET), int(socket.SOCK_STREAM)
from zoo.system import process
is_alone = BEFORE
libc = ctypes.CDLL(None, use_errno=True)
address = struct.pack("<H", family) + struct.pack(">H", int(sys.argv[1])) + bytes([127, 0, 0, 1]) + bytes(8)
print(is_alone, libc.connect(libc.socket(family, kind, 0), address, len(address)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces of Linux")
def test_c_code_cannot_connect_either_where_the_kernel_allows_a_namespace(listener: Listener) -> None:
    assert run(RAW.replace("BEFORE", "None"), listener.port) == "None 0", "the attempt itself works"
    is_alone, answer = run(RAW.replace("BEFORE", "process.leave_network()"), listener.port).split()
    assert (is_alone, answer) in (("True", "-1"), ("False", "0"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces of Linux")
def test_the_process_remains_the_same_users() -> None:
    code = "from zoo.system import process; process.leave_network(); import os; print(os.geteuid(), os.getegid())"
    assert run(code) == f"{os.geteuid()} {os.getegid()}"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="changes the user")
def test_a_user_without_privileges_loses_the_network_as_well(listener: Listener) -> None:
    """Root leaves by another call."""
    first = "import ctypes, os, socket, struct, zoo.system.process; os.setgid(1234); os.setuid(1234)"
    first += "; ctypes.CDLL(None).prctl(4, 1)"  # PR_SET_DUMPABLE, as after a login
    code = f"{first}\n{RAW.replace('BEFORE', 'process.leave_network()')}\nprint(os.geteuid(), os.getegid())"
    said = run(code, listener.port).splitlines()
    assert said[0] in ("True -1", "False 0")
    assert said[1] == "1234 1234"


def test_a_system_without_unshare_still_has_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.system import process

    def none(_: object) -> object:
        return object()

    monkeypatch.delattr(os, "unshare", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", none)
    hooks: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    assert not process.leave_network()
    assert hooks
