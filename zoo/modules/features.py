"""Feature maps of a network's stages: which there are, and how they are taken.

Hooks on the stages' modules take them, so that any network with ``feature_info`` has them.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import SpecError


class FeatureInfo(list[dict[str, Any]]):
    """Per stage: ``num_chs`` channels, ``reduction`` of the input's size, name of the ``module``.

    A list with the methods of timm's class of this name.
    """

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Returns the value of ``key`` of the stage ``idx``, or a list of those of several; by default, of all."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[index][key] for index in (range(len(self)) if idx is None else idx)]

    def get_dicts(
        self, keys: Iterable[str] | None = None, idx: int | Sequence[int] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Returns those of a stage's values whose keys are ``keys``, by default all; ``idx`` as in :meth:`get`."""
        if isinstance(idx, int):
            return self[idx] if keys is None else {key: self[idx][key] for key in keys}
        every = range(len(self)) if idx is None else idx
        return [self[index] if keys is None else {key: self[index][key] for key in keys} for index in every]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Numbers of channels; ``idx`` as in :meth:`get`."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Returns how many times smaller than the input the maps are; ``idx`` as in :meth:`get`."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Names of submodules; ``idx`` as in :meth:`get`."""
        return self.get("module", idx)


def take_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Numbers of stages, from 0: all of ``count`` for None, the last n for a number n, else those of a sequence.

    Negative indices in a sequence count from the end. Raises :class:`SpecError` for a stage that does not exist.
    """
    if indices is None:
        return list(range(count))
    asked = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    if not asked or any(not isinstance(index, int) or not -count <= index < count for index in asked):
        raise SpecError(f"out_indices = {indices!r}: expected stages of {count}, 0 to {count - 1}, or -{count} to -1.")
    return [index % count for index in asked]


class _Enough(Exception):  # noqa: N818  # no error
    """All features are there: what follows in the forward is not needed."""


class Taps:
    """Keeps what the submodules ``names`` of ``network`` return during :meth:`run`.

    Hooks stay registered until :meth:`remove`. Outside of :meth:`run` they do nothing: a checkpoint computes a module
    again for its gradient.
    """

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        self.missing = len(set(names))
        self.seen: dict[str, Tensor] = {}
        self.is_open = self.stops = False
        self.handles = [
            network.get_submodule(name).register_forward_hook(partial(self._keep, name)) for name in set(names)
        ]

    def run(self, network: Any, x: Tensor, *, stop: bool) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns the network's last features and the outputs by name; with ``stop``, None and the outputs alone.

        A compiler removes what is not needed, so only an eager forward is cut short.
        """
        self.seen, self.is_open = {}, True
        self.stops = stop and not torch.compiler.is_compiling()
        try:
            final = network.forward_features(x)
        except _Enough:
            final = None
        finally:
            self.is_open = False
        seen, self.seen = self.seen, {}
        return None if stop else final, seen

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep(self, name: str, _module: nn.Module, _inputs: object, output: Any) -> None:
        if self.is_open:
            self.seen[name] = output[0] if isinstance(output, tuple | list) else output
            if self.stops and len(self.seen) == self.missing:
                raise _Enough


def forward_intermediates(
    network: Any, x: Tensor, indices: int | Sequence[int] | None, *, stop: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """Returns the network's last features, None if the forward was to ``stop`` early, and those of stages in order."""
    info: list[dict[str, Any]] = network.feature_info
    names = [str(info[index]["module"]) for index in sorted(set(take_indices(len(info), indices)))]
    taps = Taps(network, names)
    try:
        final, seen = taps.run(network, x, stop=stop)
    finally:
        taps.remove()
    return final, [seen[name] for name in names]


class FeatureNet(nn.Module):
    """Images to a list of feature maps, one for each of ``out_indices``: as timm's ``features_only=True``.

    ``network``, which becomes ``body``, loses its classifier. ``feature_info`` describes the maps. Raises
    :class:`SpecError` for stages that do not exist.
    """

    def __init__(self, network: Any, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        info: list[dict[str, Any]] = network.feature_info
        if not info:
            raise SpecError(f"{type(network).__name__} has no stages, so it has no feature maps.")
        self.out_indices = take_indices(len(info), out_indices)
        self.feature_info = FeatureInfo(dict(info[index], index=index) for index in self.out_indices)
        getattr(network, "remove_head", partial(network.reset_classifier, 0))()
        self.body = network
        self._taps = Taps(network, self.feature_info.module_name())

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps images B C H W to the stages' maps, each B C' h w."""
        _, seen = self._taps.run(self.body, x, stop=True)
        return [seen[name] for name in self.feature_info.module_name()]
