"""Folders of small images, as users have them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image


def write(folder: Path, classes: Sequence[str], counts: dict[str, int]) -> Path:
    """Writes so many images 32 x 32 of noise of each class, by split, as ``SPLIT/CLASS/NUMBER.png``; returns
    ``folder``."""
    generator = torch.Generator().manual_seed(0)
    for split, count in counts.items():
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / split / name / f"{number}.png")
    return folder
