"""What a network promises to those who look inside it: the tools run or say why not, and leave nothing behind."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo import look as tools
from zoo.errors import WeightsError
from zoo.loading import ModelInfo
from zoo.testing.subject import Subject

REFUSALS = {
    "deconv": ("computes no ReLU", "No gradient leads", "does not depend on the image"),
    "gradient": ("No gradient leads",),
    "grad_cam": ("puts out no maps", "puts out maps, which", "No gradient leads", "does not depend on the image"),
    "features": ("neither maps, nor tokens, nor a vector",),
}
"""What a network may lack, as the errors have it."""


def look(subject: Subject) -> None:
    """Feature maps, deconvnet and attribution run or raise what they document, and the network stays as it was."""
    module = subject.module
    model = subject.model
    module.zoo_info = ModelInfo(model.name, model, None, None, model.preprocess, "", (), {})  # as zoo.create leaves it
    before = _state(module)
    image = subject.images(batch=1)
    layer = module.default_layers[-1]
    asked: dict[str, Callable[[], Tensor]] = {
        "features": lambda: tools.features(module, image, layer).maps,
        "deconv": lambda: tools.project(module, image, layer).projection,
        "gradient": lambda: tools.attribute(module, image, "gradient").scores,
        "grad_cam": lambda: tools.attribute(module, image, "grad_cam").scores,
    }
    try:
        for name, ask in asked.items():
            found, refusal = _answer(ask)
            if found is None:
                assert any(words in refusal for words in REFUSALS[name]), f"{name} refuses: {refusal}"
            else:
                assert found.isfinite().all(), f"{name} gives values that are not finite"
    finally:
        del module.zoo_info
    _expect_same(module, before)


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
    assert not changed, f"looking changes {', '.join(changed)}"
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad == flags[name][0], f"looking leaves {name}.requires_grad changed"
        assert parameter.grad is flags[name][1], f"looking leaves a gradient on {name}"
    assert {name: part.training for name, part in module.named_modules()} == modes, "looking leaves modes changed"
    assert _hooks(module) == hooks, "looking leaves hooks behind"
