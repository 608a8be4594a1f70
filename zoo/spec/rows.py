"""What the author of a plugin writes: values, frozen and checked on construction.

A plugin is a module-level ``Plugin`` that an entry point of the group ``zoo.plugins`` names. Its
hooks are strings ``"package.module:function"``, imported on first use, so this module and every
plugin's top-level module stay free of torch.
"""

import re
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any, Literal

from msgspec.structs import force_setattr, replace

from zoo.names import is_arch, is_part
from zoo.spec.checked import Spec

API = 1
"""The version of this contract. A plugin that asks for a newer one is set aside with a reason."""

MOST_CHANNELS, LONGEST_SIDE = 1024, 8192
"""Of an input: a file that says more would have memory taken before it is seen not to fit."""

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RESOURCE = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


class Paper(Spec, frozen=True):
    """Where an architecture was published."""

    title: str
    authors: str
    year: int
    url: str = ""


class Preprocess(Spec, frozen=True):
    """How an image becomes the network's input.

    The shorter side is resized to ``floor(size / crop_pct)`` with ``interpolation``, the centre
    ``size`` is cut out, with black around it where the image is smaller, values go to [0, 1], then
    ``(x - mean) / std`` per channel. ``crop_mode``, like timm's, resizes the longer side and fills up
    with the mean colour (``border``), or both sides, regardless of the proportions (``squash``).
    ``whitening`` says that the network carries a whitening transform of its own (``zoo.data.whitening``).
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    crop_pct: float = 0.875
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    whitening: Literal["none", "zca"] = "none"
    crop_mode: Literal["center", "squash", "border"] = "center"

    def __post_init__(self) -> None:
        super().__post_init__()
        channels, height, width = self.input_size
        self.require(channels > 0 and height > 0 and width > 0, f"input_size {self.input_size} must be positive")
        is_bounded = channels <= MOST_CHANNELS and max(height, width) <= LONGEST_SIDE
        self.require(
            is_bounded, f"input_size {self.input_size} is more than {MOST_CHANNELS} channels of {LONGEST_SIDE} pixels"
        )
        self.require(0 < self.crop_pct < 2, f"crop_pct {self.crop_pct} must lie in (0, 2): a fraction of the side")
        self.require(
            len(self.mean) == len(self.std) == channels,
            f"{len(self.mean)} means and {len(self.std)} stds for {channels} channels",
        )
        self.require(all(map(isfinite, self.mean)), f"mean {self.mean} must be finite")
        self.require(all(0 < s < inf for s in self.std), f"std {self.std} must be positive and finite")


IMAGENET = Preprocess()
"""As usual for ImageNet: 224 pixels, the data set's mean and deviation."""
CIFAR10 = Preprocess(input_size=(3, 32, 32), crop_pct=1.0, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CIFAR10_IMAGE_STD: Mapping[str, Any] = {
    "input_size": CIFAR10.input_size,
    "crop_pct": CIFAR10.crop_pct,
    "mean": CIFAR10.mean,
    "std": (0.2023, 0.1994, 0.2010),
}
"""For a ``KeyMap``: many public checkpoints divide by the mean of the images' own deviations."""
MNIST = Preprocess(input_size=(1, 28, 28), crop_pct=1.0, mean=(0.1307,), std=(0.3081,))
STD_255 = (1 / 255, 1 / 255, 1 / 255)
"""As a ``std``: pixels stay in [0, 255], less their mean."""


def unscaled(channels: int, side: int, **changes: Any) -> Preprocess:
    """Pixels in [0, 1] as they are, black 0, from images of ``side`` pixels; ``changes`` are other fields."""
    size = (channels, side, side)
    return Preprocess(input_size=size, crop_pct=1.0, mean=(0.0,) * channels, std=(1.0,) * channels, **changes)


class Requirement(Spec, frozen=True):
    """A module that hooks import, and what pip is given to get it: ``Requirement("cv2", "zoo-vision[classical]")``."""

    module: str
    install: str


class Argument(Spec, frozen=True):
    """The values that a weights file may give one argument of a build function.

    One of ``choices``; a number from ``least`` to ``most``, a whole one unless ``least`` is a float; a
    string that ``pattern`` matches from end to end. With ``longest``, also a list of at most as many.
    """

    choices: tuple[str | int | float | bool | None, ...] = ()
    least: int | float | None = None
    most: int | float | None = None
    pattern: str = ""
    longest: int = 0

    def takes(self, value: Any) -> bool:
        """Whether a file may say ``value``."""
        if isinstance(value, list | tuple):
            return len(value) <= self.longest and all(map(self._takes_one, value))
        return self._takes_one(value)

    def _takes_one(self, value: Any) -> bool:
        if any(type(value) is type(choice) and value == choice for choice in self.choices):  # True is not 1
            return True
        if isinstance(value, str):
            return bool(self.pattern) and re.fullmatch(self.pattern, value) is not None
        is_number = type(value) is int or (type(value) is float and isinstance(self.least, float))
        least, most = self.least, inf if self.most is None else self.most
        return is_number and least is not None and least <= value <= most

    def __str__(self) -> str:
        said = [repr(choice) for choice in self.choices]
        if self.least is not None:
            said.append(f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}")
        said += [f"text that matches {self.pattern}"] if self.pattern else []
        return ", ".join(said) + (f", or a list of at most {self.longest}" if self.longest else "")


class Model(Spec, frozen=True):
    """One named architecture.

    ``build`` takes ``args``, ``num_classes``, ``in_chans`` and what the caller adds, and returns a
    module with timm's model interface. ``head`` and ``stem`` name the submodules that depend on
    ``num_classes`` and ``in_chans``: the only ones whose tensors a weights file need not fit.
    A weights file and its manifest entry may repeat ``args`` and set what ``file_args`` declares,
    nothing else, since anyone may have written them.
    ``params`` counts learnable elements as built by default; ``macs`` the multiply-adds of
    convolutions and linear layers for one input of ``preprocess.input_size``, 0 where not stated.
    ``stages`` names the submodules at which features are taken. Without classes (``num_classes`` 0)
    the network gives features. ``translate`` is called with the tensors of a file that does not fit
    as it is, and the module; it returns tensors that might, in a library's newer names and shapes.
    """

    name: str
    build: str
    args: Mapping[str, Any] = {}
    paper: Paper | None = None
    preprocess: Preprocess = Preprocess()
    params: int = 0
    macs: int = 0
    num_classes: int = 1000
    head: tuple[str, ...] = ()
    stem: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    translate: str = ""
    train: str = "zoo.training:train"
    evaluate: str = "zoo.evaluation:evaluate"
    requires: tuple[Requirement, ...] = ()
    note: str = ""
    file_args: Mapping[str, Argument] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_arch(self.name), "a name is lower case letters, digits and _, beginning with a letter or digit")
        for hook in (self.build, self.train, self.evaluate, *filter(None, [self.translate])):
            self.require(_TARGET.fullmatch(hook) is not None, f"hook {hook!r} must read 'package.module:function'")
        self.require(self.params >= 0 and self.macs >= 0, "params and macs must not be negative")
        self.require(self.num_classes >= 0, "num_classes must not be negative")


