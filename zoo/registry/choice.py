"""Which plugins the user chose: by environment variables, and by ``zoo plugins disable`` and ``enable``."""

import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from zoo.errors import PluginError
from zoo.system import storage

ONLY, WITHOUT = "ZOO_PLUGINS", "ZOO_DISABLE_PLUGINS"

_HEAD = "# Plugins that Zoo does not import. zoo plugins disable NAME and zoo plugins enable NAME change it.\n"

log = logging.getLogger("zoo")


class Choice(msgspec.Struct, frozen=True):
    """The names in ``ZOO_PLUGINS`` and ``ZOO_DISABLE_PLUGINS``, and those that this user disabled."""

    only: frozenset[str]
    without: frozenset[str]
    disabled: frozenset[str]

    def why_disabled(self, name: str) -> str:
        """Why the plugin ``name`` is disabled; empty if it is not."""
        if name in self.without:
            return f"listed in {WITHOUT}"
        if self.only and name not in self.only:
            return f"not listed in {ONLY}"
        return f"zoo plugins enable {name} undoes it" if name in self.disabled else ""

    def warn_of_unknown(self, known: Collection[str]) -> None:
        """Warns of unknown names in the environment variables, which would have no effect."""
        for variable, wanted in ((ONLY, self.only), (WITHOUT, self.without)):
            for name in sorted(wanted - {*known}):
                from difflib import get_close_matches

                near = get_close_matches(name, known, n=1)
                guess = f"; did you mean {near[0]}?" if near else ""
                log.warning("%s names %r, but no such plugin is installed%s", variable, name, guess)


def read() -> Choice:
    """The choice in this process."""
    return Choice(_names_in(ONLY), _names_in(WITHOUT), disabled())


def place() -> Path:
    """Where the plugins that this user disabled are written."""
    return storage.config_folder() / "plugins.toml"


def disabled() -> frozenset[str]:
    """The plugins that this user disabled; raises :class:`PluginError` if their file cannot be read."""
    file = place()
    try:
        if not file.exists():
            return frozenset()
        from zoo.system import toml  # not for a file that few have

        text = file.read_text(encoding="utf-8")
        return frozenset(msgspec.convert(toml.loads(text), _Settings).disabled)
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{file} cannot be read: {error}", hint='Expected disabled = ["NAME", ...]. Repair or remove the file.'
        ) from None


def change_disabled(change: Callable[[frozenset[str]], frozenset[str]]) -> None:
    """Changes the plugins that this user disabled; raises :class:`StorageError`, or as :func:`disabled`."""
    file = place()
    with storage.explained(file, 0), storage.lock(file.with_name(f"{file.name}.lock")):
        before = disabled()
        if (after := change(before)) != before:
            lines = "".join(f"    {msgspec.json.encode(name).decode()},\n" for name in sorted(after))
            storage.replace(file, f"{_HEAD}disabled = [\n{lines}]\n".encode())


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    disabled: list[str] = []


def _names_in(variable: str) -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
