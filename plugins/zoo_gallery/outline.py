"""The blocks of a network in the order in which they finish, from its module tree. It is built without memory."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from zoo.spec import Model

if TYPE_CHECKING:
    from torch import nn

    from zoo.loading import Network

_CONTAINERS = ("Sequential", "ModuleList")

Shapes = dict[str, tuple[int, ...]]
"""Of the outputs for one image, by submodule, in the order in which they first finish."""


class Block(msgspec.Struct, frozen=True):
    """A submodule ``name``: ``count`` times ``kind``, with ``shape`` of its output for one image, None if unknown."""

    name: str
    kind: str
    count: int
    shape: tuple[int, ...] | None
    params: int


class Outline(msgspec.Struct, frozen=True):
    """The blocks of a network, or the reason why they cannot be shown."""

    blocks: tuple[Block, ...] = ()
    reason: str = ""


def of_model(model: Model) -> Outline:
    """The outline of the network that ``model`` builds. Whatever its plugin raises becomes the reason."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Outline(tuple(_blocks(model)))
    except Exception as error:  # a plugin's code may raise anything
        return Outline(reason=f"{type(error).__name__}: {error}")


def _blocks(model: Model) -> Iterator[Block]:
    import torch

    from zoo.loading import skip_init

    try:
        with skip_init(), torch.device("meta"):
            network = _built(model)
            shapes = _shapes(network, model, "meta")
    except (NotImplementedError, RuntimeError):  # it computes with values
        network = _built(model)
        shapes = _shapes(network, model, "cpu")
    order = {name: number for number, name in enumerate(shapes)}
    for name, module in sorted(_shown(network, "", shapes), key=lambda part: order.get(part[0], len(order))):
        kinds = _kinds(module) if _is_container(module) else []
        params = sum(parameter.numel() for parameter in module.parameters())
        kind = kinds[0] if kinds else type(module).__name__
        yield Block(name, kind, max(len(kinds), 1), shapes.get(name), params)


def _built(model: Model) -> "Network":
    from zoo import loading

    return loading.build(model)[0].eval()


def _shapes(network: "nn.Module", model: Model, device: str) -> Shapes:
    import torch

    found: Shapes = {}
    hooks = []
    for name, module in network.named_modules():

        def keep(module: Any, _: object, output: object, name: str = name) -> None:
            if isinstance(output, torch.Tensor):
                found.setdefault(name, tuple(output.shape[1:]))

        hooks.append(module.register_forward_hook(keep))
        if isinstance(module, torch.nn.ReLU | torch.nn.modules.batchnorm._BatchNorm):
            # They change no shape, and take longest without memory.
            module.forward = torch.nn.Identity().forward  # type: ignore[method-assign]  # of this network alone
    with torch.no_grad():
        network(torch.zeros(1, *model.preprocess.input_size, device=device))
    for hook in hooks:
        hook.remove()
    return found


def _shown(module: "nn.Module", prefix: str, shapes: Shapes) -> Iterator[tuple[str, "nn.Module"]]:
    """The submodules that are shown. Containers of unlike modules, and a network's only child, are opened."""
    children = [(f"{prefix}{name}", child) for name, child in module.named_children()]
    for name, child in children:
        is_opened = any(child.children()) and len(children) == 1
        if is_opened or (_is_container(child) and not _is_uniform(child, name, shapes)):
            yield from _shown(child, f"{name}.", shapes)
        elif not _is_minor(child):
            yield name, child


def _is_container(module: "nn.Module") -> bool:
    return type(module).__name__ in _CONTAINERS


def _is_uniform(container: "nn.Module", name: str, shapes: Shapes) -> bool:
    """Whether a container has only blocks of one kind, which return maps of one shape."""
    inner = {shapes.get(f"{name}.{part}") for part, _ in container.named_children()}
    has_blocks = all(any(child.children()) for child in container.children())
    return has_blocks and len(set(_kinds(container))) == len(inner) == 1 and None not in inner


def _kinds(module: "nn.Module") -> list[str]:
    return [type(child).__name__ for child in module.children()]


def _is_minor(module: "nn.Module") -> bool:
    """Whether a module changes values in place, as an activation or a normalisation does, but neither size nor kind."""
    is_layer = not any(module.children())
    is_of_torch = type(module).__module__.startswith("torch.nn")
    is_empty = not any(True for _ in module.parameters())
    kind = type(module).__name__
    return is_layer and ("Norm" in kind or (is_empty and is_of_torch and "Pool" not in kind))
