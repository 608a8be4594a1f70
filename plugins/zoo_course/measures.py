"""The numbers that exercises ask for: computed from rows, manifests and networks, by name.

Those that need torch import it themselves.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from zoo.loading.create import create, info
from zoo.statistics import wilson

if TYPE_CHECKING:
    from torch import nn


def filter_distance(weights: str) -> float:
    """Returns the median distance of first-layer filters to their nearest Gabor filters, as a fraction of their
    norm.
    """
    from zoo import look

    return float(look.filters(weights).facts()["median_error"])


def inputs_per_class(weights: str) -> float:
    """Returns the inputs of a linear classifier: what remains of each class's weights without the constant."""
    (found,) = info(weights)["weights"]
    return float(found["params"] / found["num_classes"] - 1)


def per_cent_in_linear_layers(model: str) -> float:
    """Returns the share of the parameters in fully connected layers."""
    from torch import nn

    network = _shape_of(model)
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)]
    return 100 * sum(map(_parameters, linear)) / _parameters(network)


def pixels_per_period(model: str) -> float:
    """Returns the shortest period, in pixels of the image, that the first convolution's stride can represent."""
    from torch import nn

    first = next(part for part in _shape_of(model).modules() if isinstance(part, nn.Conv2d))
    return 2.0 * first.stride[0]


def stacked_over_single(layers: str, kernel: str) -> float:
    """Returns the parameters of stacked convolutions over those of one convolution that sees as many pixels."""
    from torch import nn

    count, side, channels = int(layers), int(kernel), 64
    stacked = nn.Sequential(*(nn.Conv2d(channels, channels, side, bias=False, device="meta") for _ in range(count)))
    single = nn.Conv2d(channels, channels, count * (side - 1) + 1, bias=False, device="meta")
    return _parameters(stacked) / _parameters(single)


def parameter_ratio(model: str, other: str) -> float:
    """Returns the parameters of ``model`` over those of ``other``."""
    return float(info(model)["params"] / info(other)["params"])


def more_parameters(model: str, other: str) -> float:
    """Returns how many more parameters ``model`` has than ``other``."""
    return float(info(model)["params"] - info(other)["params"])


def points_gained(weights: str, other: str, images: str) -> float:
    """Returns how many points higher the top-1 of ``weights`` is than that of ``other``."""
    return float(_score(weights, images)["top1"] - _score(other, images)["top1"])


def error_ratio(weights: str, other: str, images: str) -> float:
    """Returns the errors of ``weights`` over those of ``other``."""
    return float((100 - _score(weights, images)["top1"]) / (100 - _score(other, images)["top1"]))


def upper_bound(weights: str, images: str) -> float:
    """Returns the upper end of the 95% interval of top-1, in per cent."""
    score = _score(weights, images)
    return 100 * wilson(score["correct"], score["n"])[1]


def convolutions(model: str) -> float:
    """Returns how many convolutions a network has."""
    from torch import nn

    return float(sum(isinstance(part, nn.Conv2d) for part in _shape_of(model).modules()))


def receptive_field(weights: str, layer: str) -> float:
    """Returns the side, in pixels, of what one unit of ``layer`` sees."""
    from zoo import look

    geometry = look.receptive_field(weights, layer).rows(0)
    assert geometry is not None, "an exercise asks for a layer whose units see equally many pixels"
    return float(geometry.size)


def halving_epsilon(weights: str, data: str) -> float:
    """Returns the smallest epsilon, in steps of 1/255, at which FGSM leaves fewer than half of the test images
    right.
    """
    from zoo import attack

    def is_halved(step: int) -> bool:
        (point,) = attack.curve(weights, data, "fgsm", [step / 255]).points
        return point.accuracy < 50

    return float(bisect_left(range(65), True, key=is_halved))  # accuracy falls over this range


def _score(weights: str, images: str) -> dict[str, Any]:
    (found,) = info(weights)["weights"]
    score: dict[str, Any] = found["scores"][images]
    return score


def _shape_of(model: str) -> "nn.Module":
    """Returns the network without values: only its layers and their sizes."""
    return create(model, device="meta")


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())
