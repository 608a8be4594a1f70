"""The similarity of two networks' layers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import data as datasets
from zoo.data import ImageSet, Transform
from zoo.errors import DataError, UnknownNameError
from zoo.evaluation import batches
from zoo.evaluation.forward import device_of
from zoo.loading.create import info_of
from zoo_look.network import captured, layers, name_of, opened
from zoo_look.result import Look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Representations(Look):
    """``cka`` float64 A B: how alike layer a of one network is to layer b of the other on ``n`` images."""

    cka: Tensor
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    models: tuple[str, str]
    n: int

    def facts(self) -> dict[str, Any]:
        return {"models": self.models, "layers": self.layers, "n": self.n, "cka": self.cka.tolist()}

    def figure(self) -> "Figure":
        """Draws a matrix, the first network's layers upwards."""
        rows, columns = self.cka.shape
        figure = new_figure(max(0.42 * columns + 2.2, 4.5), max(0.36 * rows + 1.6, 3.2), self.caption)
        axis = figure.subplots()
        image = axis.imshow(self.cka.numpy(), vmin=0, vmax=1, origin="lower", cmap="magma")
        axis.set_yticks(range(rows), self.layers[0], fontsize=7)
        axis.set_xticks(range(columns), self.layers[1], fontsize=7, rotation=90)
        axis.set_ylabel(self.models[0], fontsize=8)
        axis.set_xlabel(self.models[1], fontsize=8)
        figure.colorbar(image, label="CKA")
        return figure


def representations(
    first: str | nn.Module,
    second: str | nn.Module,
    data: str | Path | ImageSet,
    split: str = "test",
    *,
    layers_of: Sequence[str] = (),
    limit: int = 1000,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Representations:
    """Computes the centred kernel alignment (CKA) between the layers of two networks on the same images.

    Linear CKA (Kornblith, Norouzi, Lee and Hinton 2019) of whole maps, with the unbiased estimate of HSIC (Song et al.
    2012), which does not grow with the number of features: unrelated layers are near 0, and may be below it.

    Args:
        first: A name, for which trained weights are used, or a network that :func:`zoo.create` returned.
        second: The other one.
        data: A data set's name or path, or its images.
        split: The split to load, if ``data`` is not images.
        layers_of: Names of layers, or patterns such as ``layer*``. By default the networks' main parts.
        limit: Only the first images of the split, this many.
        device: Where to run. By default where each network is.
        progress: Called with (images done, images in all, for both).

    Returns:
        A table of similarities, with a figure.

    Raises:
        UnknownNameError: There is no such model or data set, or no layer matches.
        DataError: There are fewer than four images.

    Example:
        >>> import zoo
        >>> model, digits = zoo.create("resnet20.digits"), zoo.data.load("digits", "test")
        >>> found = zoo.look.representations(model, model, digits, layers_of=["layer*"], limit=50)
        >>> [round(value, 3) for value in found.cka.diag().tolist()]
        [1.0, 1.0, 1.0]
    """
    images = datasets.load(data, split) if not isinstance(data, ImageSet) else data
    n = min(limit, len(images))
    if n < 4:
        raise DataError(f"CKA of {n} images is meaningless: expected at least four.")
    names, tables = [], []
    for position, model in enumerate((first, second)):
        with opened(model, device=device) as network:

            def report(done: int, _: int, position: int = position) -> None:
                if progress is not None:
                    progress(position * n + done, 2 * n)

            table = grams(network, images, n, layers_of, report)
            names.append(name_of(network))
            tables.append(table)
    crossed = torch.tensor([[float(cka(a, b)) for b in tables[1].values()] for a in tables[0].values()])
    caption = f"CKA of {names[0]} and {names[1]} on {n:,} images of {images.name}/{images.split}"
    layer_names = (tuple(tables[0]), tuple(tables[1]))
    return Representations(caption, crossed.double(), layer_names, (names[0], names[1]), n)


def cka(first: Tensor, second: Tensor) -> Tensor:
    """Computes the CKA of two Gram matrices N N; 1 for the same representation up to rotation and scale, near 0 for
    unrelated."""
    norms = _hsic(first, first) * _hsic(second, second)
    aligned: Tensor = _hsic(first, second) / norms.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    return aligned


def _hsic(first: Tensor, second: Tensor) -> Tensor:
    """Returns the unbiased estimate of Song et al. 2012, equation 5, of Gram matrices N N whose diagonals do not
    count."""
    n = len(first)
    a, b = (gram.double() - torch.diag(gram.double().diagonal()) for gram in (first, second))
    crossed: Tensor = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (n - 2)
    crossed /= n * (n - 3)
    return crossed


def grams(network: nn.Module, images: ImageSet, n: int, wanted: Sequence[str], report: Progress) -> dict[str, Tensor]:
    """Returns the Gram matrix N N of each layer's output for the first ``n`` images."""
    every = [layer.name for layer in layers(network)]
    patterns = wanted or [name for name in every if "." not in name]
    names = [name for name in every if any(_matches(name, pattern) for pattern in patterns)]
    if not names:
        raise UnknownNameError.of("layer", patterns[0], every, hint=f"zoo look layers {name_of(network)} lists them.")
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    done = 0
    with ExitStack() as stack:
        outputs = stack.enter_context(captured(network, names))
        stack.enter_context(torch.no_grad())
        for batch, _ in batches(images, Transform(info_of(network).preprocess), 100, images=range(n)):
            network(batch.to(device_of(network)))
            for name in names:
                rows[name].append(outputs[name].flatten(1).half().cpu())  # halves what waits for the products
            done += len(batch)
            report(done, n)
    tables: dict[str, Tensor] = {}
    for name in names:
        flat = torch.cat(rows.pop(name)).float()
        flat = flat - flat.mean(0)
        gram = flat @ flat.T
        is_new = not tables or not torch.equal(gram, [*tables.values()][-1])
        if is_new or wanted:  # a part that changes nothing, dropout or flattening, would be a column twice
            tables[name] = gram
    return tables


def _matches(name: str, pattern: str) -> bool:
    """Matches as shell patterns do, with a star within one part of the name: ``layer*`` does not match ``layer1.0``."""
    return name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)
