"""Takes the network away from a process that reads files of unknown origin."""

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET
_HARMLESS = "socket.gethostname"


def leave_network() -> bool:
    """Cuts this process and its children off the network from now on; there is no way back.

    An audit hook makes every use of a socket in Python raise PermissionError. On Linux, if the kernel allows it, the
    process also moves to a network namespace without an interface, which holds for C code as well. Must be called
    before the process has a second thread, so before torch is imported. Returns whether there is such a namespace.
    """
    sys.addaudithook(_refuse)
    return sys.platform == "linux" and _is_alone()


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event.startswith("socket.") and event != _HARMLESS:
        raise PermissionError(errno.EPERM, f"this process has no network ({event})")


def _is_alone() -> bool:
    if _unshare(_NEW_NETWORK):  # root needs no namespace of users, in which it could not write to other users' folders
        return True
    user, group = os.geteuid(), os.getegid()
    if not _unshare(_NEW_USER | _NEW_NETWORK):
        return False
    with suppress(OSError):  # without these lines, the process only has another name for itself
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _unshare(flags: int) -> bool:
    unshare = getattr(os, "unshare", None)  # Python 3.12
    try:
        if unshare is not None:
            unshare(flags)
            return True
        return bool(ctypes.CDLL(None).unshare(flags) == 0)
    except (OSError, AttributeError):
        return False
