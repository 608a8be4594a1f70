"""What a plugin brings apart from models: each has a name and a hook."""

from typing import Literal

from zoo.names import is_part
from zoo.spec.checked import Spec
from zoo.spec.model import Requirement


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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(is_part(self.name), "a name has lower case letters, digits and _")
        self.require(self.images >= 0, "images must not be negative")
        self.require_hooks("load")


class Extension(Spec, frozen=True):
    """What attack methods, look questions, export passes and readers have in common.

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

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.suffixes or self.prefix), "expected suffixes or a prefix, by which files are recognised")
        for suffix in self.suffixes:
            self.require(suffix.startswith(".") and len(suffix) > 1, f"suffix {suffix!r} must begin with a dot")
        is_prefix = not self.prefix or (self.prefix.endswith(":") and is_part(self.prefix[:-1]))
        self.require(is_prefix, f"prefix {self.prefix!r} must be a name and a colon, such as 'lmdb:'")
