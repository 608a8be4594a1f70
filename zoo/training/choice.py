"""Recipes of a family: the choice for a model and a data set, changes of settings, the list with scores and costs."""

import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from zoo import registry
from zoo.data.augmentation import OWN_SCALE, Affine, Augmentation, ColorJitter, RandAugment, ResizedCrop
from zoo.data.classes import count_training_images
from zoo.errors import ManifestError, PluginError, RecipeError, UnknownNameError
from zoo.manifest import Protocol
from zoo.registry import hook, resource
from zoo.spec import Model, Plugin
from zoo.system import toml
from zoo.system.toml import read_value
from zoo.training.recipe import Adversary, Distill, Expectation, Lookahead, Progressive, Recipe

log = logging.getLogger("zoo")

LONG = 0.25
"""The 10^15 operations from which ``compile = "auto"`` compiles: ten minutes of two cores that train ResNet-20, and a
twentieth of them is the half a minute that compiling takes."""

DEFAULT = "default"
"""The recipe that every plugin has: all fields at their defaults. It is used only if asked for by name."""

TABLES: dict[str, type[msgspec.Struct]] = {
    "": Recipe,
    "adversarial.": Adversary,
    "augment.": Augmentation,
    "augment.affine.": Affine,
    "augment.color_jitter.": ColorJitter,
    "augment.rand_augment.": RandAugment,
    "augment.resized_crop.": ResizedCrop,
    "distill.": Distill,
    "lookahead.": Lookahead,
    "progressive.": Progressive,
}
"""Types of a recipe's tables, by the prefix of their keys."""

OPEN = ("optimizer_args",)
"""Tables whose keys are not a recipe's to know."""

OWN_FIELDS = "hook_args."
"""The table of a family's own fields; its plugin names their type."""

OUTSIDE = ("models", "data", "expected")
"""Information about a recipe in its table that is not part of the recipe."""

OWN = "own_images"
"""The recipe for images that no other is meant for."""


