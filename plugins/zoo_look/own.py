"""Questions that plugins bring."""

from typing import Any

import torch
from torch import nn

from zoo import registry
from zoo.errors import PluginError
from zoo.registry import extensions, roles
from zoo.registry.hooks import blaming
from zoo.spec import LookQuestion
from zoo_look.network import Picture, opened
from zoo_look.result import Look

FIELD = "looks"


def ask(
    question: str,
    model: str | nn.Module,
    image: Picture | None = None,
    *,
    layer: str = "",
    options: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
    **args: Any,
) -> Look:
    """Asks a question that a plugin brings (:class:`zoo.spec.LookQuestion`).

    Args:
        question: The question's name, or ``plugin/name``.
        model: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        image: A file, a Pillow image or the network's input.
        layer: A submodule.
        options: Arguments of the question.
        device: Where to run. By default where the network is.
        args: ``weights`` and arguments of the family's build function, if ``model`` is a name.

    Returns:
        The result, with a caption, facts, tensors and a figure.

    Raises:
        UnknownNameError: There is no such question or model.
        PluginError: The hook does not take the arguments, fails, or returns something else.

    Example:
        >>> import zoo
        >>> zoo.look.ask("no_such_question", "resnet20.digits")
        Traceback (most recent call last):
        ...
        zoo.errors.UnknownNameError: ...
    """
    row: LookQuestion = extensions.require(FIELD, question).spec
    given = {"image": image, "layer": layer, **(options or {})}
    hook = registry.hook(row.run, row.requires, role=roles.LOOK._replace(keywords=tuple(given)), of=question)
    with opened(model, device=device, **args) as network, blaming(row.run, question):
        found = hook(network, **given)
    if not isinstance(found, Look):
        raise PluginError(f"{row.run} returned {type(found).__name__}, expected a zoo.look.Look.")
    return found
