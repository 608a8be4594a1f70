"""The files of a release, made from the weights and measurements; with timm's configuration if timm can load them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from zoo import loading, manifest, names, registry
from zoo.errors import PluginError, ProbeError, SpecError, TrainingError, WeightsError, ZooError
from zoo.evaluation import Report, counting, hook
from zoo.evaluation.by_name import evaluate
from zoo.loading import resolve, safetensors_file
from zoo.loading.network import timm_input_config
from zoo.manifest import License, Protocol, Score, Spread, Weights
from zoo.registry import Found
from zoo.spec import API, Model, Preprocess
from zoo.verify import probe
from zoo_publish import card, wheel
from zoo_publish.destination import Destination
from zoo_publish.source import WEIGHTS, Run, Source, held_out, history, of_seeds, read, without_paths

MEASURED = "measured by zoo evaluate"


class Release(msgspec.Struct, frozen=True):
    """``weights`` is the local file; ``files`` are small files beside it; ``notes`` explain what is missing."""

    entry: Weights
    weights: Path
    files: dict[str, bytes]
    card: str
    notes: list[str]


def prepare(
    source: Path,
    name: str,
    folder: Path,
    place: Destination,
    *,
    license: Mapping[str, str],
    evaluate_on: tuple[tuple[str, str], ...] = (),
    dtype: str | None = None,
    allow_uncommitted: bool = False,
    outputs: Path | None = None,
    progress: Any = None,
) -> Release:
    """Returns the release of ``source``, a run's directory or a safetensors file, as ``name``; written to ``folder``.

    Of a folder with several trainings, it is that of the median one, or of the first if none held out images, and its
    scores have the spread of all.
    ``place`` is where it will lie; ``evaluate_on`` (data set, split) pairs that it is scored on; ``dtype`` is what
    tensors of more than one dimension are stored in. Raises :class:`TrainingError` if the
    run's record lacks command or commit, or the code was not committed, unless ``allow_uncommitted``.
    """
    parsed = names.parse(name)
    if not parsed.tag:
        raise SpecError(f"{name!r} has no tag, expected arch.tag.", hint=f"Use --as {name}.TAG")
    model = registry.current().find(str(parsed._replace(tag="")))
    trainings = of_seeds(source, model.model)
    seed: int | None = None
    measured: Reports = {}
    selection = ""
    if trainings:
        seed, measured, selection = _select(trainings, name, folder, model.model, evaluate_on, dtype, outputs, progress)
    content = trainings[seed] if seed is not None else read(source, model.model)
    gaps = content.run.gaps if content.run else []
    if gaps and not allow_uncommitted:
        todo = "Commit the code and train again with zoo train, or with zoo.train(..., command='...')."
        if all("installed from a folder" in gap for gap in gaps):
            todo = "Install a release, or a checkout with pip install --editable, and train again."
        raise TrainingError(
            f"{source} cannot be trained again from its record: {'; '.join(gaps)}. Nothing was published.",
            hint=f"{todo} --allow-uncommitted (allow_uncommitted=True) publishes it, and its card says so.",
        )
    weights = folder / WEIGHTS
    sha256 = safetensors_file.write(
        _stored(safetensors_file.read(content.file), dtype, content.file), weights, content.about
    )
    if isinstance(place, wheel.Wheel):
        wheel.refuse_size(weights)
    module, info = loading.build_from(weights, model.model)
    scores: dict[str, Score] = {}
    for data, split in evaluate_on:
        of_each = measured.get((data, split), {})
        report = of_each[seed] if seed is not None else _measure(module, data, split, _file(outputs, name), progress)
        dataset = str(without_paths(report.dataset))
        score = _score(name, dataset, report, _protocol(content, model.model, selection))
        spread = Spread.of({number: each.top1 for number, each in of_each.items()}) if of_each else None
        scores[f"{dataset}/{report.split}"] = msgspec.structs.replace(score, spread=spread)
    if dtype is None:  # what the run measured was in full precision
        for where, score in held_out(content).items():
            scores.setdefault(where, score)
    try:
        fresh = probe.take(module, info.preprocess)
    except ValueError:
        raise ProbeError(
            f"{content.file}: the network's outputs contain NaN or infinity; nothing was published."
        ) from None
    entry = Weights(
        file=place.file,
        arch=model.model.name,
        tag=parsed.tag,
        repo=place.repo,
        hub=place.hub,
        sha256=sha256,
        size=weights.stat().st_size,
        origin=str(content.about.get("origin", "")),
        license=_license(model, content.classes, license),
        classes=content.classes,
        num_classes=content.about.get("num_classes", model.model.num_classes),
        **counting.differing(module, model.model, info.preprocess.input_size),
        epochs=_epochs(content, model.model),
        preprocess=info.preprocess,
        args=content.about.get("args", {}),
        **registry.current().distribution_of(model.model),
        scores=scores,
        history=history(content),
        probe=fresh,
    )
    manifest.parse(
        manifest.render(entry), f"{content.file}, according to its metadata"
    )  # or whoever reads it would fail
    notes = [] if entry.scores or not place.has_card else ["No score. Measure one with --evaluate DATA."]
    files, text = {}, ""
    if isinstance(place, wheel.Wheel):
        text = card.body(entry, model.model, content.run, list(wheel.CONTENTS), notes, place.distribution)
        files = place.members(entry, model.model, text)
    elif place.has_card:
        files, text = _beside(entry, module, model, content, notes)
    notes += [f"It has the seed {seed}: {selection}."] if selection else []
    notes += [f"The training cannot be repeated from its record: {'; '.join(gaps)}."] if gaps else []
    return Release(entry, weights, files, text, notes)


Reports = dict[tuple[str, str], dict[int, Report]]
"""Scores by data set and split, and by seed."""


def _select(
    trainings: dict[int, Source],
    name: str,
    folder: Path,
    model: Model,
    evaluate_on: tuple[tuple[str, str], ...],
    dtype: str | None,
    outputs: Path | None,
    progress: Any,
) -> tuple[int, Reports, str]:
    """Scores all trainings; returns the seed of the one to publish, the scores, and how it was selected, in words.

    It is the median by the score on held-out images, of an even number the lower one of the two in the middle; or, if
    none were held out, the first one: a score on test images selects nothing.
    """
    kept = {seed: next(iter(held_out(source).values()), None) for seed, source in trainings.items()}
    ranks = {seed: score.top1 for seed, score in kept.items() if score is not None and score.top1 is not None}
    is_held_out = len(ranks) == len(trainings)
    reports: Reports = {of: {} for of in evaluate_on}
    for seed, source in trainings.items():
        file = folder / f"seed{seed}.safetensors"
        safetensors_file.write(_stored(safetensors_file.read(source.file), dtype, source.file), file, source.about)
        module, _ = loading.build_from(file, model)
        for data, split in evaluate_on:
            report = _measure(module, data, split, _file(outputs, f"{name}/seed{seed}"), progress)
            reports[data, split][seed] = report
        file.unlink()
    if not is_held_out:
        return min(trainings), reports, f"the first of {len(trainings)} trainings, as none held out images"
    seed = sorted(ranks, key=lambda seed: (ranks[seed], seed))[(len(ranks) - 1) // 2]
    return seed, reports, f"the median of {len(ranks)} trainings by the images that each held out"


def _measure(module: nn.Module, data: str, split: str, outputs: Path | None, progress: Any) -> Report:
    if outputs is not None:
        outputs.parent.mkdir(parents=True, exist_ok=True)
    report = evaluate(module, data, split, outputs=outputs, progress=progress)
    if report.stated_by:
        raise PluginError(
            f"{report.stated_by} saw the labels of {data}: its score is its own account; nothing was published.",
            hint=f"Update the plugin of {report.model} to contract {API}, or leave out --evaluate.",
        )
    return report


def _file(outputs: Path | None, name: str) -> Path | None:
    return None if outputs is None else outputs / f"{name}.safetensors"


def _stored(tensors: dict[str, Tensor], dtype: str | None, file: Path) -> dict[str, Tensor]:
    loading.require_finite(tensors, file)
    if dtype is None:
        return tensors
    kind = getattr(torch, dtype)
    stored = {key: value.to(kind) if _is_large(value) else value for key, value in tensors.items()}
    if lost := loading.not_finite(stored):
        raise WeightsError(f"{file}: {', '.join(lost[:5])} do not fit {dtype}.", hint="Remove --dtype.")
    return stored


def _is_large(tensor: Tensor) -> bool:
    """Returns whether it is a filter or matrix; biases and statistics are small and stay float32 (decision 0009)."""
    return tensor.is_floating_point() and tensor.ndim > 1


def _score(name: str, dataset: str, report: Report, protocol: Protocol | None) -> Score:
    return Score(
        n=report.n,
        source=MEASURED,
        protocol=protocol,
        top1=round(report.top1, 4),
        top5=None if report.top5 is None else round(report.top5, 4),
        mean_class=round(report.mean_class, 4),
        loss=None if report.loss is None else float(f"{report.loss:.6g}"),
        correct=report.correct,
        command=f"zoo evaluate {name} --data {dataset}"
        + (f" --split {report.split}" if report.split != "test" else ""),
        fingerprint=report.fingerprint,
    )


def _protocol(content: Source, model: Model, selection: str) -> Protocol | None:
    """Returns what a run record says of the protocol; None without a run. An evaluate hook may take several views."""
    images = content.run.data.get("train") if content.run else None
    if content.run is None or not images or not images.n:
        return None
    if content.run.recipe.get("keep") == "best":
        selection = ", ".join(filter(None, ("the best epoch on held-out images", selection)))
    return Protocol(
        trained_on=images.n, runs=1, views=1 if model.evaluate == hook.DEFAULT.evaluate else None, selection=selection
    )


def _epochs(given: Source, model: Model) -> int | None:
    """Returns the epochs of a run; None without a run, and for a network that is fitted."""
    epochs = given.run.recipe.get("epochs") if given.run and not model.fitted else None
    return epochs if isinstance(epochs, int) else None


def _license(model: Found, classes: str, stated: Mapping[str, str]) -> License:
    """Returns the stated licence; by default, that of the code is its distribution's, that of the data its plugin's."""
    from importlib.metadata import PackageNotFoundError, metadata

    code = data = "unknown"
    try:
        about = metadata(model.row.distribution)
        code = next((about[key] for key in ("License-Expression", "License") if key in about), code)
    except (PackageNotFoundError, ValueError):
        pass  # run from a source tree that was never installed
    for row in registry.current().plugins:
        for spec in row.plugin.datasets if row.plugin is not None else ():
            data = spec.license or data if spec.name == classes else data
    return License(**{"code": code, "data": data, **stated})


def _beside(
    entry: Weights, module: nn.Module, model: Found, content: Source, notes: list[str]
) -> tuple[dict[str, bytes], str]:
    """Returns the files beside the weights, and the card among them; adds to ``notes`` what is not written."""
    files = {}
    config = timm_config(module, model.model, entry, entry.preprocess or model.model.preprocess)
    if isinstance(config, str):
        notes.insert(0, f"config.json was not written: {config}.")
    else:
        files["config.json"] = _json(config | timm_class_names(content.about))
    if content.run is not None:
        files["run.json"] = _json(content.run.whole)
    if content.log is not None:
        files["log.jsonl"] = content.log
    if results := card.render_eval_results(entry):
        files[card.EVAL_RESULTS] = results
    here = msgspec.structs.replace(entry, hub="hf") if Path(entry.hub).is_absolute() else entry
    files["weights.toml"] = manifest.render(here).encode()
    text = card.render(entry, model.model, content.run, [*files, WEIGHTS], notes, _base_model(content.run))
    return {**files, "README.md": text.encode()}, text


def _base_model(run: Run | None) -> str:
    """Returns the Hugging Face repository of the weights that the training started from, "" if there is none."""
    start = run.init if run else {}
    try:
        entry = resolve.weights_for(resolve.find(start.get("weights", "")))
    except ZooError:  # a local file
        return ""
    return entry.repo if entry.hub == "hf" and entry.sha256 == start.get("sha256") else ""


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def timm_config(module: nn.Module, model: Model, entry: Weights, preprocess: Preprocess) -> dict[str, Any] | str:
    """Returns timm's configuration of ``module``, or the reason why there is none.

    timm must have an architecture of that name whose network loads every tensor and computes the same outputs.
    """
    try:
        import timm
    except ImportError:
        return "timm is not installed, so this was not checked"
    import torch

    from zoo.verify import probe

    name = model.name.rpartition("/")[2]
    if not timm.is_model(name):
        return f"timm has no architecture {name!r}"
    classes, channels = entry.num_classes or 0, preprocess.input_size[0]
    try:
        theirs = timm.create_model(name, num_classes=classes, in_chans=channels)
        theirs.load_state_dict(module.state_dict())
    except Exception as error:  # any of its thousand networks may raise anything
        return f"timm's {name} cannot load these tensors ({str(error).splitlines()[0]})"
    images = probe.picture_input(preprocess)
    with torch.inference_mode():
        ours, got = module.eval()(images), theirs.eval()(images)
    if got.shape != ours.shape or not torch.allclose(got, ours, rtol=1e-4, atol=1e-4 * float(ours.abs().max())):
        return f"timm's {name} computes different outputs with these tensors"
    default = theirs.pretrained_cfg or {}
    if preprocess.whitening != "none":
        return "timm does not whiten its input"
    return {
        "architecture": name,
        "num_classes": classes,
        "num_features": theirs.num_features,
        "pretrained_cfg": {
            "tag": entry.tag,
            "custom_load": False,
            **timm_input_config(preprocess),
            "fixed_input_size": bool(default.get("fixed_input_size", False)),
            "num_classes": classes,
            "pool_size": default.get("pool_size"),
            "first_conv": default.get("first_conv"),
            "classifier": default.get("classifier"),
            "license": entry.license.weights,
        },
        **({"model_args": {"in_chans": channels}} if channels != 3 else {}),
    }


def timm_class_names(about: dict[str, Any]) -> dict[str, Any]:
    """Returns ``label_names`` as in timm's configuration."""
    names = msgspec.convert(about.get("class_names") or [], list[str])
    return {"label_names": names} if names else {}
