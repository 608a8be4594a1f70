"""The one place for what is untrusted: a checkpoint that is converted, an exported file that runs.

:mod:`zoo.system.process` starts the process with :func:`environment`, and there :func:`enter` closes it, layer by
layer, before anything of the file is read. Each layer is used where the system has it; ``docs/security.md`` says which
system has which.

======== ================================================== =========================================================
layer    system                                             what it takes away
======== ================================================== =========================================================
python   all                                                sockets and child processes of Python code
memory   Linux                                              memory above the limit
syscalls Linux on x86_64 and aarch64 (seccomp)              every socket, other programs, other processes, namespaces
files    Linux from 5.13 (Landlock)                         writing anywhere but to the named folders
network  Linux, if namespaces are allowed                   network interfaces, for kernels without the former two
rights   Linux                                              what only root may do, but for files of other users
======== ================================================== =========================================================

None of them can be taken back by the process or its children.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from zoo.system.switch import limit

_GIB = 1 << 30

VARIABLE = "ZOO_MAX_MEMORY_BYTES"

PASSED = frozenset(
    {
        "HOME", "USERPROFILE", "SYSTEMROOT", "PATH",
        "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONUTF8",
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "ZOO_CACHE", "ZOO_CONFIG", "ZOO_DISABLE_PLUGINS",
        "ZOO_MAX_CHECKPOINT_BYTES", "ZOO_MAX_DATA_BYTES", "ZOO_MAX_PIXELS",
    }
)  # fmt: skip
"""The variables that it gets of this process: where libraries and plugins are, and limits. None of them is a secret."""


class Sandbox(msgspec.Struct, frozen=True):
    """The limits of a process: the folders that it may write to, and the bytes of memory that it may take."""

    writable: tuple[str, ...]
    memory: int


def around(*files: Path, writable: Path) -> Sandbox:
    """Returns the limits for work on ``files`` that writes to the folder ``writable``.

    8 GiB of memory and 8 bytes for each byte of the files; or ``ZOO_MAX_MEMORY_BYTES``.
    """
    sizes = sum(file.stat().st_size for file in files if file.exists())
    return Sandbox((str(writable.absolute()),), limit(VARIABLE) or 8 * (_GIB + sizes))


def environment(sandbox: Sandbox) -> dict[str, str]:
    """Returns the whole environment of its process."""
    passed = {name: value for name, value in os.environ.items() if name in PASSED}
    offline = {"ZOO_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    # Each arena of the C library reserves 64 MB of addresses, which count.
    return passed | offline | {"TMPDIR": sandbox.writable[0], "MALLOC_ARENA_MAX": "2"}


_layers: frozenset[str] | None = None


def layers() -> frozenset[str] | None:
    """Returns the layers around this process; None outside of a sandbox."""
    return _layers


def enter(sandbox: Sandbox) -> frozenset[str]:
    """Closes this process; returns the layers that the system has. There is no way back.

    Must be called before the process has a second thread, so before torch is imported.
    """
    global _layers
    entered = {"python"}
    if sys.platform == "linux":
        tried: dict[str, Callable[[], bool]] = {
            "network": _leave_network,
            "files": partial(_restrict_files, sandbox.writable),
            "rights": _drop_privileges,
            "syscalls": _restrict_calls,  # last: it takes away what the others need
        }
        entered |= {name for name, layer in tried.items() if layer()}
    sys.addaudithook(_refuse)
    _layers = frozenset(entered)
    return _layers


def limit_memory(sandbox: Sandbox) -> None:
    """Limits the memory that this process may take from now on; call it when the large libraries are loaded."""
    global _layers
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = pages * resource.getpagesize() + sandbox.memory
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump is a file outside of the named folders
    except (ImportError, OSError, ValueError):  # Windows; macOS, which has no /proc and does not enforce the limit
        return
    _layers = (_layers or frozenset()) | {"memory"}


# ---- Python ------------------------------------------------------------------------------------------------------

_HARMLESS = "socket.gethostname"
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile")


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event.startswith("socket.") and event != _HARMLESS:
        raise PermissionError(errno.EPERM, f"this process has no network ({event})")
    if event in _PROCESSES:
        raise PermissionError(errno.EPERM, f"this process cannot start others ({event})")


# ---- Linux: namespaces -------------------------------------------------------------------------------------------

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET


def _leave_network() -> bool:
    """Moves to a network namespace without an interface; whoever may enter namespaces could leave it again."""
    libc = _libc()
    if libc is None:
        return False
    if libc.unshare(_NEW_NETWORK) == 0:  # root needs no namespace of users, in which other users' folders are not its
        return True
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    with suppress(OSError):  # without these lines, the process only has another name for itself
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _libc() -> Any:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _ = libc.unshare, libc.syscall, libc.prctl
    except (OSError, AttributeError):
        return None
    return libc


_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS


def _call(libc: Any, number: int, *arguments: Any) -> int:
    return int(libc.syscall(ctypes.c_long(number), *arguments))


# ---- Linux: the rights of root -----------------------------------------------------------------------------------

_KEPT = 0b1110
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: the cache may belong to another user."""


def _drop_privileges() -> bool:
    """Drops capabilities: with CAP_PERFMON, root reads the environment of any process in spite of Landlock."""
    libc = _libc()
    header = struct.pack("=Ii", 0x20080522, 0)
    rights = ctypes.create_string_buffer(24)
    if libc is None or not hasattr(libc, "capset") or libc.capget(header, rights) != 0:
        return False
    effective, permitted, *_ = struct.unpack("=6I", rights.raw)
    return bool(libc.capset(header, struct.pack("=6I", effective & _KEPT, permitted & _KEPT, 0, 0, 0, 0)) == 0)


