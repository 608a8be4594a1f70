"""Results of ``zoo.look``: tensors, numbers, a figure, and their files."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zoo.errors import DataError, MissingExtraError
from zoo.loading import safetensors_file
from zoo.system import storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = (".png", ".svg", ".pdf")


@dataclass(frozen=True, eq=False)
class Look(ABC):
    """The result of one question. ``caption`` says model, weights, layer, unit and image.

    Fields that are tensors are the result itself; :meth:`facts` is what JSON holds of it.
    """

    caption: str

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The result in plain numbers and words."""

    @abstractmethod
    def figure(self) -> "Figure":
        """The result drawn, the caption above."""

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def save(self, file: str | Path) -> Path:
        """Writes ``file``, whole or not at all: drawn (.png, .svg, .pdf), facts (.json), tensors (.safetensors).

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
    """An empty figure for :meth:`Look.figure`.

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
    """``figure`` as the bytes of a file of this kind, the same at every call."""
    from io import BytesIO

    import matplotlib

    buffer = BytesIO()
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    with matplotlib.rc_context({"svg.hashsalt": "zoo"}):
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=dated[suffix])
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n"
