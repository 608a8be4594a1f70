"""Every refusal of Zoo, as one tree.

::

    ZooError
    ├── UnknownNameError        no such model, tag, data set, recipe, key; suggests the nearest
    ├── AmbiguousNameError      a short name that several third-party plugins claim
    ├── SpecError               a plugin's row is not valid
    ├── PluginError             a plugin or one of its hooks cannot be used
    │   └── MissingExtraError   ... because a distribution it needs is not installed
    ├── ManifestError           a weights manifest is not valid; names file and line
    ├── HubError                no source served the file
    │   ├── IntegrityError      the bytes are not the bytes that the manifest names
    │   ├── UnpinnedError       the manifest does not say which bytes to expect
    │   └── OfflineError        the file is not cached and the network is off
    ├── LockError               zoo.lock cannot be read, or what is here is not what it holds
    ├── SignatureError          a signature is missing, or not one of these bytes by that key
    ├── PolicyError             the project's policy cannot be read, or does not accept the weights
    ├── WeightsError            a weights file cannot be used for this model
    │   ├── FileFormatError     not safetensors, truncated, hostile, or a pickle
    │   ├── ProbeError          the network does not compute what the manifest's probe says
    │   └── TensorMismatchError tensors missing, unexpected or of another shape
    ├── DataError               a data set is missing, damaged or not what was asked for
    ├── StorageError            a file cannot be written: the disk is full, say
    ├── RecipeError             a training recipe is not valid
    ├── TrainingError           training had to stop
    └── AttackError             an attack does not apply to the network

Each message says what Zoo got and what it expected; ``hint`` says what to type next. The command
line prints both without a traceback and exits with ``exit_code``.
"""

from collections.abc import Iterable


class ZooError(Exception):
    """Base of all errors that Zoo raises on purpose."""

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
        """The error for a ``name`` that is not among the ``known`` ones, with the nearest of them."""
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=3, cutoff=0.6)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        return cls(f"Unknown {kind} {name!r}.", hint=hint)


class AmbiguousNameError(ZooError):
    exit_code = 2


class SpecError(ZooError, ValueError):
    """Also a ValueError, so that msgspec reports where in a manifest it arose."""


class PluginError(ZooError):
    pass


class MissingExtraError(PluginError):
    @classmethod
    def of(cls, what: str, distribution: str, install: str) -> "MissingExtraError":
        """``what`` needs ``distribution``; ``install`` is what pip should be given to get it."""
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
