"""A recipe: everything that decides what training does to the numbers.

A family's ``recipes.toml`` holds one table a recipe. Besides the fields below, a table says for
which ``models`` and ``data`` it is the default (shell patterns; ``[]`` for none), a ``note``, and
what it gave (``expected``, see :class:`Expectation`)::

    [fast_c10]
    models = ["resnet*", "plain*"]
    data = ["cifar10"]
    note = "..."
    epochs = 60
    augment = {pad_crop = 4, flip = true}
    expected = [{model = "resnet20", data = "cifar10", top1 = 91.73, weights = "resnet20.c10"}]
"""

import math
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from zoo.data.augmentation import Affine, Augmentation, ResizedCrop
from zoo.errors import ManifestError, RecipeError, UnknownNameError
from zoo.registry import resource
from zoo.spec import Model, Plugin
from zoo.training.adversary import Adversary

T = TypeVar("T", bound=msgspec.Struct)
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a recipe gave: ``top1`` per cent of the test images of ``data`` by ``model``.

    Either on the word of ``source``, or as measured: with the name of the ``weights`` that came out.
    ``seconds`` is how long they took to train, ``on`` which machine.
    """

    model: str
    data: str
    top1: Annotated[float, msgspec.Meta(ge=0, le=100)]
    source: str = ""
    weights: str = ""
    seconds: NotNegative = 0.0
    on: str = ""

    def __post_init__(self) -> None:
        if bool(self.source) == bool(self.weights):
            raise ValueError("say where top1 is from: either source or weights")
        if bool(self.seconds) != bool(self.on):
            raise ValueError("seconds and on say together how long it took: give both or neither")


class Lookahead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Slow weights that lead the network's: see ``zoo.training.averages.SlowWeights``."""

    every: Positive = 5
    decay: Fraction = 0.95
    power: NotNegative = 3.0


DEFAULT = "default"
"""The recipe that every plugin has: all fields at their defaults. It is used only where asked for by name."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a network is trained. A field left out has the default shown here."""

    name: str = ""
    note: str = ""

    epochs: Positive = 30
    """Passes over the training images. The images left over after whole batches sit an epoch out."""
    batch_size: Positive = 128
    """Images an update of the weights."""
    accumulate: Positive = 1
    """Pieces in which a batch is computed, one after the other: less memory, the same update."""

    optimizer: str = "sgd"
    """A name of timm's optimiser factory: ``sgd``, ``adamw``, ``lamb``, ``muon``, ..."""
    optimizer_args: dict[str, bool | int | float | tuple[float, ...]] = {}
    """Further arguments of the optimiser, by its own names: ``{alpha = 0.95, centered = true}``."""
    lr: NotNegative = 0.1
    """The learning rate after warm-up."""
    momentum: Fraction = 0.9
    nesterov: bool = True
    """Nesterov's momentum; concerns ``sgd`` only."""
    weight_decay: NotNegative = 5e-4
    decay_norm_and_bias: bool = True
    """Whether weight decay also pulls on biases and on the parameters of normalisation."""
    clip_grad: NotNegative = 0.0
    """Largest norm of the whole gradient; 0: not clipped."""
    layer_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Factor of the learning rate from one stage of the network down to the next, the head at 1."""
    freeze: tuple[str, ...] = ()
    """Submodules that stay as they are, by name or shell pattern; ``backbone``: all but the head."""

    schedule: Literal["constant", "cosine", "linear", "multistep", "step"] = "cosine"
    """How the learning rate falls, update by update; ``cosine`` and ``linear`` end at ``min_lr``."""
    decay_epochs: tuple[NotNegative, ...] = ()
    """``multistep``: the epochs at which the rate falls; ``step``: one number, the interval."""
    decay_rate: NotNegative = 0.1
    """The factor by which it falls there."""
    warmup_epochs: NotNegative = 0.0
    """Epochs of linear rise from ``warmup_lr`` to ``lr``, counted among ``epochs``."""
    warmup_lr: NotNegative = 0.0
    min_lr: NotNegative = 0.0

    label_smoothing: Fraction = 0.0
    ema: Fraction = 0.0
    """Decay an update of an average of the weights, which is what is kept; 0: no average."""
    lookahead: Lookahead | None = None
    """Slow weights that lead the network's."""
    sync_norm: bool = False
    """Whether several processes share the statistics of batch normalisation."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of the forward and backward pass; weights are float32 always."""
    channels_last: bool = True
    """Memory layout of images and filters: faster for convolutions, the same mathematics."""

    seed: int = 0
    """Decides initial weights, order, augmentation and dropout."""
    validation: Natural = 0
    """Training images held out, the same share of each class, and scored after every epoch."""
    input_size: Natural = 0
    """Side of the network's input in pixels; 0: as the model declares it."""
    normalize: Literal["model", "mean", "standardize", "zca"] = "model"
    """Whether pixels are normalised with the model's declared mean and std, with the training
    images' mean (std 1), with their mean and std, or whitened by a transform fitted to them."""
    augment: Augmentation = Augmentation()
    """Random changes of the training images."""
    adversarial: Adversary | None = None
    """Whether the images are attacked before they are learnt from."""
    hook_args: dict[str, Any] = {}
    """What the model's own train hook reads, by names that it defines; Zoo's default hook takes none."""

    def read_hook_args(self, kind: type[T]) -> T:
        """``hook_args`` as the struct ``kind``; raises :class:`RecipeError` for one that it does not have."""
        known = kind.__struct_fields__
        for key in self.hook_args:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"Did you mean hook_args.{near[0]}?" if near else f"It reads: {', '.join(known) or 'none'}."
                raise RecipeError(f"{self.name}: the model's train hook reads no hook_args.{key}.", hint=hint)
        try:
            return msgspec.convert(self.hook_args, kind)
        except msgspec.ValidationError as error:
            raise RecipeError(f"{self.name}: hook_args: {error}.") from None

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise ValueError(f"{field} must be finite, got {number}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate = {self.accumulate} pieces of a batch of {self.batch_size}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs} must be fewer than epochs = {self.epochs}")
        if self.schedule == "multistep" and not self.decay_epochs:
            raise ValueError("schedule multistep needs decay_epochs, such as [80, 120]")
        if self.schedule == "step" and (len(self.decay_epochs) != 1 or self.decay_epochs[0] <= 0):
            raise ValueError("schedule step needs decay_epochs with the one interval, such as [30]")
        if self.decay_epochs != tuple(sorted(self.decay_epochs)):
            raise ValueError(f"decay_epochs {list(self.decay_epochs)} must rise")


