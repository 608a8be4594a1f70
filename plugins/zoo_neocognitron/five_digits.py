"""Five digits of 16 by 16 pixels, as strokes a pixel wide: what the network of 1980 was shown, drawn anew."""

import torch

from zoo.data import ImageSet

PATTERNS = (
    ("...##...", "..#..#..", ".#....#.", "#......#", "#......#", "#......#", ".#....#.", "..#..#..", "...##..."),
    ("...#....", "..##....", ".#.#....", "...#....", "...#....", "...#....", "...#....", "...#....", ".#####.."),
    ("..###...", ".#...#..", "#.....#.", "......#.", ".....#..", "....#...", "..##....", ".#......", "#######."),
    ("#######.", ".....#..", "....#...", "...##...", ".....#..", "......#.", "......#.", "#....#..", ".####..."),
    (".....#..", "....##..", "...#.#..", "..#..#..", ".#...#..", "#######.", ".....#..", ".....#..", ".....#.."),
)
"""0 to 4, 9 rows of 8."""
SIDE = 16
SHIFTS = tuple((down, right) for down in range(-1, 2) for right in range(-1, 2))
"""Places of a pattern, in pixels from the middle."""


def load(root: object, split: str) -> ImageSet:
    """Returns every digit at 6 places in training, at the 3 others in test; uint8 N 1 16 16. ``root`` is not read."""
    del root
    is_test = [(down + right) % 3 == 0 for down, right in SHIFTS]
    places = [place for place, held in zip(SHIFTS, is_test, strict=True) if held == (split == "test")]
    images = [drawn(digit, *place) for place in places for digit in range(len(PATTERNS))]
    labels = torch.arange(len(PATTERNS)).repeat(len(places))
    return ImageSet("five_digits", split, tuple("01234"), labels, torch.stack(images))


def drawn(digit: int, down: int, right: int) -> torch.Tensor:
    """Returns one digit, so many pixels from the middle: uint8 1 16 16."""
    pattern = torch.tensor([[255 * (pixel == "#") for pixel in row] for row in PATTERNS[digit]], dtype=torch.uint8)
    image = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    top, left = (SIDE - pattern.shape[0]) // 2 + down, (SIDE - pattern.shape[1]) // 2 + right
    image[0, top : top + pattern.shape[0], left : left + pattern.shape[1]] = pattern
    return image
