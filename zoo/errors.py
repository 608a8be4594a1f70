"""Zoo's exceptions.

::

    ZooError
    ├── UnknownNameError
    ├── AmbiguousNameError
    ├── SpecError
    ├── PluginError
    │   └── MissingExtraError
    ├── ManifestError
    ├── HubError
    │   ├── IntegrityError
    │   ├── UnpinnedError
    │   └── OfflineError
    ├── LockError
    ├── SignatureError
    ├── PolicyError
    ├── WeightsError
    │   ├── FileFormatError
    │   ├── ProbeError
    │   └── TensorMismatchError
    ├── DataError
    ├── StorageError
    ├── RecipeError
    ├── TrainingError
    ├── AttackError
    └── ExportError

A message says what Zoo got and what it expected; ``hint`` says what to do next. The command line prints
both without a traceback and exits with ``exit_code``.
"""

from collections.abc import Iterable


class ZooError(Exception):
    """The base class of all exceptions that Zoo raises."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UnknownNameError(ZooError):
    """There is no model, tag, data set, recipe or setting of this name. The nearest names are suggested."""

    exit_code = 2

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> "UnknownNameError":
        """Returns the error for a ``name`` that is not in ``known``; it suggests the nearest names."""
        from difflib import get_close_matches

        near = get_close_matches(name, _likely(name, known), n=3, cutoff=0.6)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        return cls(f"Unknown {kind} {name!r}.", hint=hint)


_MANY, _FEW = 3000, 300


def _likely(name: str, known: Iterable[str]) -> Iterable[str]:
    """Returns of many names those that share most pairs of letters with ``name``: comparing all takes seconds."""
    known = [*known]
    if len(known) <= _MANY:
        return known
    from heapq import nlargest

    pairs = {name[i : i + 2] for i in range(len(name) - 1)}
    return nlargest(_FEW, known, key=lambda other: (sum(map(other.__contains__, pairs)), -abs(len(other) - len(name))))


class AmbiguousNameError(ZooError):
    """Several third-party plugins have a model or a data set of this short name."""

    exit_code = 2


class SpecError(ZooError, ValueError):
    """A value is not valid. Also a ValueError, so that msgspec says where in a manifest it is."""


class PluginError(ZooError):
    """A plugin, or one of its hooks, cannot be used."""


class MissingExtraError(PluginError):
    """A library that a plugin or a function needs is not installed."""

    @classmethod
    def of(cls, what: str, distribution: str, install: str) -> "MissingExtraError":
        """Returns the error that ``what`` needs ``distribution``, which ``pip install INSTALL`` installs."""
        return cls(f"{what} needs {distribution}, which is not installed.", hint=f"pip install '{install}'")


class ManifestError(ZooError):
    """A weights manifest is not valid. Names the file and the line."""


class HubError(ZooError):
    """No source served the file."""


class IntegrityError(HubError):
    """The bytes are not those that the manifest, a lock or their hub states."""


class UnpinnedError(HubError):
    """The sha256 of the weights is unknown, and pinning them on first use is not possible or not allowed."""


class OfflineError(HubError):
    """The file is not in the cache, and the network is switched off."""


class LockError(ZooError):
    """A ``zoo.lock`` or a user's pin cannot be read, or the weights are not those that it names."""


class SignatureError(ZooError):
    """A signature is missing or not valid."""


class PolicyError(ZooError):
    """The project's policy cannot be read, or does not accept the weights."""


class WeightsError(ZooError):
    """A weights file cannot be used for this model."""


class FileFormatError(WeightsError):
    """A file is not safetensors, or is truncated or unsafe."""


class ProbeError(WeightsError):
    """The network's outputs are not those of the manifest's probe."""


class TensorMismatchError(WeightsError):
    """Tensors are missing, unexpected, or of another shape or type."""


class DataError(ZooError):
    """A data set or an image is missing, damaged or not suitable."""


class StorageError(ZooError):
    """A file cannot be written, because the disk is full, for example."""


class RecipeError(ZooError):
    """A training recipe is not valid."""

    exit_code = 2


class TrainingError(ZooError):
    """Training cannot start, or had to stop."""


class AttackError(ZooError):
    """An attack does not apply to the network."""


class ExportError(ZooError):
    """A network cannot be exported, or the exported file computes something else."""


__all__ = [
    "AmbiguousNameError",
    "AttackError",
    "DataError",
    "ExportError",
    "FileFormatError",
    "HubError",
    "IntegrityError",
    "LockError",
    "ManifestError",
    "MissingExtraError",
    "OfflineError",
    "PluginError",
    "PolicyError",
    "ProbeError",
    "RecipeError",
    "SignatureError",
    "SpecError",
    "StorageError",
    "TensorMismatchError",
    "TrainingError",
    "UnknownNameError",
    "UnpinnedError",
    "WeightsError",
    "ZooError",
]