TABLES: dict[str, type[msgspec.Struct]] = {
    "": Recipe,
    "adversarial.": Adversary,
    "augment.": Augmentation,
    "augment.affine.": Affine,
    "augment.resized_crop.": ResizedCrop,
    "lookahead.": Lookahead,
}
"""What a recipe's tables may hold, by the prefix of their keys."""

OPEN = ("hook_args", "optimizer_args")
"""Tables whose keys are not a recipe's to know."""

OUTSIDE = ("models", "data", "expected")
"""What a table says about its recipe, which is no part of it."""


def read(plugin: Plugin) -> dict[str, dict[str, Any]]:
    """The tables of the plugin's recipes by name, not yet validated; {} where it has none."""
    if not plugin.recipes:
        return {}
    try:
        tables = tomllib.loads(resource(plugin.recipes).read_text(encoding="utf-8"))
    except (OSError, ManifestError, ValueError) as error:
        raise RecipeError(f"Recipes {plugin.recipes!r} of plugin {plugin.name!r} cannot be read: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise RecipeError(f"{plugin.recipes}: {name} = {table!r} stands outside a table: expected [recipe] tables.")
    return tables


def choose(
    plugin: Plugin,
    model: Model | str,
    data: str,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe called ``name``, or the plugin's first for this model and data set, with changes.

    ``settings`` maps fields (``lr``, ``augment.flip``) to values; a string is read as a TOML value.
    Raises :class:`UnknownNameError` for a name that no table has and :class:`RecipeError` for a
    field or value that is not valid, or where no table is meant for the model and data.
    """
    model = model if isinstance(model, str) else model.name
    tables = {DEFAULT: {}, **read(plugin)}
    if name is not None and name not in tables:
        raise UnknownNameError.of("recipe", name, tables, hint=f"Recipes of {plugin.name}: {', '.join(tables)}.")
    name = name or default(tables, model, data)
    if name is None:
        raise RecipeError(
            f"No recipe of {plugin.name} is meant for {model} on {data!r}.",
            hint=f"Choose one with --recipe NAME (recipe=NAME): {', '.join(tables)}.",
        )
    return resolve(name, tables[name], settings)


def default(tables: Mapping[str, Mapping[str, Any]], model: str, data: str) -> str | None:
    """The name of the first of ``tables`` that is meant for this model and data set."""
    return next((name for name, table in tables.items() if suits(table, model, data)), None)


def suits(table: Mapping[str, Any], model: str, data: str | None = None) -> bool:
    """Whether a recipe's ``table`` is meant for ``model``, and for ``data`` where that is given."""
    return any(fnmatchcase(model, pattern) for pattern in table.get("models", ())) and (
        data is None or any(fnmatchcase(data, pattern) for pattern in table.get("data", ()))
    )


def expectations(name: str, table: Mapping[str, Any]) -> list[Expectation]:
    """What the recipe ``name`` gave, as its ``table`` says; raises :class:`RecipeError`."""
    try:
        return msgspec.convert(table.get("expected", []), list[Expectation])
    except msgspec.ValidationError as error:
        raise RecipeError(f"Recipe {name!r}: expected: {error}.") from None


def resolve(name: str, table: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe that a TOML ``table`` and ``settings`` make; raises :class:`RecipeError`."""
    fields = {key: value for key, value in table.items() if key not in OUTSIDE}
    for key, value in (settings or {}).items():
        _set(fields, key, read_value(value))
    _check_keys(fields)
    try:
        return msgspec.convert({**fields, "name": name}, Recipe)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        where = path.rstrip("`") or "recipe"
        raise RecipeError(f"Recipe {name!r}: {where}: {message}.") from None


def read_value(text: Any) -> Any:
    """What ``text`` means in TOML; a bare word is a string. Anything but a string stays."""
    if not isinstance(text, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _set(fields: dict[str, Any], key: str, value: Any) -> None:
    """Sets the dotted ``key``, leaving tables that are shared with others as they are."""
    *owners, leaf = key.split(".")
    for owner in owners:
        table = fields.get(owner, {})
        if not isinstance(table, Mapping):
            raise _unknown(key)
        fields[owner] = fields = dict(table)
    fields[leaf] = value


def _check_keys(fields: Mapping[str, Any], prefix: str = "") -> None:
    """Finds misspelt keys before msgspec does, to suggest the nearest."""
    kind = TABLES.get(prefix)
    for key, value in fields.items():
        if kind is None or key not in kind.__struct_fields__:
            raise _unknown(prefix + key)
        if isinstance(value, Mapping) and prefix + key not in OPEN:
            _check_keys(value, f"{prefix}{key}.")


def _unknown(key: str) -> RecipeError:
    known = [prefix + leaf for prefix, kind in TABLES.items() for leaf in kind.__struct_fields__]
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Fields: {', '.join(known)}."
    return RecipeError(f"A recipe has no field {key!r}.", hint=hint)
