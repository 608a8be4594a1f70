"""How the site reads docstrings: as PyTorch writes them, with ``:class:`Run``` for links and one ``Example:``."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([\w.]+)`")


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        text = _ROLE.sub(lambda found: f"`{found[1]}`", obj.docstring.value)
        obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    for member in obj.members.values():
        if isinstance(member, griffe.Object):  # not an alias, whose target has its own turn
            _rewrite(member)