# ---- Linux: Landlock (the numbers of its calls are the same on every machine) ----------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILES, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2 | 1 << 3, 1 << 14
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}
"""The rights over files by the version of Landlock that brought them."""
_TCP, _SCOPES = 0b11, 0b11
"""Binding and connecting (version 4); abstract Unix sockets and signals of processes outside (version 6)."""


def _restrict_files(folders: tuple[str, ...]) -> bool:
    """Leaves reading as it is, and writing to ``folders``: no other file, no program, no signal to others."""
    libc = _libc()
    if libc is None:
        return False
    version = _call(libc, _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rights = sum(bits for since, bits in _FILE_RIGHTS.items() if since <= version) & ~_READ_FILES
    fields = [rights, *([_TCP] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = _call(libc, _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    allowed = dict.fromkeys(folders, rights & ~_EXECUTE)
    for place, bits in {**allowed, os.devnull: rights & (_WRITE_FILE | _TRUNCATE)}.items():
        with suppress(OSError):
            opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", bits, opened)
            _call(libc, _ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
            os.close(opened)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    is_restricted = _call(libc, _RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0
    os.close(rules)
    return is_restricted


# ---- Linux: seccomp ----------------------------------------------------------------------------------------------


class _Calls(NamedTuple):
    """A machine's name for the kernel and its numbers of system calls: those with conditions, and the refused."""

    machine: int
    seccomp: int
    ioctl: int
    clone: int
    kill: int
    tgkill: int
    refused: tuple[int, ...]


_SAME = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442)
"""pidfd_send_signal, io_uring (which opens sockets by itself), open_tree to fspick, pidfd_open, pidfd_getfd,
process_madvise, mount_setattr: the same everywhere."""

_MACHINES = {
    "x86_64": _Calls(
        0xC000003E, 317, ioctl=16, clone=56, kill=62, tgkill=234,
        # socket to accept, bind, listen, socketpair, accept4; execve, execveat; ptrace, process_vm_*, kcmp;
        # unshare, setns; mount, umount2, pivot_root, chroot; mknod*, *_handle_at; bpf, perf_event_open, userfaultfd;
        # modules, kexec; keys; iopl, ioperm; reboot, swap*, acct, clocks, host names; tkill
        refused=(
            41, 42, 43, 49, 50, 53, 288, 59, 322, 101, 310, 311, 312, 272, 308, 165, 166, 155, 161, 133, 259, 303, 304,
            321, 298, 323, 175, 313, 176, 246, 320, 248, 249, 250, 172, 173, 169, 167, 168, 163, 164, 227, 170, 171,
            200, *_SAME,
        ),
    ),
    "aarch64": _Calls(
        0xC00000B7, 277, ioctl=29, clone=220, kill=129, tgkill=131,
        refused=(
            198, 199, 200, 201, 202, 203, 242, 221, 281, 117, 270, 271, 272, 97, 268, 40, 39, 41, 51, 33, 264, 265,
            280, 241, 282, 105, 273, 106, 104, 294, 217, 218, 219, 142, 224, 225, 89, 170, 112, 161, 162, 130,
            *_SAME,
        ),
    ),
}  # fmt: skip

_CLONE3 = 435
_NAMESPACES = 0x7E020000  # the flags CLONE_NEW*
_TERMINAL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which type into the terminal of whoever started the process."""

_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in seccomp_data; the lower halves of arguments
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def _restrict_calls() -> bool:
    """Refuses the system calls that reach other processes, programs, namespaces and every kind of socket."""
    calls, libc = _MACHINES.get(platform.machine()), _libc()
    if calls is None or libc is None:
        return False
    program = _filter(calls, os.getpid())
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(instructions))
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    set_filter = ctypes.c_uint(1)  # SECCOMP_SET_MODE_FILTER
    return _call(libc, calls.seccomp, set_filter, ctypes.c_uint(0), header) == 0


def _filter(calls: _Calls, process: int) -> list[tuple[int, int, int, int]]:
    """Returns the filter as instructions: code, steps to skip if true, if false, value."""

    def refuse(error: int = errno.EPERM) -> tuple[int, int, int, int]:
        return (_RETURN, 0, 0, _FAIL | error)

    allow = (_RETURN, 0, 0, _ALLOW)
    steps = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, calls.machine), refuse(), (_LOAD, 0, 0, _NUMBER)]
    steps += [(_AT_LEAST, 0, 1, 0x40000000), refuse()]  # other numbers for the same calls (x32)
    for number in calls.refused:
        steps += [(_EQUAL, 0, 1, number), refuse()]
    steps += [(_EQUAL, 0, 1, _CLONE3), refuse(errno.ENOSYS)]  # whose flags a filter cannot see: libraries use clone
    steps += [(_EQUAL, 0, 4, calls.clone), (_LOAD, 0, 0, _FIRST), (_HAS_BITS, 0, 1, _NAMESPACES), refuse(), allow]
    for number in (calls.kill, calls.tgkill):
        steps += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST), (_EQUAL, 1, 0, process), refuse(), allow]
    terminal = [step for value in _TERMINAL for step in ((_EQUAL, 0, 1, value), refuse())]
    steps += [(_EQUAL, 0, len(terminal) + 2, calls.ioctl), (_LOAD, 0, 0, _SECOND), *terminal, allow]
    return [*steps, allow]