class KeyMap(Spec, frozen=True):
    """How another lineage's checkpoint becomes this family's: for ``zoo convert``.

    ``rename`` holds (regular expression, replacement) pairs, applied to each key in order; ``drop``
    regular expressions of keys that carry no weights. All that follows is about the new keys:

    ``transpose`` holds (regular expression, shape, permutation): the tensor is viewed as ``shape``, as it
    is where that is empty, and its dimensions permuted. Keras's convolutions, H W I O, are ``(3, 2, 0, 1)``.
    ``fold_bias`` holds (regular expression of a convolution's bias, replacement that gives the running mean
    behind it): ours have no bias there, so it is taken off that mean. ``norm_eps`` is the epsilon of the
    lineage's batch normalisation and ours: the difference is added to the variances.
    ``ones`` holds regular expressions of keys that the lineage lacks because it multiplies by 1: Keras's
    normalisations with ``scale=False``.
    ``input_order`` and ``input_scale`` are what the lineage's first layer, the model's ``stem``, takes; it is
    made to take RGB in [0, 1] instead, less the mean that ``preprocess`` gives.

    ``args`` and ``preprocess`` are what the lineage assumes of the build and of the input, ``classes`` the
    data set whose classes it knows.
    """

    name: str
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    transpose: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    fold_bias: tuple[tuple[str, str], ...] = ()
    norm_eps: tuple[float, float] | None = None
    ones: tuple[str, ...] = ()
    input_order: Literal["rgb", "bgr"] = "rgb"
    input_scale: float = 1.0
    args: Mapping[str, Any] = {}
    preprocess: Mapping[str, Any] = {}
    classes: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        rewritten = [old for old, _ in (*self.rename, *self.fold_bias)]
        for pattern in (*rewritten, *self.drop, *self.ones, *(pattern for pattern, _, _ in self.transpose)):
            try:
                re.compile(pattern)
            except re.error as error:
                self.require(False, f"{pattern!r} is not a regular expression: {error}")
        for pattern, _, order in self.transpose:
            self.require(sorted(order) == [*range(len(order))], f"{order} for {pattern!r} is not a permutation")
        self.require(0 < self.input_scale < inf, f"input_scale {self.input_scale} must be positive and finite")


