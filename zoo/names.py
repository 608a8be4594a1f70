"""The grammar of names: ``arch``, ``arch.tag``, ``plugin/arch``, ``plugin/arch.tag``, ``hf-hub:OWNER/NAME``.

An architecture is a row of a plugin, a tag is one set of trained weights for it. A repository of the Hugging Face Hub
holds trained weights of an architecture that it names itself.
"""

import re
from os import PathLike
from typing import NamedTuple

from zoo.errors import SpecError, UnknownNameError

_PART = r"[a-z0-9][a-z0-9_]*"
_ARCH = re.compile(rf"(?:{_PART}/)?{_PART}")
_NAME = re.compile(rf"(?:(?P<plugin>{_PART})/)?(?P<arch>{_PART})(?:\.(?P<tag>{_PART}))?")
HUB = "hf-hub:"
_OWNER_OR_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(
    rf"{HUB}(?P<repo>{_OWNER_OR_NAME}/{_OWNER_OR_NAME})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_./-]{{0,199}}))?"
)
_DIGITS = re.compile(r"([0-9]+)")
DISTRIBUTION = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
VERSION = r"[0-9][A-Za-z0-9.!+_-]{0,63}"
"""Patterns of what pip installs."""


OF_FILE = "Name the model of a file: zoo.create(NAME, weights=FILE), zoo predict NAME IMAGE --weights FILE."


class Name(NamedTuple):
    """A parsed name; ``plugin`` and ``tag`` are empty if the name does not have them."""

    plugin: str
    arch: str
    tag: str

    def __str__(self) -> str:
        return (f"{self.plugin}/" if self.plugin else "") + self.arch + (f".{self.tag}" if self.tag else "")


class Repository(NamedTuple):
    """The repository of a name, ``owner/name``, and the commit, branch or git tag after ``@``; empty without one."""

    repo: str
    revision: str


def parse(text: str) -> Name:
    """Parses ``text``; raises :class:`UnknownNameError` if it is not a name, but a path, for example."""
    match = _NAME.fullmatch(text)
    if match is None:
        if is_repository(text):
            raise UnknownNameError(
                f"{text!r} is a repository, expected a model of a plugin.",
                hint=f"zoo info {text} shows it; zoo list shows the models of plugins.",
            )
        raise UnknownNameError(f"{text!r} is not a model name.", hint=_advice(text))
    return Name(match["plugin"] or "", match["arch"], match["tag"] or "")


def check(name: object) -> None:
    """Raises :class:`SpecError` unless ``name`` is a text or a path."""
    if not isinstance(name, str | PathLike) or not str(name):
        raise SpecError(f"name = {name!r} is invalid: expected the name of a model, such as 'resnet20', or a path.")


def _advice(text: str) -> str:
    """Returns what to write instead of ``text``, which is not a name."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower().replace("_", "-") in ("hf-hub", "hf", "huggingface"):
        repository = f"{HUB}{rest.strip('/')}"
        if _REPOSITORY.fullmatch(repository):
            return f"A repository of the Hugging Face Hub is {repository}."
    if scheme == "local-dir":
        return "A run is its folder: runs/mine. zoo.timm.create_model takes a local-dir: of timm's."
    if "://" in text:
        return f"Download the file. {OF_FILE}"
    return f"Names look like resnet152, resnet152.tv_in1k or plugin/arch: lower case, digits and _. {OF_FILE}"


def is_repository(text: str) -> bool:
    """Returns whether ``text`` is meant as the name of a repository: it begins with ``hf-hub:``."""
    return text.startswith(HUB)


def parse_repository(text: str) -> Repository:
    """Parses the name of a repository; raises :class:`UnknownNameError` if it is not a valid one."""
    match = _REPOSITORY.fullmatch(text)
    if match is None or ".." in text or "--" in match["repo"]:
        raise UnknownNameError(
            f"{text[:200]!r} does not name a repository.",
            hint="Expected hf-hub:OWNER/NAME, or hf-hub:OWNER/NAME@REVISION with a commit, a branch or a git tag.",
        )
    return Repository(match["repo"], match["revision"] or "")


def of_weights(arch: str, tag: str) -> str:
    """Returns the name of weights: ``arch.tag``. The tag of a repository's weights is the repository's name."""
    return tag if is_repository(tag) else f"{arch}.{tag}"


def is_part(text: str) -> bool:
    """Returns whether ``text`` is valid as the name of a plugin, an architecture or a tag."""
    return re.fullmatch(_PART, text) is not None


def is_arch(text: str) -> bool:
    """Returns whether ``text`` is valid as the name of an architecture: ``arch``, or in full ``plugin/arch``."""
    return _ARCH.fullmatch(text) is not None


def natural(text: str) -> list[tuple[int, str]]:
    """Returns a sort key under which ``resnet18`` comes before ``resnet101``."""
    key = []
    for i, part in enumerate(_DIGITS.split(text)):  # text and numbers, in turn
        # Comparing length, then digits, orders numbers by value; int() rejects the 5,000 digits of a hostile name.
        number = part.lstrip("0")
        key.append((len(number), number) if i % 2 else (-1, part))
    return key


def requirement(distribution: object, version: object = "") -> str:
    """Returns what pip installs: ``zoo-pet>=1.0``; empty if the texts, which anyone may have written, are not names
    of it.
    """
    name, number = str(distribution), str(version).partition("+")[0]
    if not re.fullmatch(DISTRIBUTION, name):
        return ""
    return f"{name}>={number}" if re.fullmatch(VERSION, number) else name


def as_part(text: str) -> str:
    """Returns ``text`` with all characters that are not valid in a name replaced by ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed"
