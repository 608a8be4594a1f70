"""All checks of a plugin."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from zoo import registry
from zoo.errors import ManifestError, MissingExtraError
from zoo.manifest import Weights
from zoo.registry import PluginRow, extensions
from zoo.spec import API, Model
from zoo.testing import families, shapes, trained, values
from zoo.testing.subject import CheckError, Subject

Checks = Mapping[Callable[..., str | None], str]
"""Checks, and the field or method that each is about."""

OF_PLUGIN: Checks = {
    families.torch_free_import: "import",
    families.manifests: "weights",
    families.recipes: "recipes",
    families.file_arguments: "file_args",
    families.repositories: "repositories",
    families.extensions: "extensions",
}
OF_DATA: Checks = {families.manifests: "weights", families.key_maps: "key_maps"}
"""Checks of a distribution with weights and no code."""
OF_COMMANDS: Checks = {families.commands: "commands"}
# What a row declares about its own network: checked for every model at every commit.
OF_EACH: Checks = {
    shapes.row: "build",
    shapes.interface: "forward_features",
    shapes.parameters: "params",
    shapes.macs: "macs",
    shapes.methods: "feature_info",
    shapes.groups: "group_matcher",
}
# What follows from the code of a build hook: at every commit for its smallest model, for the others behind slow.
OF_HOOK: Checks = {
    shapes.num_classes: "num_classes",
    shapes.in_chans: "in_chans",
    shapes.reset_classifier: "reset_classifier",
    shapes.features: "feature_info",
    shapes.intermediates: "forward_intermediates",
    shapes.features_only: "feature_info",
}
# The same, with real numbers: behind slow for a giant, too.
COSTLY: Checks = {
    values.forward: "forward",
    values.determinism: "forward",
    values.batches: "forward",
    values.skipped_initialisation: "state_dict",
    values.round_trip: "state_dict",
    values.gradients: "forward",
    values.checkpointing: "set_grad_checkpointing",
    values.copies: "state_dict",
    values.layouts: "forward",
}
# What the hooks do: on a handful of images, of the smallest model with these hooks.
LEARNING: Checks = {
    trained.training: "train",
    trained.answers: "evaluate",
}
# What fixes the number of images, or the size of an image: of the smallest model of one build hook.
EXPORTED: Checks = {
    values.traced: "forward",
    values.exported: "forward",
    values.resized: "forward",
    values.compiled: "forward",
}
SINCE_2 = {
    shapes.methods,
    shapes.groups,
    shapes.intermediates,
    shapes.features_only,
    values.checkpointing,
    values.copies,
    values.layouts,
    values.resized,
    values.compiled,
    values.batches,
    values.traced,
    values.exported,
    *LEARNING,
}
"""Checks that contract 1 did not ask for: advice to its plugins."""

RAISED = "Fix: the code that raises this; zoo plugins check --traceback shows the calls."
"""The advice if a check runs into an exception that it does not expect."""


@dataclass(frozen=True)
class Check:
    """One promise of one model, weights entry or plugin; calling it raises if it is broken.

    It returns why the promise does not apply to this model: empty if it does.
    """

    name: str
    is_slow: bool
    run: Callable[[], str | None]
    of: str = ""
    """The model, the weights or the plugin."""
    field: str = ""
    """The subject: a field of the row or of the manifest, or a method of the network."""
    hint: str = ""
    since: int = 1
    """The contract that asks for it first."""
    api: int = API
    """The contract of the plugin."""

    @property
    def is_advice(self) -> bool:
        """Whether the plugin was written for a contract that does not ask for it yet."""
        return self.since > self.api

    def __call__(self) -> str:
        """Verifies the promise; skips the test if a library is missing, and if it is broken but only advice."""
        __tracebackhide__ = True  # pytest shows the frames of the plugin
        try:
            return self.verify()
        except MissingExtraError as error:
            import pytest

            pytest.skip(str(error))
        except CheckError as error:
            if not self.is_advice:
                raise
            import pytest

            pytest.skip(f"new in contract {self.since}: {error}")

    def verify(self) -> str:
        """Returns why the promise does not apply; empty if it does and is kept.

        Raises :class:`CheckError` if it is broken, and :class:`zoo.errors.MissingExtraError`.
        """
        __tracebackhide__ = True
        try:
            return self.run() or ""
        except MissingExtraError:
            raise
        except CheckError as error:
            field = error.field or self.field
            raise CheckError(error.reason, field, error.of or self.of, self.hint) from error.__cause__
        except Exception as error:  # a plugin's code may raise anything
            kind = "" if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: "
            raise CheckError(f"{kind}{error}", self.field, self.of, self.hint if not kind else RAISED) from error


def checks_of(plugin: str) -> list[Check]:
    """Returns every check of the plugin that is installed under this name, a model's next to each other.

    One that cannot be used has the single check ``plugin-usable``, which says why.
    """
    rows = [row for row in registry.current().plugins if row.name == plugin]
    used = next((row for row in rows if row.plugin is not None), None)
    usable = _check("plugin", plugin, families.usable, "entry point", partial(families.usable, plugin, rows), api=1)
    if used is None or used.plugin is None:
        return [usable]
    checks = [usable]
    of_plugin = OF_DATA if used.is_data else OF_PLUGIN
    if used.plugin.commands or used.plugin.modules:
        of_plugin = {**of_plugin, **OF_COMMANDS}
    if any(key_map.models for key_map in used.plugin.key_maps):
        of_plugin = {**of_plugin, **OF_DATA}
    api = used.plugin.api
    checks += [
        _check("plugin", plugin, check, field, partial(check, used), api=api) for check, field in of_plugin.items()
    ]
    models = used.plugin.models
    smallest = {model.build: model for model in sorted(models, key=lambda it: -it.params)}
    for model in models:
        checks += _checks_of_model(used, model, is_smallest=smallest[model.build] is model)
    for model in models:
        subject = Subject(plugin, model)
        is_smallest = model is min(models, key=lambda other: other.params)
        checks += _of_subject(subject, brought(), is_slow=subject.is_giant or not is_smallest)
    hooked = {(model.train, model.evaluate): model for model in sorted(models, key=lambda it: -it.params)}
    for model in models:
        subject = Subject(plugin, model)
        is_slow = subject.is_long or hooked[model.train, model.evaluate] is not model
        checks += _of_subject(subject, LEARNING, is_slow=is_slow)
    for model in smallest.values():
        subject = Subject(plugin, model)
        for check, field in EXPORTED.items():
            is_slow = subject.is_giant or check is not values.traced
            checks += _of_subject(subject, {check: field}, is_slow=is_slow)
    for arch in used.brought_tags:
        checks += _of_brought(used, arch)
    return checks


def brought() -> Checks:
    """Returns the checks that plugins bring: those of the tools that everyone uses on every network."""
    return {registry.hook(address): "forward" for address in extensions.checks()}


def every() -> list[Callable[..., str | None]]:
    """Returns the functions of all checks, in the order in which they are run."""
    tables = ({**OF_PLUGIN, **OF_DATA}, OF_COMMANDS, OF_EACH, OF_HOOK, COSTLY, brought(), LEARNING, EXPORTED)
    return [families.usable, *(check for table in tables for check in table), trained.weights, trained.fetched]


def _check(
    prefix: str,
    of: str,
    promise: Callable[..., str | None],
    field: str,
    run: Callable[[], str | None],
    *,
    api: int,
    is_slow: bool = False,
) -> Check:
    name, since = f"{prefix}-{promise.__name__}", 2 if promise in SINCE_2 else 1
    return Check(name, is_slow, run, of, field, advice(promise), since, api)


def _of_subject(subject: Subject, checks: Checks, *, is_slow: bool) -> list[Check]:
    name, api = subject.model.name, subject.model.api
    return [
        _check(name, name, check, field, partial(check, subject), api=api, is_slow=is_slow)
        for check, field in checks.items()
    ]


def advice(promise: Callable[..., str | None]) -> str:
    """Returns what a check's docstring says after ``Fix:``, with that word."""
    return " ".join("".join((promise.__doc__ or "").partition("Fix:")[1:]).split()).replace("``", "")


