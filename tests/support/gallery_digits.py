"""The digits of the page that trains: ``python tests/support/gallery_digits.py`` writes its file again."""

from pathlib import Path

import zoo
import zoo_gallery

FILE = Path(zoo_gallery.__file__).parent / "assets" / "digits.bin"


def packed() -> bytes:
    """Returns the images of training and test, row by row, then their labels; a byte each."""
    sets = [zoo.data.load("digits", split) for split in ("train", "test")]
    images = b"".join(one.pixels.numpy().tobytes() for one in sets)
    return images + bytes(label for one in sets for label in one.labels.tolist())


if __name__ == "__main__":
    FILE.write_bytes(packed())
