"""timm's networks, and how timm reads files of an older form than its networks have."""

import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

from zoo.errors import PluginError, SpecError

Filter = Callable[..., dict[str, Tensor]]

log = logging.getLogger("zoo")

_lock = threading.RLock()

_ELSEWHERE = {"cache_dir", "checkpoint_path", "model_name", "pretrained_cfg", "pretrained_cfg_overlay"}
"""Arguments that make ``timm.create_model`` look at another name, address or file than the row's."""


def build(*, arch: str, tag: str = "", num_classes: int, in_chans: int, **args: Any) -> nn.Module:
    """Builds timm's ``arch``, newly initialized, as it is built for the weights ``tag``: of their input's size, say."""
    if foreign := sorted(_ELSEWHERE & args.keys()):  # a weights file may say them, and so choose what is asked or read
        raise PluginError(f"{arch} does not take {', '.join(foreign)}: that would build or load another network.")
    settings = {
        "model_name": f"{arch}.{tag}" if tag else arch,
        "num_classes": num_classes,
        "in_chans": in_chans,
        **args,
    }
    module: nn.Module = timm.create_model(**settings, pretrained=False)
    module.timm_args = settings  # type: ignore[assignment]  # a plain value, not a submodule
    module.create_features = partial(create_features, module)  # type: ignore[assignment]  # a function
    return module


def create_features(module: Any, out_indices: int | Sequence[int] | None) -> nn.Module:
    """Returns timm's network of ``features_only=True`` with the tensors of ``module``; by default, of all its
    stages."""
    stages = getattr(module, "feature_info", None)
    if not stages:
        raise SpecError(f"timm's {type(module).__name__} has no stages, so it has no feature maps.")
    chosen = range(len(stages)) if out_indices is None else out_indices
    settings: dict[str, Any] = {**module.timm_args, "num_classes": module.num_classes, "features_only": True}
    settings["out_indices"] = chosen if isinstance(chosen, int) else tuple(chosen)

    def load(network: nn.Module, **_: Any) -> None:
        state = network.state_dict()  # some of timm's classes for features have no head
        network.load_state_dict(
            {key: tensor for key, tensor in module.state_dict().items() if key in state}, assign=True
        )

    with instead_of_loading(load):
        try:
            features: nn.Module = timm.create_model(**settings, pretrained=True)
        except (AssertionError, IndexError) as error:
            raise SpecError(
                f"out_indices = {chosen!r}: expected stages of {len(stages)}, 0 to {len(stages) - 1}, or negative ones."
            ) from error
        except RuntimeError as error:
            raise SpecError(f"timm has no features of {settings['model_name']}: {error}") from error
    return features


def translate(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Returns ``tensors`` of a file as timm would give them to ``module``, in its names and shapes.

    Of a file that timm knows to hold more than the network has, what is too much is left out, and a
    warning says so. What is missing stays missing.
    """
    convert, is_strict = _loading(module.timm_args)  # type: ignore[arg-type]  # as build left them
    if convert is not None:
        takes_module = len(inspect.signature(convert).parameters) > 1
        tensors = convert(tensors, module) if takes_module else convert(tensors)
    if not is_strict:
        state = module.state_dict()
        surplus = [key for key in tensors if key not in state]
        if surplus:
            log.warning("%s: left out, as timm does: %s", type(module).__name__, ", ".join(surplus))
        tensors = {key: tensor for key, tensor in tensors.items() if key in state}
    return tensors


def _loading(given: dict[str, Any]) -> tuple[Filter | None, bool]:
    """Returns the function with which timm adapts a file to the network built of these arguments, and whether all must
    fit.

    timm chooses both while it builds, family by family, and hands them to its loader: they are taken there.
    """
    said: dict[str, Any] = {}
    with instead_of_loading(lambda _, **about: said.update(about)), torch.device("meta"):
        timm.create_model(**given, pretrained=True)
    return said.get("filter_fn"), said.get("strict", True)


@contextmanager
def instead_of_loading(hook: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Makes a context in which timm loads no weights in this thread: it calls ``hook`` with the arguments of its
    loader, which the context yields.
    """
    thread = threading.get_ident()

    def choose(model: nn.Module, **about: Any) -> None:
        (hook if threading.get_ident() == thread else load)(model, **about)

    with _lock:
        load = _builder.load_pretrained
        _builder.load_pretrained = choose
        try:
            yield load
        finally:
            _builder.load_pretrained = load
