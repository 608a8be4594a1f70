"""Writes the files of a new plugin's distribution, for ``zoo plugins new``.

``templates/common`` has the files of every distribution, ``network`` those of one with a model, the others those of
their kind, which replace common ones. Names of files end in ``.txt``, so that no tool takes them for code of Zoo;
``$name`` and others are replaced.
"""

import importlib.metadata
import keyword
from pathlib import Path
from string import Template
from typing import Literal

from zoo import registry
from zoo.errors import PluginError, SpecError, StorageError
from zoo.names import as_part, is_part
from zoo.registry import DISTRIBUTION
from zoo.system import storage

TEMPLATES = Path(__file__).with_name("templates")
Kind = Literal["trained", "fitted", "command", "weights"]
_DESCRIPTIONS: dict[Kind, str] = {
    "trained": "A small convolutional network",
    "fitted": "A ridge regression on image patches",
    "command": "A command for any network",
    "weights": "Trained weights of other distributions' models",
}
_PACKAGE = "PACKAGE"
"""The folder of the import package among the templates."""
_LICENCE = "Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
"""If the distribution of Zoo does not have the whole text."""


def write(name: str, folder: Path, *, kind: Kind = "trained") -> list[Path]:
    """Writes the distribution ``zoo-NAME`` with one plugin, and one model or one command, or a manifest alone.

    Args:
        name: The plugin's name.
        folder: A folder that does not exist, or is empty.
        kind: ``trained`` and ``fitted`` bring a model, which is trained along a gradient or fitted in closed form;
            ``command`` brings a command and a module, ``weights`` no code, but weights of others' models.

    Returns:
        The files, relative to ``folder``.

    Raises:
        SpecError: The name is not valid.
        PluginError: There is a plugin of this name.
        StorageError: The folder has files.
    """
    _check(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder} already exists and is not empty.", hint="Choose another folder with -o DIR.")
    words = words_of(name, kind=kind)
    files = {Path("LICENSE"): _licence()}
    for part in ("common", kind) if kind in ("command", "weights") else ("common", "network", kind):
        for template in sorted((TEMPLATES / part).rglob("*.txt")):
            file = template.relative_to(TEMPLATES / part).with_suffix("")
            file = Path(*(words["package"] if step == _PACKAGE else step for step in file.parts))
            files[file] = Template(template.read_text(encoding="utf-8")).substitute(words)
    if kind == "weights":  # no type checker reads it
        del files[Path(words["package"], "py.typed")]
    for file, text in files.items():
        storage.replace(folder / file, text.encode())
    return sorted(files)


def words_of(name: str, *, kind: Kind) -> dict[str, str]:
    """Returns what is put in place of ``$name`` and the like."""
    camel = "".join(part.capitalize() for part in name.split("_"))
    package = f"zoo_{name}"
    training = f"| `{package}/training.py` | the train hook, which fits it |\n"
    return {
        "name": name,
        "package": package,
        "distribution": package.replace("_", "-"),
        "model": f"{name}_ridge" if kind == "fitted" else f"{name}_net",
        "network": f"{camel}Ridge" if kind == "fitted" else f"{camel}Net",
        "description": _DESCRIPTIONS[kind],
        "command": name.replace("_", "-"),
        "extra_file": training if kind == "fitted" else "",
    }


def _check(name: str) -> None:
    if not (is_part(name) and name[0].isalpha()) or name.endswith("_") or keyword.iskeyword(name):
        near = as_part(name)
        hint = f"Did you mean {near}?" if near != name and near[0].isalpha() else "For example: my_net."
        raise SpecError(
            f"{name!r} is not a name for a plugin: expected lower case letters, digits and _, beginning with a letter.",
            hint=hint,
        )
    if rivals := [row for row in registry.current().plugins if row.name == name]:
        raise PluginError(
            f"There is already a plugin {name!r}, from {rivals[0].distribution}.", hint="Choose another name."
        )


def _licence() -> str:
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        text = None
    return text or _LICENCE
