"""A model under test: how it is built, its inputs, and how checks say that it breaks a promise."""

import contextlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo import loading
from zoo.spec import Model


class CheckError(AssertionError):
    """A plugin breaks a promise. The exception that its own code raised, if any, is the cause.

    Args:
        reason: What is wrong, what was expected.
        field: What to change: a field of a row or a manifest, or a method of the network. Checks leave it empty if it
            is the one that they are about.
        of: The model, the weights or the plugin. Checks leave it empty.
        hint: What to do.
    """

    def __init__(self, reason: str, field: str = "", of: str = "", hint: str = "") -> None:
        self.reason = reason if reason.startswith(field) else f"{field}: {reason}"
        self.field, self.of, self.hint = field, of, hint
        super().__init__((f"{of}: " if of else "") + self.reason + (f"\n{hint}" if hint else ""))


def expect(condition: object, reason: str, *, field: str = "") -> None:
    """Raises :class:`CheckError` unless ``condition`` is true. Unlike ``assert``, also under ``python -O``."""
    if not condition:
        raise CheckError(reason, field)


GIANT_PARAMS = 30_000_000
GIANT_MACS = 3_000_000_000
"""Above either, a model's costly checks are marked slow, and the others avoid arithmetic."""

LONG_MACS = 200_000_000
LONG_PIXELS = 10_000
"""Above the one, or without it above the other, a network gets fewer images where it gets many."""

BATCH = 2
"""Images a forward: batch normalisation needs more than one."""


class Subject:
    """One model of one plugin."""

    def __init__(self, plugin: str, model: Model) -> None:
        self.plugin = plugin
        self.model = model

    @property
    def is_giant(self) -> bool:
        return self.model.params > GIANT_PARAMS or self.model.macs > GIANT_MACS

    @property
    def is_long(self) -> bool:
        """Whether a forward takes long, as far as the row says."""
        _, height, width = self.model.preprocess.input_size
        is_large = height * width > LONG_PIXELS and not self.model.macs
        return self.is_giant or self.model.macs > LONG_MACS or is_large

    @property
    def module(self) -> Any:
        """The network as built by default, in evaluation mode, for all checks to share: leave it unchanged."""
        return _settled(self) if self.is_giant else _kept(self)

    @property
    def outline(self) -> Any:
        """The network as ``module``, if only shapes matter: the values of its tensors are arbitrary."""
        return _outlined(self)

    @cached_property
    def shape_device(self) -> str:
        """The device on which shapes are found: ``meta`` for a giant that does without real numbers, else ``cpu``.

        Small networks compute faster than ``meta`` infers.
        """
        if not self.is_giant:
            return "cpu"
        try:
            with self.on("meta"):
                self.build()(self.images("meta"))
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            return "cpu"  # where a genuine fault shows again
        return "meta"

    def build(self, **changes: Any) -> Any:
        """Returns a new network in evaluation mode, the same at every call; ``changes`` go to the build hook."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return loading.build(self.model, **changes)[0].eval()

    @contextlib.contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Creates tensors on ``device``, uninitialized, within a context that records nothing for gradients."""
        with torch.device(device), loading.skip_init(), torch.no_grad():
            yield

    def images(self, device: str = "cpu", *, size: tuple[int, ...] | None = None, batch: int = BATCH) -> Tensor:
        """Returns noise, float32 B C H W, of the declared input's size or of ``size`` C H W."""
        shape = (batch, *(size or self.model.preprocess.input_size))
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        return noise.to(device)


def _settled(subject: Subject) -> nn.Module:
    """Returns a network whose running statistics are those of its input.

    As initialised they are 0 and 1, under which hundreds of residual units overflow float32.
    """
    module: nn.Module = subject.build()
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0  # the last batch alone
        with torch.no_grad():
            module.train()(subject.images())
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return module.eval()


def _outlined_anew(subject: Subject) -> nn.Module:
    with subject.on(subject.shape_device):
        module: nn.Module = subject.build()
    return module


# One at a time: a whole family would not fit into memory.
_kept = lru_cache(maxsize=1)(_settled)
_outlined = lru_cache(maxsize=1)(_outlined_anew)
