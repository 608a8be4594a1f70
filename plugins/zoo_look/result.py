"""Results of ``zoo.look``: tensors, numbers, a figure, and their files; and the questions that plugins bring."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.errors import DataError, MissingExtraError, PluginError
from zoo.loading import safetensors_file
from zoo.registry import extensions, hooks
from zoo.registry.hooks import blaming
from zoo.spec import LookQuestion
from zoo.system import storage
from zoo_look.network import Picture, opened

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DRAWN = (".png", ".webp", ".svg", ".pdf")


@dataclass(frozen=True, eq=False)
class Look(ABC):
    """The result of one question. ``caption`` says model, weights, layer, unit and image.

    Fields that are tensors are the result itself; :meth:`facts` is what JSON holds of it.
    """

    caption: str

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Returns the result in plain numbers and words."""

    @abstractmethod
    def figure(self) -> "Figure":
        """Draws the result, the caption above."""

    def tensors(self) -> dict[str, Tensor]:
        """Returns the fields that are tensors."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def save(self, file: str | Path) -> Path:
        """Writes ``file``, whole or not at all: drawn (.png, .webp, .svg, .pdf), facts (.json), tensors
        (.safetensors).

        The same result gives the same bytes. Raises :class:`DataError` for another kind of file.
        """
        file = Path(file)
        if file.suffix == ".safetensors":
            safetensors_file.write(self.tensors(), file, {"caption": self.caption})
        elif file.suffix == ".json":
            storage.replace(file, _json({"caption": self.caption, **self.facts()}))
        elif file.suffix in DRAWN:
            storage.replace(file, drawn(self.figure(), file.suffix))
        else:
            raise DataError(f"{file}: unknown file type, expected {', '.join(DRAWN)}, .json or .safetensors.")
        return file


def new_figure(width: float, height: float, caption: str) -> "Figure":
    """Returns an empty figure for :meth:`Look.figure`.

    Args:
        width: In inches.
        height: In inches.
        caption: The text above it.

    Returns:
        The figure, of matplotlib.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> import zoo
        >>> zoo.look.new_figure(4, 3, "resnet20.digits").get_size_inches().tolist()
        [4.0, 3.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("A figure", "matplotlib", "zoo-vision[look]") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(caption, fontsize=9, wrap=True)
    return figure


def drawn(figure: "Figure", suffix: str) -> bytes:
    """Returns ``figure`` as the bytes of a file of this kind, the same at every call."""
    from io import BytesIO

    import matplotlib

    buffer = BytesIO()
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    more: dict[str, Any] = {"dpi": 150, "metadata": dated.get(suffix)}
    if suffix == ".webp":  # small, for a page
        more = {"dpi": 110, "pil_kwargs": {"quality": 40}}
    with matplotlib.rc_context({"svg.hashsalt": "zoo"}):
        figure.savefig(buffer, format=suffix[1:], **more)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n"


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
    values = {"image": image, "layer": layer, **(options or {})}
    hook = registry.hook(row.run, row.requires, role=hooks.LOOK._replace(keywords=tuple(values)), of=question)
    with opened(model, device=device, **args) as network, blaming(row.run, question):
        result = hook(network, **values)
    if not isinstance(result, Look):
        raise PluginError(f"{row.run} returned {type(result).__name__}, expected a zoo.look.Look.")
    return result
