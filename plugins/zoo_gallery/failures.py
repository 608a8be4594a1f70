"""How weights fail: values alone, as pages show them."""

import msgspec


class Scored(msgspec.Struct, frozen=True):
    """The top-1 on images that were changed by ``strength``, in per cent with its 95% interval."""

    strength: float
    top1: float
    interval: tuple[float, float]


class Curve(msgspec.Struct, frozen=True):
    """How the score falls as images are attacked or transformed: ``kind`` is ``attack`` or ``transformation``."""

    kind: str
    name: str
    unit: str
    data: str
    n: int
    fingerprint: str
    points: tuple[Scored, ...]
    command: str = ""


class Sheet(msgspec.Struct, frozen=True):
    """A file of pictures, each as large as ``tile`` (width, height), in rows of ``columns``."""

    file: str
    tile: tuple[int, int]
    columns: int
    rows: int


class Example(msgspec.Struct, frozen=True):
    """An image that was confused, by its number in the split; the probability of the class that was predicted."""

    image: int
    true: str
    predicted: str
    probability: float | None


class Confusion(msgspec.Struct, frozen=True):
    """The number of images by true and by predicted class, and some that were confused."""

    data: str
    fingerprint: str
    n: int
    correct: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    examples: tuple[Example, ...] = ()
    sheet: Sheet | None = None

    @property
    def pairs(self) -> list[tuple[str, str, int]]:
        """The classes that are confused, true and predicted, the most frequent pair first."""
        found = [
            (self.classes[true], self.classes[predicted], count)
            for true, row in enumerate(self.counts)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ]
        return sorted(found, key=lambda pair: -pair[2])


class Predicted(msgspec.Struct, frozen=True):
    """A class with its probability, and whether it is the image's."""

    name: str
    probability: float
    is_right: bool


class Series(msgspec.Struct, frozen=True):
    """A few images attacked at several ``epsilons`` in units of 1/255: a row of the ``sheet`` for each image."""

    name: str
    data: str
    fingerprint: str
    epsilons: tuple[float, ...]
    images: tuple[int, ...]
    truths: tuple[str, ...]
    predicted: tuple[tuple[Predicted, ...], ...]
    sheet: Sheet
    command: str

    @property
    def right(self) -> list[int]:
        """How many images are classified rightly, by epsilon."""
        return [sum(one.is_right for one in column) for column in zip(*self.predicted, strict=True)]


class PatchScore(msgspec.Struct, frozen=True):
    """How often a patch makes weights predict ``target``, in per cent with its interval; ``without`` it."""

    target: str
    data: str
    fingerprint: str
    n: int
    rate: float
    interval: tuple[float, float]
    without: float
    area: float
    sheet: Sheet
    command: str


class Failures(msgspec.Struct, frozen=True):
    """How weights fail, as far as it was measured."""

    curves: tuple[Curve, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    series: tuple[Series, ...] = ()
    patches: tuple[PatchScore, ...] = ()

    @property
    def sheets(self) -> list[Sheet]:
        """The pictures that a page about them shows."""
        shown = [one.sheet for one in self.confusions if one.sheet is not None]
        return [*shown, *(one.sheet for one in self.series), *(one.sheet for one in self.patches)]