def _checks_of_model(row: PluginRow, model: Model, *, is_smallest: bool) -> Iterator[Check]:
    subject = Subject(row.name, model)
    yield from _of_subject(subject, OF_EACH, is_slow=False)
    yield from _of_subject(subject, OF_HOOK, is_slow=not is_smallest)
    yield from _of_subject(subject, COSTLY, is_slow=not is_smallest or subject.is_giant)
    try:
        entries = row.weights.get(model.name, ())
    except ManifestError:
        return  # plugin-manifests says so
    yield from _of_entries(subject, entries, row)


def _of_brought(row: PluginRow, arch: str) -> Iterator[Check]:
    """Yields the checks of the weights that a plugin brings for a model of another one."""
    entries = row.brought(arch)
    if arch in registry.current().missing(row):
        return  # plugin-manifests says so
    found = registry.current().find(entries[0].name)
    yield from _of_entries(Subject(found.row.name, found.model), entries, row)


def _of_entries(subject: Subject, entries: Iterable[Weights], row: PluginRow) -> Iterator[Check]:
    """Yields the checks of weights of one model that ``row`` states."""
    api = row.plugin.api if row.plugin is not None else API
    built: list[trained.Shape] = []
    for entry in entries:
        # Entries that differ in bytes alone build one network.
        shape, is_embedded = trained.shape(subject.model, entry), trained.is_embedded(entry)
        run = partial(trained.weights, subject, entry)
        is_slow = not is_embedded and shape in built
        yield _check(entry.name, entry.name, trained.weights, "args", run, api=api, is_slow=is_slow)
        built.append(shape)
        if row.is_data or not (is_embedded or row.is_builtin):
            arrival = partial(trained.fetched, entry)
            yield _check(entry.name, entry.name, trained.fetched, "hub", arrival, api=api, is_slow=not row.is_data)