class DatasetSpec(Spec, frozen=True):
    """A data set that a family brings: ``load(root, split)`` returns a ``zoo.data.ImageSet``.

    ``images`` is how many its training split holds, 0 where not stated.
    """

    name: str
    load: str
    splits: tuple[str, ...] = ("train", "test")
    source: str = ""
    license: str = ""
    images: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name is lower case letters, digits and _")
        self.require(self.images >= 0, "images must not be negative")
        self.require(
            _TARGET.fullmatch(self.load) is not None, f"hook {self.load!r} must read 'package.module:function'"
        )


class Plugin(Spec, frozen=True):
    """A family: its models, and resources ``"package:path"`` with its weights and recipes.

    What it ``requires``, each of its models does, and its ``file_args`` hold for each of them. A plugin
    that stands for another library has a ``collection`` in place of models: a hook, called on first
    need and without torch, that returns them and their weights (``zoo.manifest.Weights``), each model
    named in full, ``plugin/arch``. They have no short names, and are listed only where they are asked for.
    """

    name: str
    api: int
    models: tuple[Model, ...] = ()
    weights: tuple[str, ...] = ()
    recipes: str = ""
    key_maps: tuple[KeyMap, ...] = ()
    datasets: tuple[DatasetSpec, ...] = ()
    requires: tuple[Requirement, ...] = ()
    collection: str = ""
    file_args: Mapping[str, Argument] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name is lower case letters, digits and _")
        self.require(self.api >= 1, f"api = {self.api}, expected the contract's version, 1 to {API}")
        if self.collection:
            target = self.collection
            self.require(_TARGET.fullmatch(target) is not None, f"hook {target!r} must read 'package.module:function'")
            self.require(not self.models, "it has models or a collection, not both")
        if self.requires or self.file_args:
            force_setattr(self, "models", tuple(map(self._completed, self.models)))
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        self.require(not twice, f"models named twice: {', '.join(twice)}")
        self.require(all(map(is_part, names)), "only the models of a collection are named in full")
        for resource in (*self.weights, *filter(None, [self.recipes])):
            self.require(_RESOURCE.fullmatch(resource) is not None, f"resource {resource!r} must read 'package:path'")

    def _completed(self, model: Model) -> Model:
        requires, file_args = (*self.requires, *model.requires), {**self.file_args, **model.file_args}
        return replace(model, requires=requires, file_args=file_args)
