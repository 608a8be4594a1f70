"""Extensions, what a plugin brings apart from models: those with a name and a hook, key maps, facts of repositories."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any, Literal

from zoo.names import is_part
from zoo.spec.checked import Spec
from zoo.spec.model import Requirement
from zoo.spec.preprocess import Preprocess


class DatasetSpec(Spec, frozen=True):
    """A data set that a family brings.

    Args:
        name: The name. If another plugin has it as well, it is addressed as ``plugin/name``.
        load: The hook: ``load(root, split)`` returns a ``zoo.data.ImageSet``. ``root`` is the folder for its files.
        splits: Its splits.
        source: Where the images are from.
        license: The licence of the images.
        images: The number of training images; 0 if not stated.
    """

    name: str
    load: str
    splits: tuple[str, ...] = ("train", "test")
    source: str = ""
    license: str = ""
    images: int = 0

    def _check(self) -> None:
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.images >= 0, "images must not be negative")
        self.require_hooks("load")


class Extension(Spec, frozen=True):
    """The fields that attack methods, look questions, export passes and readers have in common.

    Args:
        name: The name: lower case letters, digits and ``_``. One that Zoo or another plugin has as well is addressed
            as ``plugin/name``.
        run: The hook.
        note: A line that says what it does.
        requires: What the hook imports and pip may have to install.

    Raises:
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> zoo.spec.ExportPass("fuse", run="my_package.passes:fuse").name
        'fuse'
    """

    name: str
    run: str
    note: str = ""
    requires: tuple[Requirement, ...] = ()

    def _check(self) -> None:
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require_hooks("run")


class AttackMethod(Extension, frozen=True):
    """An adversarial attack, for :func:`zoo.attack.curve` and ``zoo attack curve --attack NAME``.

    ``run(model, images, labels, epsilon, *, method, is_targeted)`` returns the attacked images. ``model`` is a
    :class:`zoo.attack.PixelModel`, ``images`` are float B C H W in [0, 1], ``method`` is a :class:`zoo.attack.Method`
    with steps, step size and seed. The result is projected onto the ball of radius ``epsilon`` and onto [0, 1].

    Args:
        name: The name. If Zoo or another plugin has it as well, it is addressed as ``plugin/name``.
        run: The hook.
        note: A line that says what it does.
        requires: What the hook imports and pip may have to install.
        norm: The norm of the ball: ``linf`` or ``l2``.
    """

    norm: Literal["linf", "l2"] = "linf"


class LookQuestion(Extension, frozen=True):
    """A question about a trained network, for :func:`zoo.look.ask` and ``zoo look NAME``.

    ``run(network, *, image, layer)`` returns a :class:`zoo.look.Look`. The network is in eval mode and needs no
    gradients. ``image`` is a file, a Pillow image or a tensor, None if none was given; ``layer`` is empty if none was.
    Further arguments are set by ``zoo look NAME --set KEY=VALUE``.

    Args:
        name: The name. If Zoo or another plugin has it as well, it is addressed as ``plugin/name``.
        run: The hook.
        note: A line that says what it does.
        requires: What the hook imports and pip may have to install.
    """


class ExportPass(Extension, frozen=True):
    """A change of a network before it is exported, for ``zoo.export(passes=...)`` and ``zoo export --pass NAME``.

    ``run(network)`` returns a network that computes the same, such as one with fused layers. It gets a copy in eval
    mode. The exported file is compared with the original network.

    Args:
        name: The name. If Zoo or another plugin has it as well, it is addressed as ``plugin/name``.
        run: The hook.
        note: A line that says what it does.
        requires: What the hook imports and pip may have to install.
    """


class Reader(Extension, frozen=True):
    """A kind of data set that :func:`zoo.data.load` does not read itself, wherever a data set is named.

    ``run(address, split)`` returns a ``zoo.data.ImageSet``.

    Args:
        name: The name. If Zoo or another plugin has it as well, it is addressed as ``plugin/name``.
        run: The hook.
        note: A line that says what it does.
        requires: What the hook imports and pip may have to install.
        suffixes: Ends of the names of files that it reads, such as ``.npz``.
        prefix: How the addresses begin that it reads, such as ``lmdb:``.
        splits: The splits that an address has.
    """

    suffixes: tuple[str, ...] = ()
    prefix: str = ""
    splits: tuple[str, ...] = ("train", "test")

    def _check(self) -> None:
        super()._check()
        self.require(bool(self.suffixes or self.prefix), "expected suffixes or a prefix, by which files are recognised")
        for suffix in self.suffixes:
            self.require(suffix.startswith(".") and len(suffix) > 1, f"suffix {suffix!r} must begin with a dot")
        is_prefix = not self.prefix or (self.prefix.endswith(":") and is_part(self.prefix[:-1]))
        self.require(is_prefix, f"prefix {self.prefix!r} must be a name and a colon, such as 'lmdb:'")


class KeyMap(Spec, frozen=True):
    """The way in which another lineage's checkpoint becomes this family's: for ``zoo convert``.

    Patterns are regular expressions of keys. ``models`` apart, all fields but ``rename`` and ``drop``
    refer to the new keys.

    Args:
        name: The name, for ``zoo convert --from NAME``.
        models: Patterns of the models that it is for, ``resnet*`` or ``plugin/arch``; needed for models of another
            plugin, whose conversions use it if it is asked for. By default all models of its own plugin.
        rename: (pattern, replacement) pairs, applied to each key in order.
        drop: Patterns of keys that carry no weights.
        transpose: (pattern, shape, permutation): the tensor is viewed as ``shape``, as it is if that is empty, and its
            dimensions are permuted. Keras's convolutions, H W I O, are ``(3, 2, 0, 1)``.
        fold_bias: (pattern of a convolution's bias, replacement that gives the running mean behind it). Ours have no
            bias there, so it is subtracted from that mean.
        norm_eps: The epsilon of the lineage's batch normalisation and ours. The difference is added to the variances.
        ones: Patterns of keys that the lineage lacks because it multiplies by 1: Keras's normalisations with
            ``scale=False``.
        input_order: The order of channels that the lineage's first layer, the model's ``stem``, takes. It is made to
            take RGB in [0, 1], less the mean that ``preprocess`` states.
        input_scale: The largest value of a pixel that it takes.
        args: What the lineage assumes of the build function's arguments.
        shows_args: Whether names that this map takes are in no other lineage, so that they show ``args``. By default
            ``args`` are one way among all that the tensors allow, and the caller or data decide.
        preprocess: What it assumes of the preprocessing.
        classes: The data set whose classes it knows.
        origin: Where such checkpoints are from.
    """

    name: str
    models: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    transpose: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    fold_bias: tuple[tuple[str, str], ...] = ()
    norm_eps: tuple[float, float] | None = None
    ones: tuple[str, ...] = ()
    input_order: Literal["rgb", "bgr"] = "rgb"
    input_scale: float = 1.0
    args: Mapping[str, Any] = {}
    shows_args: bool = False
    preprocess: Mapping[str, Any] = {}
    classes: str = ""
    origin: str = ""

    def _check(self) -> None:
        rewritten = [old for old, _ in (*self.rename, *self.fold_bias)]
        for pattern in (*rewritten, *self.drop, *self.ones, *(pattern for pattern, _, _ in self.transpose)):
            try:
                re.compile(pattern)
            except re.error as error:
                self.require(False, f"{pattern!r} is not a regular expression: {error}")
        for pattern, _, order in self.transpose:
            self.require(sorted(order) == [*range(len(order))], f"{order} for {pattern!r} is not a permutation")
        self.require(0 < self.input_scale < inf, f"input_scale {self.input_scale} must be positive and finite")


class Described(Spec, frozen=True):
    """The facts that the ``config.json`` of a repository says about its weights: the result of a
    ``Plugin.repositories`` hook.

    Args:
        model: The name of one of the plugin's models.
        args: Arguments of its build function. They are held to ``Model.file_args``, as those of any weights file.
        preprocess: How the input is prepared, unless as the model's row says.
        params: Elements of all parameters of the network with these weights; 0 if not known.
        num_classes: Classes of the head, 0 without a head; None if not stated.
        classes: The data set whose classes they are, if the file says so.
        class_names: The names of the classes, if the file lists them.
        file: The file with the weights; by default ``model.safetensors``, else ``pytorch_model.bin``.
        license: The licence of the weights, if stated.

    Raises:
        SpecError: A value is not valid.

    Example:
        >>> import zoo
        >>> zoo.spec.Described("my_net", num_classes=2, class_names=("cat", "dog")).file
        ''
    """

    model: str
    args: Mapping[str, Any] = {}
    preprocess: Preprocess | None = None
    params: int = 0
    num_classes: int | None = None
    classes: str = ""
    class_names: tuple[str, ...] = ()
    file: str = ""
    license: str = ""

    def _check(self) -> None:
        is_possible = self.num_classes is None or 0 <= self.num_classes <= 1_000_000
        self.require(is_possible, f"num_classes = {self.num_classes} is not from 0 to 1,000,000")
        counted = len(self.class_names)
        self.require(counted in (0, self.num_classes), f"{counted} class names for {self.num_classes} classes")