def read(plugin: Plugin) -> dict[str, dict[str, Any]]:
    """Reads the tables of the plugin's recipes by name, not yet validated; {} if it has none."""
    if not plugin.recipes:
        return {}
    try:
        tables = toml.loads(resource(plugin.recipes).read_text(encoding="utf-8"))
    except (OSError, ManifestError, ValueError) as error:
        raise RecipeError(f"Recipes {plugin.recipes!r} of plugin {plugin.name!r} cannot be read: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise RecipeError(f"{plugin.recipes}: {name} = {table!r} is outside of a table, expected [recipe] tables.")
    return tables


def choose(
    plugin: Plugin,
    model: Model | str,
    data: str,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    own: Mapping[str, Any] | None = None,
) -> Recipe:
    """Chooses a recipe of a plugin, by name or by default.

    Args:
        plugin: The plugin.
        model: The model, or its name.
        data: The name of the data set.
        name: The recipe's name. By default the plugin's first recipe for this model and data set.
        settings: Fields to change, as in :func:`change`.
        own: The recipe's fields to use if no recipe is meant for these images.

    Returns:
        The recipe.

    Raises:
        UnknownNameError: There is no recipe of this name.
        RecipeError: No recipe is meant for this model and data set, or a field or value is not valid.

    Example:
        >>> import zoo
        >>> plugin = zoo.registry.current().find("resnet20").plugin
        >>> zoo.training.choose(plugin, "resnet20", "digits", settings={"epochs": 2}).epochs
        2
    """
    model = model if isinstance(model, str) else model.name
    tables = {DEFAULT: {}, **read(plugin)}
    if own is not None:
        tables[OWN] = dict(own)
    if name is not None and name not in tables:
        raise UnknownNameError.of("recipe", name, tables, hint=f"Recipes of {plugin.name}: {', '.join(tables)}.")
    if name is not None:
        _refuse_other_protocol(name, tables, model, data)
    name = name or default(tables, model, data) or (OWN if own is not None else None)
    if name is None:
        raise RecipeError(
            f"No recipe of {plugin.name} matches {model} on {data!r}.",
            hint=f"Select one with --recipe NAME (recipe=NAME): {', '.join(tables)}.",
        )
    return resolve(name, tables[name], settings, own_fields(plugin))


def _refuse_other_protocol(name: str, tables: Mapping[str, Mapping[str, Any]], model: str, data: str) -> None:
    """Raises :class:`RecipeError` if another recipe carries the protocol of ``name`` out on ``data``.

    That is one for this model and data set whose name begins with that of ``name``, which states other data sets:
    ``paper_mnist`` and ``paper_mnist_rot``.
    """
    stated = tables[name].get("data", ())
    if not stated or any(fnmatchcase(data, pattern) for pattern in stated):
        return
    for other, table in tables.items():
        if other.startswith(f"{name}_") and suits(table, model, data):
            raise RecipeError(f"Recipe {name!r} is for {', '.join(stated)}, not {data}.", hint=f"Did you mean {other}?")


def own_fields(plugin: Plugin) -> type[msgspec.Struct]:
    """Returns the type of the plugin's own fields of recipes; raises :class:`PluginError`."""
    kind: Any = hook(plugin.hook_args) if plugin.hook_args else msgspec.Struct
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        raise PluginError(f"hook_args of plugin {plugin.name!r} is {plugin.hook_args}, expected a msgspec.Struct.")
    return kind


def for_own_images(
    count: int, *, is_small: bool, has_color: bool, is_held_out: bool, is_trained: bool, is_known: bool = True
) -> dict[str, Any]:
    """Returns a recipe for ``count`` images of the user's own.

    The learning rate depends on the batch size, and is lower for a network that ``is_trained``. Images as small as the
    network's input are shifted, larger ones cropped and resized; colour images are flipped. A tenth is held out to
    select the best epoch, unless other images ``is_held_out``. A network that nobody has written recipes for, which is
    not ``is_known``, is trained with AdamW: it need not be normalised, and one rate suits most.
    """
    batch_size = 128 if count >= 5000 else 32 if count >= 500 else 16
    augment: dict[str, Any] = {"flip": has_color}
    augment |= {"pad_crop": 4 if is_known else 1} if is_small else {"resized_crop": {"scale": list(OWN_SCALE)}}
    adamw = {
        "note": "For a network without recipes: AdamW and a cosine schedule.",
        "epochs": 30,
        "optimizer": "adamw",
        "lr": 1e-4 if is_trained else 1e-3,
        "weight_decay": 0.05,
        "clip_grad": 1.0,
    }
    return {
        "note": "For your own images, if no recipe of the family matches them.",
        "epochs": 60,
        "batch_size": batch_size,
        "lr": 0.1 * batch_size / 128 * (0.1 if is_trained else 1),
        "warmup_epochs": 3,
        "validation": 0 if is_held_out else count // 10,
        "keep": "best",
        "augment": augment,
        **({} if is_known else adamw),
    }


def change(recipe: Recipe, settings: Mapping[str, Any] | None, plugin: Plugin | None = None) -> Recipe:
    """Changes settings of a recipe.

    Args:
        recipe: The recipe.
        settings: Values by field (``lr``, ``augment.flip``). A string is read as a TOML value.
        plugin: The plugin of the recipe, which knows its own fields (``hook_args.*``).

    Returns:
        The changed recipe.

    Raises:
        RecipeError: There is no such field, or the value is not valid.

    Example:
        >>> import zoo
        >>> zoo.training.change(zoo.training.Recipe(), {"lr": "0.2", "augment.flip": True}).lr
        0.2
    """
    kind = None if plugin is None else own_fields(plugin)
    return resolve(recipe.name, msgspec.to_builtins(recipe), settings, kind)


def settings_for(plugin: Plugin, model: Model, recipe: Recipe, data: str) -> tuple[str | None, dict[str, Any]] | None:
    """Returns name and settings with which :func:`choose` returns ``recipe``, apart from its name and note.

    The name is that of ``recipe`` or, if the plugin has none of that name, ``default``; None if it is chosen anyway.
    Returns None if no settings do it: they cannot take a table away, such as ``lookahead``. Raises
    :class:`RecipeError` if the plugin's recipes cannot be read.
    """
    tables = {DEFAULT: {}, **read(plugin)}
    name = recipe.name if recipe.name in tables else DEFAULT
    before = resolve(name, tables[name], None, own_fields(plugin))
    settings = _changed(msgspec.to_builtins(before), msgspec.to_builtins(recipe))
    if None in settings.values():
        return None
    try:
        again = choose(plugin, model, data, name, settings)
    except RecipeError:
        return None
    if msgspec.structs.replace(again, name=recipe.name, note=recipe.note) != recipe:
        return None
    return None if default(tables, model.name, data) == name else name, settings


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns what differs in ``after``, by dotted key."""
    settings: dict[str, Any] = {}
    for key, value in after.items():
        if prefix + key in ("name", "note") or value == before.get(key):
            continue
        if value and isinstance(value, dict):
            settings |= _changed(before.get(key) or {}, value, f"{prefix}{key}.")
        else:
            settings[prefix + key] = value
    return settings


def default(tables: Mapping[str, Mapping[str, Any]], model: str, data: str) -> str | None:
    """Returns the name of the first of ``tables`` for this model and data set."""
    return next((name for name, table in tables.items() if suits(table, model, data)), None)


def suits(table: Mapping[str, Any], model: str, data: str | None = None) -> bool:
    """Returns whether a recipe's ``table`` is for ``model``, and for ``data`` unless that is None."""
    return any(fnmatchcase(model, pattern) for pattern in table.get("models", ())) and (
        data is None or any(fnmatchcase(data, pattern) for pattern in table.get("data", ()))
    )


def expectations(name: str, table: Mapping[str, Any]) -> list[Expectation]:
    """Returns the expected scores in the ``table`` of the recipe ``name``; raises :class:`RecipeError`."""
    try:
        return msgspec.convert(table.get("expected", []), list[Expectation])
    except msgspec.ValidationError as error:
        raise RecipeError(f"Recipe {name!r}: expected: {error}.") from None


def published(plugin: Plugin | None, model: str, args: Mapping[str, Any] | None = None) -> list[Expectation]:
    """Returns the figures of others for ``model`` in the recipes of its plugin; [] if they cannot be read.

    With ``args``, those for weights with these arguments: what is reported of them takes the place of what is reported
    of the model on the same data.
    """
    try:
        tables = read(plugin) if plugin is not None else {}
        scores = [score for name, table in tables.items() for score in expectations(name, table)]
    except RecipeError:
        return []
    scores = [score for score in scores if score.model == model and score.is_of_others]
    if args is None:
        return scores
    about = {score.data for score in scores if score.args and score.args.items() <= args.items()}
    return [
        score for score in scores if (score.args.items() <= args.items() if score.args else score.data not in about)
    ]


def protocol_of(recipe: Recipe, data: str, *, is_fitted: bool = False) -> Protocol:
    """Returns the protocol of one training by ``recipe`` on ``data``, as far as the recipe decides it."""
    images = count_training_images(data) - recipe.validation
    is_best = recipe.validation > 0 and recipe.keep == "best"
    return Protocol(
        trained_on=images if images > 0 else None,
        epochs=None if is_fitted else recipe.epochs,
        runs=1,
        selection=f"selected on {recipe.validation:,} held-out images" if is_best else "",
        other="images drawn anew in every epoch" if recipe.augment.redraw else "",
    )


def resolve(
    name: str,
    table: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    own: type[msgspec.Struct] | None = msgspec.Struct,
) -> Recipe:
    """Resolves a TOML ``table`` to a recipe with ``settings``; raises :class:`RecipeError`.

    ``own`` is the type of the family's own fields, by default without any; None does not check them.
    """
    fields = {key: value for key, value in table.items() if key not in (*OUTSIDE, "name")}
    tables = {**TABLES, **({OWN_FIELDS: own} if own is not None else {})}
    for key, value in (settings or {}).items():
        _set(name, fields, key, read_value(value), tables)
    _check_keys(name, fields, tables)
    if settings and "epochs" in settings and "warmup_epochs" not in settings:
        _shorten_warmup(name, fields)
    try:
        recipe = msgspec.convert({**fields, "name": name}, Recipe)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        where = path.rstrip("`") or "recipe"
        raise RecipeError(f"Recipe {name!r}: {where}: {message}.") from None
    if own is not None:
        recipe.read_hook_args(own)
    return recipe


def _shorten_warmup(name: str, fields: dict[str, Any]) -> None:
    """Reduces a warm-up that is as long as training to half of the epochs."""
    epochs, warmup = fields["epochs"], fields.get("warmup_epochs", 0)
    if isinstance(epochs, int) and isinstance(warmup, int | float) and warmup >= epochs > 0:
        fields["warmup_epochs"] = epochs / 2
        log.warning("Recipe %s: warmup_epochs = %g reduced to %g for epochs = %d", name, warmup, epochs / 2, epochs)


def _set(name: str, fields: dict[str, Any], key: str, value: Any, tables: Mapping[str, type[msgspec.Struct]]) -> None:
    """Sets the dotted ``key`` without changing tables that are shared with others."""
    *owners, leaf = key.split(".")
    for owner in owners:
        table = fields.get(owner) or {}
        if not isinstance(table, Mapping):
            raise _unknown(name, key, tables)
        fields[owner] = fields = dict(table)
    fields[leaf] = value


def _check_keys(
    name: str, fields: Mapping[str, Any], tables: Mapping[str, type[msgspec.Struct]], prefix: str = ""
) -> None:
    """Finds misspelt keys before msgspec does, to suggest the nearest."""
    kind = tables.get(prefix)
    for key, value in fields.items():
        if kind is None or key not in kind.__struct_fields__:
            raise _unknown(name, prefix + key, tables)
        nested = f"{prefix}{key}."
        is_open = prefix + key in OPEN or (nested == OWN_FIELDS and nested not in tables) or prefix == OWN_FIELDS
        if isinstance(value, Mapping) and not is_open:
            _check_keys(name, value, tables, nested)


def _unknown(name: str, key: str, tables: Mapping[str, type[msgspec.Struct]]) -> RecipeError:
    prefix = OWN_FIELDS if key.startswith(OWN_FIELDS) else ""  # its fields resemble each other by the prefix alone
    fields = [table + leaf for table, kind in tables.items() for leaf in kind.__struct_fields__]
    fields = [field for field in fields if field.startswith(prefix)]
    ends = [field.removeprefix(prefix) for field in fields]
    near = [field for field in fields if field.endswith(f".{key}")]
    near += [prefix + end for end in get_close_matches(key.removeprefix(prefix), ends, n=1, cutoff=0.5)]
    every = f"Fields: {', '.join(fields)}." if fields else "Its family has no fields of its own (Plugin.hook_args)."
    hint = f"Did you mean {near[0]}?" if near else every
    return RecipeError(f"Recipe {name!r} has no field {key!r}.", hint=hint)


class Row(msgspec.Struct, frozen=True):
    """A recipe for a model and a data set, with its score if known; ``own`` are the family's own fields.

    ``model`` and ``data`` are patterns if there is no score for a particular model and data set. ``is_fitted`` says
    that its models are fitted, without gradients. ``pflop`` is 10^15 operations of a training by gradients: three times
    those of a forward pass, two per multiply-add, at the recipe's input size; None if unknown.
    """

    family: str
    recipe: str
    model: str
    data: str
    is_default: bool
    is_fitted: bool
    settings: Recipe
    own: dict[str, Any]
    expected: Expectation | None = None
    pflop: float | None = None

    @property
    def difference(self) -> str:
        """The words for where the protocol of a published score differs from one training by this recipe.

        A recipe does not decide on the views of test images.
        """
        if self.expected is None or not self.expected.is_of_others:
            return ""
        ours = protocol_of(self.settings, self.data, is_fitted=self.is_fitted)
        return self.expected.protocol.beside(msgspec.structs.replace(ours, views=self.expected.protocol.views))


def rows(plugin: Plugin, model: Model | None = None) -> list[Row]:
    """Returns the recipes of ``plugin``, or those for ``model``; raises :class:`RecipeError`."""
    tables, own = read(plugin), own_fields(plugin)
    names = {model.name for model in plugin.models}
    listed: list[Row] = []
    for name, table in tables.items():
        recipe, scores = resolve(name, table, own=own), expectations(name, table)
        if model is not None and table.get("models") and not suits(table, model.name):
            continue
        fitted = [row.fitted for row in ([model] if model else plugin.models) if suits(table, row.name)]
        for arch, data, expected in _places(table, scores, model):
            listed.append(
                Row(
                    family=plugin.name,
                    recipe=name,
                    model=arch,
                    data=data,
                    is_default=arch in names and default(tables, arch, data) == name,
                    is_fitted=bool(fitted) and all(fitted),
                    settings=recipe,
                    own=msgspec.to_builtins(recipe.read_hook_args(own)),
                    expected=expected,
                    pflop=_pflop(plugin, arch, data, recipe),
                )
            )
    return listed


def _places(
    table: Mapping[str, Any], scores: list[Expectation], model: Model | None
) -> Iterator[tuple[str, str, Expectation | None]]:
    """Yields models and data sets: those with a score, then those of the table for ``model``, or else its patterns."""
    scores = [score for score in scores if model is None or score.model == model.name]
    yield from ((score.model, score.data, score) for score in scores)
    if model is not None:
        others = [data for data in table.get("data", ()) if all(data != score.data for score in scores)]
        yield from ((model.name, data, None) for data in (others if others or scores else [""]))
    elif not scores:
        yield ", ".join(table.get("models", ())), ", ".join(table.get("data", ())), None


def _pflop(plugin: Plugin, arch: str, data: str, recipe: Recipe) -> float | None:
    model = next((model for model in plugin.models if model.name == arch), None)
    return None if model is None else pflop(model, count_training_images(data) - recipe.validation, recipe)


def pflop(model: Model, images: int, recipe: Recipe) -> float | None:
    """Returns the 10^15 operations of a training on ``images`` images: see :class:`Row`; None if unknown."""
    if model.fitted or not model.macs or images <= 0:
        return None
    _, height, width = model.preprocess.input_size
    macs = model.macs * (recipe.input_size**2 / (height * width) if recipe.input_size else 1)
    if recipe.progressive is not None:
        macs *= recipe.progressive.share_of_pixels(recipe.input_size or height, recipe.epochs)
    batch = min(recipe.batch_size, images)
    return 3 * 2 * macs * (images // batch * batch) * recipe.epochs / 1e15


def decide(recipe: Recipe, model: Model | None, images: int, device: str) -> tuple[Recipe, str]:
    """Returns ``recipe`` with a decision where it has ``compile = "auto"``, and the reason in words, else empty.

    The decision depends on nothing that is timed. What compiling gains was measured on processors only.
    """
    if recipe.compile != "auto":
        return recipe, ""
    amount = pflop(model, images, recipe) if model is not None else None
    if device != "cpu":
        is_compiled, reason = False, f"what it gains on {device} was not measured"
    elif amount is None:
        is_compiled, reason = False, "the length of the training is unknown"
    else:
        is_compiled = amount >= LONG
        reason = f"{amount:.2g} PFLOP are {'not ' * (not is_compiled)}long enough (from {LONG} on)"
    decided = msgspec.structs.replace(recipe, compile=is_compiled)
    return decided, f"compile = auto: {'compiled' if is_compiled else 'not compiled'}, as {reason}"


def plugins_with_recipes() -> list[Plugin]:
    """Returns every usable plugin that has recipes, in the registry's order."""
    return [row.plugin for row in registry.current().plugins if row.plugin is not None and row.plugin.recipes]
