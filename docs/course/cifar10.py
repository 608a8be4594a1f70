"""Writes the photographs that a network in chapter 3 learns: ``python docs/course/cifar10.py``.

The first 160 training images of each class of CIFAR-10, at 16 x 16 pixels, in a sheet of 40 x 40 whose classes take
turns. Test images are left alone. CIFAR-10 is Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images";
its author states no licence.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import zoo.data

FILE = Path(__file__).parents[1] / "javascripts" / "cifar10.webp"
SIDE, ACROSS, CLASSES = 16, 40, 10


def sheet() -> Image.Image:
    """Returns the images side by side, row by row."""
    images = zoo.data.load("cifar10", "train")
    labels = images.labels.numpy()
    first = [np.flatnonzero(labels == label)[: ACROSS**2 // CLASSES] for label in range(CLASSES)]
    drawn = Image.new("RGB", (SIDE * ACROSS, SIDE * ACROSS))
    for place, number in enumerate(np.stack(first, axis=1).flatten()):
        small = images.image(int(number)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        drawn.paste(small, (SIDE * (place % ACROSS), SIDE * (place // ACROSS)))
    return drawn


if __name__ == "__main__":
    sheet().save(FILE, quality=80, method=6)
