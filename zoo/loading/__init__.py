"""Loads a file's tensors into a network.

Names are bound on first use, so that the reader of safetensors files comes without the rest.
"""

from typing import TYPE_CHECKING

from zoo.system import lazy

if TYPE_CHECKING:
    from zoo.loading.interface import Network as Network
    from zoo.loading.network import ModelInfo as ModelInfo
    from zoo.loading.network import build as build
    from zoo.loading.network import build_from as build_from
    from zoo.loading.network import channels_in as channels_in
    from zoo.loading.network import classes_in as classes_in
    from zoo.loading.network import for_channels as for_channels
    from zoo.loading.network import skip_init as skip_init
    from zoo.loading.state import adapt_stem as adapt_stem
    from zoo.loading.state import assign as assign
    from zoo.loading.state import check as check
    from zoo.loading.state import not_finite as not_finite
    from zoo.loading.state import require_finite as require_finite
    from zoo.loading.state import translate as translate

_HOMES = {
    "ModelInfo": "network",
    "Network": "interface",
    "adapt_stem": "state",
    "assign": "state",
    "build": "network",
    "build_from": "network",
    "channels_in": "network",
    "check": "state",
    "classes_in": "network",
    "for_channels": "network",
    "not_finite": "state",
    "require_finite": "state",
    "skip_init": "network",
    "translate": "state",
}

__all__ = list(_HOMES)

__getattr__ = lazy.binder(__name__, {name: f"zoo.loading.{home}" for name, home in _HOMES.items()})
