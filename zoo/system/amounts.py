"""Amounts as people read them."""

import time


def count(number: int) -> str:
    """Returns ``60.2 M`` for 60,192,808."""
    for unit, symbol in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= 0.9995 * unit:  # so that 999,600 is 1.00 M, not 1e+03 k
            digits = f"{number / unit:#.3g}".rstrip(".")
            return f"{digits}{symbol}"
    return str(number) if number else ""


def size(bytes: int) -> str:
    """Returns ``1.1 MB`` for 1,102,340 bytes."""
    text = count(bytes)
    return f"{text}{'' if text[-1:].isalpha() else ' '}B" if text else ""


def duration(seconds: float) -> str:
    """Returns ``2 h 05 min``, ``12 min``, or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def clock(seconds: float) -> str:
    """Returns the time in ``seconds``: ``14:05 on Friday``."""
    return time.strftime("%H:%M on %A", time.localtime(time.time() + seconds))
