"""How much a network's first filters resemble Gabor filters: ``python -m zoo_gabor.compare NAME.TAG [-o FILE.svg]``.

A kernel of few pixels is fitted by nearly any filter, so filters of noise, of the same number and size and
treated the same, stand beside the learned ones: the difference between the two is what was learned.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import MissingExtraError, SpecError, ZooError
from zoo_gabor.fit import PARAMETERS, Fit, fit
from zoo_gabor.modulation import GConv

_COLUMNS = 8
"""Filters side by side in the figure."""


class Comparison(NamedTuple):
    """``patterns`` N H W of the filters, the ``share`` N of each filter that its pattern is, and their ``fitted``.

    ``noise`` holds the errors N of as many filters of noise.
    """

    patterns: Tensor
    share: Tensor
    fitted: Fit
    noise: Tensor


def compare(weight: Tensor) -> Comparison:
    """The filters ``weight`` N C H W beside their nearest Gabor filters."""
    found, share = patterns(weight)
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    return Comparison(found, share, fit(found), fit(patterns(noise)[0]).error)


def first_filters(model: nn.Module) -> Tensor:
    """The filters N C H W of the first convolution of ``model``; modulated ones as they convolve.

    Raises :class:`SpecError` where there is no convolution.
    """
    for module in model.modules():
        if isinstance(module, GConv):
            return module.filters().detach()
        if isinstance(module, nn.Conv2d):
            return module.weight.detach()
    raise SpecError(f"{type(model).__name__} has no convolution whose filters could be compared.")


def patterns(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Filters N C H W as one grey pattern each, N H W, and the share N of their energy that it holds.

    The nearest filter whose channels are all multiples of one pattern: the first singular vector, of the
    filter's norm where all energy is in it. Its sign is that of the strongest channel.
    """
    matrices = weight.detach().double().cpu().flatten(2)  # N C H W -> N C HW
    colours, strengths, rows = torch.linalg.svd(matrices, full_matrices=False)
    strongest = colours[:, :, 0].abs().argmax(1, keepdim=True)
    sign = colours[:, :, 0].gather(1, strongest).sign()
    energy = strengths.square()
    share = energy[:, 0] / energy.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    return (sign * strengths[:, :1] * rows[:, 0]).view(-1, *weight.shape[2:]), share


def table(result: Comparison) -> str:
    """One line a filter, and what they come to."""
    fitted = result.fitted
    lines = ["filter  wavelength  orientation  phase  sigma  gamma  one pattern  error"]
    for index in range(len(result.patterns)):
        turn, phase = (math.degrees(float(angle[index])) for angle in (fitted.orientation, fitted.phase))
        lines.append(
            f"{index:6d}  {fitted.wavelength[index]:7.2f} px  {turn:7.0f} deg  {phase:5.0f}  {fitted.sigma[index]:5.2f}"
            f"  {fitted.gamma[index]:5.2f}  {result.share[index]:11.0%}  {fitted.error[index]:5.2f}"
        )
    height, width = result.patterns.shape[1:]
    lines += [
        "",
        f"median error: learned {fitted.error.median():.2f}, noise {result.noise.median():.2f}"
        f" (norm of what is left over that of the pattern; 0: a Gabor filter, 1: nothing like one)",
    ]
    if height * width <= 2 * PARAMETERS:
        lines.append(
            f"A kernel of {height * width} pixels against {PARAMETERS} numbers of a Gabor filter: "
            f"only the difference to noise says anything."
        )
    return "\n".join(lines)


def draw(result: Comparison, title: str, file: str) -> None:
    """Each pattern above its Gabor filter, on one scale, as a figure in ``file``; the same bytes at every call."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("A figure", "matplotlib", "zoo-vision[look]") from None
    count = len(result.patterns)
    rows, columns = -(-count // _COLUMNS), min(count, _COLUMNS)
    rendered = result.fitted.render(*result.patterns.shape[1:])
    figure = Figure(figsize=(1.1 * columns, 2.5 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{title}: learned above, nearest Gabor filter below", fontsize=9)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index in range(count):
        row, column = divmod(index, _COLUMNS)
        limit = float(max(result.patterns[index].abs().max(), rendered[index].abs().max())) or 1.0
        for offset, image in enumerate((result.patterns[index], rendered[index])):
            axes[2 * row + offset, column].imshow(image.numpy(), cmap="gray", vmin=-limit, vmax=limit)
        axes[2 * row, column].set_title(f"{result.fitted.error[index]:.2f}", fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "zoo"}):
        figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo_gabor.compare", description=__doc__)
    parser.add_argument("name", help="weights, such as resnet20.c10; a model alone is newly initialised")
    parser.add_argument("-o", "--output", metavar="FILE.svg", help="where to draw the filters")
    asked = parser.parse_args(words)
    try:
        weight = first_filters(zoo.create(asked.name))
        result = compare(weight)
        height, width = weight.shape[2:]
        print(f"{asked.name}: {len(weight)} filters of {height}x{width} in the first layer\n")
        print(table(result))
        if asked.output:
            draw(result, asked.name, asked.output)
    except (ZooError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ZooError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
