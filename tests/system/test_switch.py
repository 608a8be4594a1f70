"""Switches of the environment: a word that is neither true nor false is refused, since either guess may be wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zoo import hub
from zoo.data import image_file
from zoo.errors import SpecError
from zoo.system import sandbox
from zoo.trust import policy


@pytest.mark.parametrize(
    ("word", "is_on"),
    [(word, True) for word in ("1", "1 ", "on", "YES", "True", "y", " t")]
    + [(word, False) for word in ("", " ", "0", "off", "No", "FALSE", "n", "f ")],
)
def test_a_switch_is_on_or_off(word: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", word)
    monkeypatch.setenv("ZOO_STRICT", word)
    assert hub.offline_switch() == ("ZOO_OFFLINE" if is_on else "")
    assert bool(policy.refuses_first_use()) is is_on


@pytest.mark.parametrize("word", ["2", "strict", "of", "1,", "\x1b[1m"])
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("ZOO_OFFLINE", hub.offline_switch),
        ("HF_HUB_OFFLINE", hub.offline_switch),
        ("ZOO_STRICT", policy.refuses_first_use),
    ],
)
def test_a_switch_that_is_neither_is_refused_with_what_is_accepted(
    name: str, ask: Callable[[], str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, word)
    with pytest.raises(SpecError, match=f"{name} is .* neither true nor false") as caught:
        ask()
    assert caught.value.message.isprintable()
    assert "1, on, yes, true" in caught.value.hint
    assert "0, off, no, false" in caught.value.hint


@pytest.mark.parametrize("word", ["4G", "-1", "0", "1e9", "\u0664", "9" * 30])
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("ZOO_MAX_PIXELS", image_file.max_pixels),
        ("ZOO_MAX_DATA_BYTES", image_file.max_bytes),
        ("ZOO_MAX_MEMORY_BYTES", lambda: sandbox.around(writable=Path())),
    ],
)
def test_a_limit_that_is_no_number_is_refused(
    name: str, ask: Callable[[], object], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, word)
    with pytest.raises(SpecError, match=f"{name} is .* not a whole number"):
        ask()
