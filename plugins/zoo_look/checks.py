"""Checks of ``zoo.look``: its tools work or raise a documented error, and leave the network unchanged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import zoo_look as tools
from zoo.errors import WeightsError
from zoo.testing.subject import Subject, expect

EXPECTED_ERRORS = {
    "deconv": ("has no ReLU", "There is no gradient", "does not depend on the image"),
    "gradient": ("There is no gradient",),
    "grad_cam": ("does not output maps", "No stage of", "There is no gradient", "does not depend on the image"),
    "features": ("neither maps, nor tokens, nor a vector",),
}
"""Parts of the errors for networks that lack what a method needs."""


def look(subject: Subject) -> str:
    """Checks that maps, deconvnet and attribution run or raise what they document, and leave the network as it was.

    Fix: a forward must not register hooks or change tensors, and its gradient must be finite.
    """
    module = subject.module
    if not module.default_layers:
        return "it has no feature maps"
    before = _state(module)
    image = subject.images(batch=1)
    layer = module.default_layers[-1]
    asked: dict[str, Callable[[], Tensor]] = {
        "features": lambda: tools.features(module, image, layer).maps,
        "deconv": lambda: tools.project(module, image, layer).projection,
        "gradient": lambda: tools.attribute(module, image, "gradient").scores,
        "grad_cam": lambda: tools.attribute(module, image, "grad_cam").scores,
    }
    for name, ask in asked.items():
        answer, error = _answer(ask)
        if answer is None:
            expect(any(words in error for words in EXPECTED_ERRORS[name]), f"{name} raises: {error}")
        else:
            expect(answer.isfinite().all(), f"{name} returns NaN or infinity")
    _expect_same(module, before)
    return ""


def _answer(ask: Callable[[], Tensor]) -> tuple[Tensor | None, str]:
    try:
        return ask(), ""
    except WeightsError as error:
        return None, str(error)


def _state(module: nn.Module) -> tuple[Any, ...]:
    tensors = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    flags = {name: (parameter.requires_grad, parameter.grad) for name, parameter in module.named_parameters()}
    return tensors, flags, {name: part.training for name, part in module.named_modules()}, _hooks(module)


def _hooks(module: nn.Module) -> dict[str, int]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {name: sum(len(getattr(part, kind)) for kind in kinds) for name, part in module.named_modules()}


def _expect_same(module: nn.Module, before: tuple[Any, ...]) -> None:
    tensors, flags, modes, hooks = before
    changed = [key for key, tensor in module.state_dict().items() if not torch.equal(tensor, tensors[key])]
    expect(not changed, f"looking changes {', '.join(changed)}")
    for name, parameter in module.named_parameters():
        expect(parameter.requires_grad == flags[name][0], f"looking leaves {name}.requires_grad changed")
        expect(parameter.grad is flags[name][1], f"looking leaves a gradient on {name}")
    expect({name: part.training for name, part in module.named_modules()} == modes, "looking leaves modes changed")
    expect(_hooks(module) == hooks, "looking leaves hooks behind")
