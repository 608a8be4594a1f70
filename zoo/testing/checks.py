"""All checks of a plugin, and the decorator that turns them into tests."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from zoo import registry
from zoo.errors import ManifestError, MissingExtraError
from zoo.registry import PluginRow
from zoo.spec import Model
from zoo.testing import contract, families, looking, published, shapes, values
from zoo.testing.subject import Subject

# What a row declares about its own network: checked for every model at every commit.
OF_EACH: tuple[Callable[[Subject], None], ...] = (
    shapes.row,
    shapes.interface,
    shapes.parameters,
    shapes.macs,
    contract.methods,
    contract.groups,
)
# What follows from the code of a build hook: checked at every commit for one model a kind, for the others behind slow.
OF_KIND: tuple[Callable[[Subject], None], ...] = (
    shapes.num_classes,
    shapes.in_chans,
    shapes.reset_classifier,
    shapes.features,
    contract.intermediates,
    contract.features_only,
)
# The same, and it takes forwards with real numbers: behind slow for a giant, too.
COSTLY: tuple[Callable[[Subject], None], ...] = (
    values.forward,
    values.determinism,
    values.skipped_initialisation,
    values.round_trip,
    values.gradients,
    values.attack,
)
# What the models of one build hook share: behind slow for all but the smallest of them.
OF_HOOK: tuple[Callable[[Subject], None], ...] = (
    contract.checkpointing,
    contract.copies,
    contract.layouts,
)

# What does not apply to a network that is fitted.
BY_GRADIENT = (values.gradients, contract.checkpointing)


@dataclass(frozen=True)
class Check:
    """One promise of one model, weights entry or plugin; calling it raises if it is broken."""

    name: str
    is_slow: bool
    run: Callable[[], None]
    exempt: str = ""
    """Why the promise does not apply; empty if it does."""

    def __call__(self) -> None:
        if self.exempt:
            pytest.skip(self.exempt)
        try:
            self.run()
        except MissingExtraError as error:
            pytest.skip(str(error))


def conformance(plugin: str) -> pytest.MarkDecorator:
    """Decorates a test function or class that takes ``check``: it runs once for each check of ``plugin``."""
    marked = [
        pytest.param(
            check,
            id=check.name,
            marks=[
                *([pytest.mark.slow] if check.is_slow else []),
                *([pytest.mark.skip(reason=check.exempt)] if check.exempt else []),
            ],
        )
        for check in checks_of(plugin)
    ]
    return pytest.mark.parametrize("check", marked)


def checks_of(plugin: str) -> list[Check]:
    """Every check of the plugin that is installed under this name, a model's next to each other.

    One that cannot be used has the single check ``plugin-usable``, which says why.
    """
    rows = [row for row in registry.current().plugins if row.name == plugin]
    used = next((row for row in rows if row.plugin is not None), None)
    checks = [Check("plugin-usable", False, partial(families.usable, plugin, rows))]
    if used is None or used.plugin is None:
        return checks
    for check in (
        families.torch_free_import,
        families.manifests,
        families.recipes,
        families.repositories,
        families.extensions,
    ):
        checks.append(Check(f"plugin-{check.__name__}", False, partial(check, used)))
    smallest = _smallest_of_kind(used.plugin.models)
    of_hook = {model.build: model for model in sorted(used.plugin.models, key=lambda it: -it.params)}
    for model in used.plugin.models:
        checks += _checks_of_model(used, model, is_smallest=smallest[_kind(model)] is model)
        subject, is_rest = Subject(plugin, model), of_hook[model.build] is not model
        for promise in OF_HOOK:
            is_slow, exempt = is_rest or subject.is_giant, _exempt(model, promise)
            checks.append(Check(f"{model.name}-{promise.__name__}", is_slow, partial(promise, subject), exempt))
    for model in used.plugin.models:
        subject = Subject(plugin, model)
        is_smallest = model is min(used.plugin.models, key=lambda other: other.params)
        checks.append(Check(f"{model.name}-look", subject.is_giant or not is_smallest, partial(looking.look, subject)))
    # What fixes the number of images is code that the models of one build hook share: the smallest shows it.
    for model in of_hook.values():
        subject = Subject(plugin, model)
        checks.append(Check(f"{model.name}-traced", subject.is_giant, partial(values.traced, subject)))
        checks.append(Check(f"{model.name}-exported", True, partial(values.exported, subject)))
        checks.append(Check(f"{model.name}-resized", True, partial(contract.resized, subject)))
        checks.append(Check(f"{model.name}-compiled", True, partial(contract.compiled, subject)))
    return checks


def _exempt(model: Model, check: Callable[[Subject], None]) -> str:
    return f"{model.name} is fitted, without gradients" if model.fitted and check in BY_GRADIENT else ""


def _kind(model: Model) -> tuple[object, ...]:
    """Models of one kind run the same code: one build hook, the same choices, other numbers."""
    chosen = {name: value if isinstance(value, str | bool) else type(value) for name, value in model.args.items()}
    return model.build, model.train, frozenset(chosen.items())


def _smallest_of_kind(models: Sequence[Model]) -> dict[tuple[object, ...], Model]:
    return {_kind(model): model for model in sorted(models, key=lambda model: model.params, reverse=True)}


def _checks_of_model(row: PluginRow, model: Model, *, is_smallest: bool) -> Iterator[Check]:
    subject = Subject(row.name, model)
    for check in (*OF_EACH, *OF_KIND, *COSTLY):
        is_slow = check not in OF_EACH and (not is_smallest or (subject.is_giant and check in COSTLY))
        yield Check(f"{model.name}-{check.__name__}", is_slow, partial(check, subject), _exempt(model, check))
    try:
        entries = row.weights.get(model.name, ())
    except ManifestError:
        return  # plugin-manifests says so
    built: list[published.Shape] = []
    for entry in entries:
        # Entries that differ in bytes alone build one network.
        is_slow = not published.is_embedded(entry) and published.shape(model, entry) in built
        built.append(published.shape(model, entry))
        yield Check(f"{entry.name}-weights", is_slow, partial(published.weights, subject, entry))
