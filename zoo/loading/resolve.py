"""Finds the model and the weights of a name in this project."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from zoo import names, registry
from zoo.errors import LockError, SpecError, TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.manifest import Weights
from zoo.registry import Found, extensions, hooks, listing
from zoo.registry.hooks import blaming
from zoo.registry.registry import to_install
from zoo.system import storage
from zoo.trust import first_use, lock, policy

if TYPE_CHECKING:  # few weights need a conversion
    from zoo.hub.converted import Job


def find(name: str, *, distribution: str = "") -> Found:
    """Returns the model and weights of ``name``, also of a repository: ``hf-hub:OWNER/NAME``.

    Raises as :meth:`zoo.registry.Registry.find` and :func:`zoo.trust.repository.find`. The error for an unknown name
    says which distribution had it when it was locked.
    """
    names.check(name)
    if names.is_repository(name):
        from zoo.trust import repository

        return repository.find(name)
    try:
        return registry.current().find(name, distribution=distribution)
    except UnknownNameError as error:
        if distribution:
            raise
        locked = _locked()
        brought = [of for full, of in locked.items() if "." in full and _short(full) == _short(name)]
        from zoo.system import machine  # which imports much

        if brought and not machine.version_of(brought[0].distribution):
            if needed := names.requirement(brought[0].distribution, brought[0].version):
                error.hint = to_install(needed, registry.current().plugins)
            raise
        models = [of for full, of in locked.items() if _short(full).partition(".")[0] == _short(name).partition(".")[0]]
        if not models or not (needed := names.requirement(models[0].distribution, models[0].version)):
            raise
        return registry.current().find(name, distribution=needed)


def _locked() -> Mapping[str, lock.Locked]:
    """Returns what the project's lock and the user's pins hold; nothing if they cannot be read."""
    try:
        project = lock.of_project()
        return {**(project.weights if project else {}), **first_use.pins()}
    except LockError:
        return {}


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def trained_at(path: str | Path) -> Path | None:
    """Returns the weights file that the path of a run, or of a safetensors file, means; None for a name.

    What is known as a name is one: ``./resnet20`` is a folder for certain. Raises :class:`WeightsError` for a folder
    without a trained network.
    """
    names.check(path)
    file = Path(path)
    is_folder = file.is_dir()
    if names.is_repository(str(path)) or not (is_folder or file.suffix == ".safetensors"):
        return None
    with suppress(UnknownNameError):
        find(str(path))
        return None
    return _trained_in(file) if is_folder else file


def _trained_in(folder: Path) -> Path:
    trained = folder / "model.safetensors"
    if trained.is_file():
        return trained
    if (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder} is a run that has not ended: it has no {trained.name}.", hint=f"zoo train --resume -o {folder}"
        )
    raise WeightsError(f"{folder} is a folder, but not of a run: it has no {trained.name}.")


def model_in(file: str | Path) -> str:
    """Returns the name of the model that a safetensors file states."""
    from zoo.loading import safetensors_file

    model = safetensors_file.metadata(Path(file)).get("model")
    if not isinstance(model, str):
        raise WeightsError(
            f"{file} does not name its model.",
            hint=f"Name it: MODEL --weights {file}, zoo train MODEL --init {file} or zoo.create(MODEL, weights=...).",
        )
    return model


def with_file(name: str, weights: str | Path | None) -> tuple[str, str | Path | None]:
    """Returns ``name`` and ``weights`` as they are; for the path of a trained network, its model and its file.

    A run's folder as ``weights`` means its file.
    """
    if weights is not None and not names.is_repository(str(weights)) and Path(weights).is_dir():
        return name, _trained_in(Path(weights))
    file = trained_at(name) if weights is None else None
    return (name, weights) if file is None else (model_in(file), file)


def model_named(name: str, weights: str | Path | None) -> Found:
    """Returns the model ``name``; if it is unknown, the file ``weights`` may name the distribution that has it."""
    try:
        return find(name)
    except UnknownNameError as error:
        if weights is None or names.is_repository(name):
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        of = names.requirement(about.get("distribution", ""), about.get("distribution_version", ""))
        return find(name, distribution=of)


def with_tag(match: Found, pretrained: bool | str) -> Found:
    """Returns ``match`` with the weights whose tag ``pretrained`` is; as it is for True and False."""
    if isinstance(pretrained, bool):
        return match
    if not isinstance(pretrained, str):
        raise SpecError(f"pretrained={pretrained!r}: expected True, False or a tag of {match.model.name}'s weights.")
    if match.weights is not None and match.weights.tag != pretrained:
        raise WeightsError(
            f"{match.weights.name} and pretrained={pretrained!r} both name weights.", hint="Give one of them."
        )
    return registry.current().tagged(match, pretrained)


def use(match: Found) -> tuple[Weights, Path]:
    """Returns the weights of a name and a safetensors file with them, fetched if it is not in the cache.

    A file of another format is converted once (:mod:`zoo.hub.converted`); the weights then state what its key map does.
    """
    weights = weights_for(match)
    if not weights.needs_conversion:
        return first_use.fetch(match, weights)
    if not weights.sha256:  # with one, a conversion may be there, which does not need its source
        weights = first_use.fetch(match, weights).weights
    try:
        return as_safetensors(match, weights, lambda: first_use.fetch(match, weights).path)
    except WeightsError as error:
        first_use.explain(error, match, weights)
        raise


def use_given(match: Found, text: str | Path) -> tuple[Weights | None, Path]:
    """Returns the safetensors file that ``weights=given`` means for a model, and its entry if it is of a repository.

    A file of another format is converted once, as those of manifests are. Raises :class:`WeightsError` if there is no
    such file, or if the repository has another model; otherwise as :func:`use`.
    """
    if names.is_repository(str(text)):
        there = find(str(text))
        if names.parse(there.model.name).arch != names.parse(match.model.name).arch:
            raise WeightsError(
                f"{text} has weights of {there.model.name}, not of {match.model.name}.", hint=f"zoo.create({text!r})"
            )
        entry, file = use(there)
        return (entry if there.model is match.model else replace(entry, args={})), file
    file = Path(text)
    if file.suffix in ("", ".safetensors"):
        return None, file
    extensions.converter_of(file.name)
    try:
        sha256 = storage.sha256_of(file)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from None
    weights = Weights(file.name, arch=match.model.name, tag=names.as_part(file.stem), sha256=sha256)
    return None, as_safetensors(match, weights, lambda: file)[1]


def as_safetensors(match: Found, weights: Weights, bring: Callable[[], Path]) -> tuple[Weights, Path]:
    """Returns ``weights`` as their key map completes them, and their conversion; ``bring`` returns the source if it is
    needed.

    Raises as :func:`zoo.hub.converted.use`.
    """
    from zoo.hub import converted

    made = converted.use(job_of(match, weights), weights, bring)
    return made.record.describe(weights), made.path


def job_of(match: Found, weights: Weights) -> "Job":
    """Returns the conversion of ``weights``, which have a sha256, to safetensors for the model ``match``."""
    from zoo.hub import converted

    tool = extensions.converter_of(weights.file, weights.name)
    maps = match.plugin.key_maps
    if weights.key_map not in {"", *(key_map.name for key_map in maps)} and (
        brought := extensions.find_key_map(match, weights.key_map)
    ):
        maps = (*maps, brought)
    return converted.Job(
        weights.sha256,
        lock.full_name(match),
        weights.key_map,
        weights.args,
        is_trunk=weights.num_classes == 0,
        maps=maps,
        converter=msgspec.UNSET if tool.is_builtin else f"{tool.address} of {tool.distribution}",
    )


def convert_here(
    *,
    name: str,
    model: str,
    source: str,
    file: str,
    sha256: str,
    key_map: str,
    args: Mapping[str, Any],
    is_trunk: bool,
    out: str,
) -> dict[str, Any]:
    """Converts ``source``, which the entry ``name`` calls ``file``: a job that :mod:`zoo.hub.converted` starts.

    Returns the fields of a record. Raises the errors of the plugin's converter, which begin with ``name`` and call the
    file as the entry does.
    """
    from zoo.loading import safetensors_file

    try:
        match = registry.current().find(model)
    except UnknownNameError:
        raise WeightsError(
            f"{name}: its file is converted in a process of its own, which has no model {model!r}.",
            hint="A plugin that zoo.register added exists in one process: install it as a distribution.",
        ) from None
    arch = match.model.name
    entry = Weights(
        file, arch=arch, tag="converted", sha256=sha256, key_map=key_map, args=args, num_classes=0 if is_trunk else None
    )
    address = extensions.converter_of(file).address
    try:
        with blaming(address, file):
            tensors, entry = registry.hook(address, role=hooks.CONVERT)(Path(source), match._replace(weights=entry))
        hooks.args_of_file(match.model, entry.args, file)
    except ZooError as error:
        message = error.message.replace(source, file).replace(Path(source).name, file)
        hint = error.hint
        if isinstance(error, TensorMismatchError):
            hint = "An entry may state the key map (key_map = NAME), and that the file has no head (num_classes = 0)."
        raise type(error)(f"{name}: {message}", hint=hint) from None
    preprocess = entry.preprocess or match.model.preprocess
    about = {
        "origin": f"converted from {file} (sha256 {sha256})",
        "model": arch,
        "args": entry.args,
        "preprocess": msgspec.to_builtins(preprocess),
        "classes": entry.classes,
        "num_classes": match.model.num_classes if entry.num_classes is None else entry.num_classes,
        "in_chans": preprocess.input_size[0],
    }
    return {
        "file": file,
        "sha256": safetensors_file.write(tensors, Path(out), about),
        "key_map": entry.key_map,
        "args": entry.args,
        "preprocess": None if preprocess == match.model.preprocess else preprocess,
        "classes": entry.classes,
    }


def weights_for(match: Found) -> Weights:
    """Returns the weights of a name in this project: by tag or default, as its lock, its policy and the user's pins
    allow.

    Without a sha256 if none of them, nor the manifest, states one: :func:`zoo.trust.first_use.fetch` pins them. Raises
    :class:`zoo.LockError` if the bytes of two of them differ, :class:`zoo.PolicyError` if the project's policy does not
    accept them.
    """
    lock_file = storage.project_file(lock.NAME, lock.VARIABLE)
    locked = lock.read(lock_file) if lock_file else None
    default = lock.default_of(locked, match) if locked and not match.weights else None
    entry = match.weights or default or default_weights(match)
    followed = first_use.follow(match, lock.follow(locked, match, entry) if locked else entry)
    policy.check(match, entry)
    return followed


def default_weights(match: Found) -> Weights:
    """Returns the weights that a model's name alone means, as :meth:`zoo.registry.Registry.default_of`.

    Raises :class:`WeightsError` with the weights of its family if it has none.
    """
    if default := registry.current().default_of(match.row, match.model):
        return default
    arch = match.model.name
    names = [weights.name for weights in registry.current().weights_of(match.row, match.model)]
    if names:
        raise WeightsError(
            f"{arch} has no weights of its own.",
            hint=f"Name those that another distribution brings: {', '.join(names)}.",
        )
    having = listing.list_models(pretrained=True, family=match.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {match.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")
