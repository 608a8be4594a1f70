"""Zoo's exceptions, as one tree.

::

    ZooError
    ├── UnknownNameError        no such model, tag, data set, recipe, key; suggests the nearest
    ├── AmbiguousNameError      a short name that several third-party plugins use
    ├── SpecError               a plugin's row is not valid
    ├── PluginError             a plugin or one of its hooks cannot be used
    │   └── MissingExtraError   ... because a distribution it needs is not installed
    ├── ManifestError           a weights manifest is not valid; names file and line
    ├── HubError                no source served the file
    │   ├── IntegrityError      the file's sha256 or size differs from the manifest's
    │   ├── UnpinnedError       the manifest has no sha256 for the file
    │   └── OfflineError        the file is not cached and network access is disabled
    ├── LockError               zoo.lock cannot be read, or the installed state differs from it
    ├── SignatureError          a signature is missing or does not match the file and the key
    ├── PolicyError             the project's policy cannot be read or does not accept the weights
    ├── WeightsError            a weights file cannot be used for this model
    │   ├── FileFormatError     not safetensors, truncated, hostile, or a pickle
    │   ├── ProbeError          the network's outputs differ from the manifest's probe
    │   └── TensorMismatchError tensors missing, unexpected or of another shape
    ├── DataError               a data set is missing, damaged or not suitable
    ├── StorageError            a file cannot be written, for example because the disk is full
    ├── RecipeError             a training recipe is not valid
    ├── TrainingError           training had to stop
    └── AttackError             an attack does not apply to the network

Each message says what Zoo got and what it expected; ``hint`` says what to do next. The command line prints
both without a traceback and exits with ``exit_code``.
"""

from collections.abc import Iterable


class ZooError(Exception):
    """Base class of all exceptions that Zoo raises."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UnknownNameError(ZooError):
    exit_code = 2

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> "UnknownNameError":
        """The error for a ``name`` that is not in ``known``; it suggests the nearest names."""
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=3, cutoff=0.6)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        return cls(f"Unknown {kind} {name!r}.", hint=hint)


class AmbiguousNameError(ZooError):
    exit_code = 2


class SpecError(ZooError, ValueError):
    """Also a ValueError, so that msgspec reports its position in a manifest."""


class PluginError(ZooError):
    pass


class MissingExtraError(PluginError):
    @classmethod
    def of(cls, what: str, distribution: str, install: str) -> "MissingExtraError":
        """``what`` needs ``distribution``; ``install`` is the argument of pip that installs it."""
        return cls(f"{what} needs {distribution}, which is not installed.", hint=f"pip install '{install}'")


class ManifestError(ZooError):
    pass


class HubError(ZooError):
    pass


class IntegrityError(HubError):
    pass


class UnpinnedError(HubError):
    pass


class OfflineError(HubError):
    pass


class LockError(ZooError):
    pass


class SignatureError(ZooError):
    pass


class PolicyError(ZooError):
    pass


class WeightsError(ZooError):
    pass


class FileFormatError(WeightsError):
    pass


class ProbeError(WeightsError):
    pass


class TensorMismatchError(WeightsError):
    pass


class DataError(ZooError):
    pass


class StorageError(ZooError):
    pass


class RecipeError(ZooError):
    exit_code = 2


class TrainingError(ZooError):
    pass


class AttackError(ZooError):
    pass


__all__ = [
    "AmbiguousNameError",
    "AttackError",
    "DataError",
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
