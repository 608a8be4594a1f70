"""The values that a plugin author writes, frozen and checked on construction.

A plugin is a module-level ``Plugin`` that an entry point of the group ``zoo.plugins`` names. Its
hooks are strings ``"package.module:function"``, imported on first use, so this module and every
plugin's top-level module stay free of torch.
"""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from msgspec.structs import force_setattr, replace

from zoo.names import is_arch, is_part
from zoo.spec.checked import Spec
from zoo.spec.preprocess import Preprocess

API = 1
"""The version of this contract. A plugin that asks for a newer one is set aside with a reason."""

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RESOURCE = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


class Paper(Spec, frozen=True):
    """Where an architecture was published.

    Args:
        title: The paper's title.
        authors: Its authors.
        year: The year.
        url: Its address.

    Example:
        >>> import zoo
        >>> zoo.Paper("Deep Residual Learning for Image Recognition", "He, Zhang, Ren and Sun", 2015).year
        2015
    """

    title: str
    authors: str
    year: int
    url: str = ""


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

    Args:
        name: The name: lower case letters, digits and ``_``.
        build: The hook that returns the network, a torch module with timm's model interface. It is called with
            ``args``, ``num_classes``, ``in_chans`` and the caller's arguments.
        args: Arguments of the build function.
        paper: Where the architecture was published.
        preprocess: How its input is prepared, unless weights say otherwise.
        params: Learnable elements of the network as built by default; 0 if not stated, or if it is ``fitted`` and has
            none.
        macs: Multiply-adds of convolutions and linear layers for one input; 0 if not stated.
        num_classes: Classes by default. With 0, the network returns features.
        head: Submodules that depend on ``num_classes``. A weights file need not fit them.
        stem: Submodules that depend on ``in_chans``. A weights file need not fit them.
        stages: Submodules at which features are taken.
        translate: A hook for the tensors of a file that does not fit: takes them and the module, and returns tensors
            in a library's newer names and shapes.
        train: The hook that trains the network.
        fitted: Whether that hook fits the network without gradients, such as by clustering or in closed form. The
            network then needs no learnable parameters.
        evaluate: The hook that says what it answers: returns logits or classes of each image, or a
            ``zoo.evaluation.Report``.
        requires: What the hooks import and pip may have to install.
        note: A remark for ``zoo info``.
        file_args: Arguments that a weights file, which anyone may have written, may set. It may also repeat ``args``.

    Raises:
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> zoo.Model("my_net", build="my_package.model:my_net", args={"depth": 20}, num_classes=10).train
        'zoo.training:train'
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
    fitted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            is_arch(self.name), "a name has lower case letters, digits and _, beginning with a letter or digit"
        )
        for hook in (self.build, self.train, self.evaluate, *filter(None, [self.translate])):
            self.require(
                _TARGET.fullmatch(hook) is not None, f"hook {hook!r} must have the form 'package.module:function'"
            )
        self.require(self.params >= 0 and self.macs >= 0, "params and macs must not be negative")
        self.require(self.num_classes >= 0, "num_classes must not be negative")
        is_by_gradient = self.train == "zoo.training:train"
        self.require(not (self.fitted and is_by_gradient), f"fitted needs a train hook that fits; {self.train} trains")


class KeyMap(Spec, frozen=True):
    """How another lineage's checkpoint becomes this family's: for ``zoo convert``.

    ``rename`` holds (regular expression, replacement) pairs, applied to each key in order; ``drop``
    regular expressions of keys that carry no weights. All other fields refer to the new keys:

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

    ``images`` is how many its training split holds, 0 if not stated.
    """

    name: str
    load: str
    splits: tuple[str, ...] = ("train", "test")
    source: str = ""
    license: str = ""
    images: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.images >= 0, "images must not be negative")
        self.require(
            _TARGET.fullmatch(self.load) is not None, f"hook {self.load!r} must have the form 'package.module:function'"
        )


class Plugin(Spec, frozen=True):
    """A family of models. Its resources are ``"package:path"``.

    Args:
        name: The name, also that of its entry point.
        api: The version of the contract it was written for, ``zoo.spec.API``.
        models: Its models.
        weights: Manifests of its weights.
        recipes: Its training recipes.
        key_maps: How checkpoints of others become its own.
        datasets: Data sets that it brings.
        requires: Requirements of all its models.
        collection: For a plugin that stands for another library: a hook that returns models and their weights
            (``zoo.manifest.Weights``), instead of ``models``. It is called on first need and must not import torch.
            Each model is named in full, ``plugin/arch``, and is listed only if the plugin is asked for.
        file_args: ``file_args`` of all its models.
        repositories: A hook for ``hf-hub:OWNER/NAME``: takes the ``config.json`` of a repository as a dictionary, and
            returns a :class:`Described`, or None if another library wrote it. It must not import torch.

    Raises:
        SpecError: A value is not valid, or two models have one name.

    Example:
        >>> import zoo
        >>> zoo.Plugin("mine", api=1, models=(zoo.Model("my_net", build="my_package.model:my_net"),)).models[0].name
        'my_net'
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
    repositories: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.api >= 1, f"api = {self.api}, expected the contract's version, 1 to {API}")
        for target in filter(None, [self.collection, self.repositories]):
            self.require(
                _TARGET.fullmatch(target) is not None, f"hook {target!r} must have the form 'package.module:function'"
            )
        self.require(not (self.collection and self.models), "expected models or a collection, not both")
        if self.requires or self.file_args:
            force_setattr(self, "models", tuple(map(self._completed, self.models)))
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        self.require(not twice, f"duplicate models: {', '.join(twice)}")
        self.require(all(map(is_part, names)), "only models of a collection have full names")
        for resource in (*self.weights, *filter(None, [self.recipes])):
            self.require(
                _RESOURCE.fullmatch(resource) is not None, f"resource {resource!r} must have the form 'package:path'"
            )

    def _completed(self, model: Model) -> Model:
        requires, file_args = (*self.requires, *model.requires), {**self.file_args, **model.file_args}
        return replace(model, requires=requires, file_args=file_args)
