"""A model: one named architecture, and what it needs."""

import re
from collections.abc import Mapping
from math import inf
from typing import Any

from zoo.names import is_arch, is_part
from zoo.spec.checked import Spec
from zoo.spec.preprocess import Preprocess

API = 2
"""The version of this contract. A plugin that asks for a newer one is set aside with a reason."""


class Paper(Spec, frozen=True):
    """The publication of an architecture.

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
    """A library that hooks import.

    Args:
        module: The module, such as ``cv2``.
        install: What pip installs for it, such as ``zoo-vision[classical]``.
    """

    module: str
    install: str


class Argument(Spec, frozen=True):
    """The values that a weights file may set for one argument of a build function.

    Args:
        choices: Values that are allowed.
        least: The least number that is allowed. Numbers must be whole unless it is a float. Without it, no number is
            allowed.
        most: The largest number that is allowed; None for any.
        pattern: A regular expression that a string must match from end to end; without it, no string is allowed.
        longest: The length of lists of such values; 0 if lists are not allowed.
    """

    choices: tuple[str | int | float | bool | None, ...] = ()
    least: int | float | None = None
    most: int | float | None = None
    pattern: str = ""
    longest: int = 0

    def takes(self, value: Any) -> bool:
        """Returns whether a file may say ``value``."""
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
        params: Elements of all parameters of the network as built by default, frozen ones included, as timm counts
            them; 0 if not stated, or if it is ``fitted`` and has none.
        macs: Multiply-adds of convolutions and linear layers for one input; 0 if not stated.
        num_classes: Classes by default. With 0, the network returns features.
        head: Submodules that depend on ``num_classes``. A weights file need not fit them.
        stem: Submodules that depend on ``in_chans``. A weights file need not fit them.
        stages: Submodules at which features are taken.
        translate: A hook for the tensors of a file that does not fit: takes them and the module, and returns tensors
            in a library's newer names and shapes.
        train: The hook that trains the network.
        evaluate: The hook that says what it answers: takes :class:`zoo.data.Images`, which have no labels, and returns
            logits or classes of each.
        requires: What the hooks import and pip may have to install.
        note: A remark for ``zoo info``.
        file_args: Arguments that a weights file, which anyone may have written, may set. It may also repeat ``args``.
        fitted: Whether the train hook fits the network without gradients, such as by clustering or in closed form. The
            network then needs no learnable parameters.
        aliases: Other names, such as former ones. Names of weights, manifests, locks and weights files may use them.
        deprecated: What to use instead, such as ``use my_net``; empty unless the model is deprecated.
        api: The contract that its hooks were written for: set by its plugin, to ``Plugin.api``.

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
    aliases: tuple[str, ...] = ()
    deprecated: str = ""
    api: int = API

    def _check(self) -> None:
        grammar = "a name has lower case letters, digits and _, beginning with a letter or digit"
        self.require(is_arch(self.name), grammar)
        for alias in self.aliases:
            self.require(is_part(alias), f"alias {alias!r}: {grammar}")
        self.require_hooks("build", "train", "evaluate", "translate")
        self.require(self.params >= 0 and self.macs >= 0, "params and macs must not be negative")
        self.require(self.num_classes >= 0, "num_classes must not be negative")
        is_by_gradient = self.train == "zoo.training:train"
        self.require(not (self.fitted and is_by_gradient), f"fitted needs a train hook that fits; {self.train} trains")
