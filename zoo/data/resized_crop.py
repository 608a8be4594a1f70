"""Random resized crop: a window of random size, shape and place, resized to the network's input size.

Szegedy et al. 2015, "Going deeper with convolutions", section 6; the draws are torchvision's.
"""

import math

import torch

from zoo.data.augmentation import ResizedCrop

_TRIES = 10


def draw_window(
    settings: ResizedCrop, height: int, width: int, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """A window of an image of ``height`` x ``width``.

    Its area is uniform in ``scale`` times the image's, its width over height log-uniform in ``ratio``.
    Where ten draws do not fit into the image, the largest centred window of an allowed shape. The
    same numbers in the same order as torchvision's ``RandomResizedCrop.get_params`` takes them.
    """
    log_ratio = torch.log(torch.tensor(settings.ratio))
    for _ in range(_TRIES):
        area = height * width * _uniform(*settings.scale, generator).item()
        ratio = torch.exp(_uniform(float(log_ratio[0]), float(log_ratio[1]), generator)).item()
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(torch.randint(0, height - down + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - across + 1, (1,), generator=generator))
            return left, top, left + across, top + down
    low, high = settings.ratio
    across, down = width, height
    if width / height < low:
        down = round(width / low)
    elif width / height > high:
        across = round(height * high)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _uniform(low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(low, high, generator=generator)
