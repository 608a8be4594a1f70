"""A model's own train and evaluate hooks, run by name."""

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.creation import create_trained, info_of, require_classes
from zoo.errors import DataError, TrainingError, WeightsError
from zoo.evaluation import hook
from zoo.registry import arguments
from zoo.spec import Model
from zoo.system import distributed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data import ImageSet, ImageStream
    from zoo.evaluation import Report
    from zoo.loading import ModelInfo
    from zoo.training import Recipe, Run, TrainingData
    from zoo.training.finetune import Source

log = logging.getLogger("zoo")

TRAINED = "trained by zoo train"
"""How the origin of weights begins whose file holds the record of their training."""


def evaluate(
    model: "str | nn.Module",
    data: "str | Path | ImageSet | None" = None,
    split: str = "test",
    *,
    weights: str | Path | None = None,
    device: "str | torch.device | None" = None,
    **options: Any,
) -> "Report":
    """Scores a model on a data set, each by name or as a value.

    A name without a tag means its default weights, unless ``weights`` is a local safetensors file;
    without ``data``, the data set whose classes the weights know. Without ``device``, what is given by name
    is scored on a GPU if there is one, and a network where it lies. ``options`` go to the model's
    evaluate hook (``zoo.evaluation.evaluate``: ``batch_size``, ``dtype``, ``progress``).
    """
    from zoo import data as datasets
    from zoo import evaluation

    if isinstance(model, str):
        model = create_trained(model, weights=weights)
        device = distributed.current().device(device)
    info = info_of(model)
    require_classes(model)
    data = data or info.classes
    if not data:
        raise DataError(f"{info.name} does not name a data set.", hint="Set one with --data NAME (data=NAME).")
    images = data if isinstance(data, datasets.ImageSet) else datasets.load(data, split)
    evaluation.check_classes(model, images)
    _warn_of_training_images(info, images)
    return hook.evaluate(info.model, model, images, preprocess=info.preprocess, device=device, **options)


def train(
    name: str | None = None,
    data: "str | Path | ImageSet | ImageStream | None" = None,
    *,
    args: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path,
    resume: bool = False,
    device: "str | torch.device | None" = None,
    **run_options: Any,
) -> "nn.Module":
    """Trains the architecture ``name`` on the training split of ``data`` and writes ``output``.

    ``args`` go to the family's build function and are kept with the weights. ``init`` are trained
    weights to start from, ``arch.tag`` or a local safetensors file: the head is newly initialised
    unless they know the classes of ``data``, the stem adapted to its channels. ``recipe`` names one of
    the family's recipes, by default its first for this model and data; ``settings`` change fields of
    it. ``output`` is the run's directory; its ``model.safetensors`` holds the trained network and the
    record of the run. ``run_options`` go to ``zoo.training.Run``.

    ``resume`` continues the run in ``output``. The run has all other arguments: those that are given must
    be what it was started with, but for ``settings["epochs"]``, which makes it longer or shorter.
    """
    from zoo import data as datasets
    from zoo import training
    from zoo.training import finetune, record

    held = record.of_run(training.Run(output, resume=True)) if resume else None
    if held is not None:
        name = name or held.model
        data = held.source.get("data", held.data["train"].name) if data is None else data
        init = init or held.source.get("init") or held.init.get("weights")
        args = {**held.args, **(args or {})}
    if name is None or data is None:
        raise TrainingError(
            f"Training needs a {'model' if name is None else 'data set'}.",
            hint="zoo train MODEL --data DATA -o DIR; with --resume, -o DIR is enough.",
        )
    found = registry.load().find(name)
    if found.weights is not None:
        raise WeightsError(
            f"Training {name} would start from random weights, not from these.",
            hint=f"To start from them, use --init {name} (init={name!r}); otherwise train {found.model.name}.",
        )
    if undeclared := arguments.undeclared(found.model, args or {}):
        log.warning(
            "%s: a weights file cannot set %s: pass it again (--arg) whenever you load the trained network",
            name,
            ", ".join(undeclared),
        )
    images = training_images(data) if isinstance(data, str | Path) else data
    held_out = validation_images(data) if isinstance(data, str | Path) else None
    if held is not None and recipe in (None, held.recipe.name):
        chosen = training.change(held.recipe, settings)
    else:
        own = _own_recipe(found.model, images, held_out is not None, init is not None)
        chosen = training.choose(found.plugin, found.model, images.name, recipe, settings, own=own)
    start = None if init is None else finetune.find(init, found.model)
    source = {"data": datasets.address(data)} if isinstance(data, str | Path) else {}
    source |= {} if start is None else {"init": start.name if start.entry else str(start.file.absolute())}
    run_options.setdefault("command", command_line())
    run = training.Run(output, resume=resume, init=start and start.record, source=source, **run_options)
    prepared = training.split(images, chosen, held_out)
    return carry_out(found.model, prepared, chosen, run, args=args or {}, source=start, device=device)


def training_images(data: str | Path) -> "ImageSet | ImageStream":
    """What a training on ``data`` learns from, in memory or as a stream."""
    from zoo import data as datasets

    return datasets.open_stream(data, "train") or datasets.load(data, "train")


def validation_images(data: str | Path) -> "ImageSet | None":
    """The images that ``data`` itself holds out to choose by: its validation split, never its test split."""
    from zoo import data as datasets

    known = datasets.splits(data)
    split = next((name for name in ("validation", "val", "valid") if name in known), None)
    return datasets.load(data, split) if split is not None and datasets.open_stream(data, split) is None else None


def _own_recipe(
    model: Model, images: "ImageSet | ImageStream", is_held_out: bool, is_trained: bool
) -> dict[str, Any] | None:
    """The recipe for the user's own images, if ``model`` uses the default training hook."""
    from zoo.data.sizes import training_images as known
    from zoo.training.choice import for_own_images

    if known(images.name) or model.train != hook.DEFAULT.train:
        return None
    height, width = model.preprocess.input_size[1:]
    return for_own_images(
        len(images),
        is_small=images.pixels is not None and tuple(images.pixels.shape[2:]) == (height, width),
        has_colour=images.channels == 3,
        is_held_out=is_held_out or not hasattr(images, "labels"),
        is_trained=is_trained,
    )


def carry_out(
    model: Model,
    data: "TrainingData",
    recipe: "Recipe",
    run: "Run",
    *,
    args: Mapping[str, Any],
    source: "Source | None" = None,
    device: "torch.device | str | None" = None,
) -> "nn.Module":
    """Trains a network of ``model``, a new one or that of ``source``, and keeps it in the directory of ``run``."""
    images = data.train
    import torch

    from zoo import loading, training
    from zoo.training import finetune, record

    run.check()
    torch.manual_seed(recipe.seed)
    if source is None:
        module, info = loading.build(model, num_classes=len(images.classes), in_chans=images.channels, **args)
    else:
        module, info = finetune.build(source, model, images, args)
    preprocess = training.normalise(module, data, recipe, info.preprocess)
    finetune.check_whitening(module, preprocess, recipe)
    info = info._replace(preprocess=preprocess, classes=images.name, class_names=images.classes)
    module.zoo_info = info  # type: ignore[assignment]  # a plain value, not a submodule
    trained = hook.train(model, module, data, recipe, run, preprocess=preprocess, device=device)
    if not run.is_paused:
        group = distributed.current()
        described = record.describe(module, data, recipe, preprocess, run, group.device(device))
        if group.is_first:
            _keep(trained, run, described)
        group.wait()
    return trained


def _warn_of_training_images(info: "ModelInfo", images: "ImageSet") -> None:
    """Says so where the weights' own record names the split that they are to be scored on."""
    from zoo.loading import safetensors_file

    if info.file is None:
        return
    try:
        learned = safetensors_file.metadata(info.file)["run"]["data"]["train"]
        if (learned["name"], learned["split"]) != (images.name, images.split):
            return
    except (WeightsError, LookupError, TypeError):
        return  # of another origin
    where = f"{images.name}/{images.split}" if images.split != "all" else f"{images.name}, which has no splits"
    log.warning("%s was trained on images of %s: the score does not generalise to other images", info.name, where)


def _keep(module: "nn.Module", run: "Run", record: dict[str, Any]) -> None:
    """Writes the trained network with all that is needed to use it and to train it again.

    Its record is ``record``, save where the hook wrote something else into the run's configuration.
    """
    import json

    import msgspec

    from zoo.loading import safetensors_file

    info, recipe = info_of(module), record["recipe"]["name"]
    if run.config.exists():
        record = {**record, **json.loads(run.config.read_text(encoding="utf-8"))}
        record.pop("source", None)  # folders of this machine
    start = f", from {Path(run.init['weights']).name}" if run.init else ""
    about = {
        "model": info.model.name,
        "args": info.args,
        "preprocess": msgspec.to_builtins(info.preprocess),
        "classes": info.classes,
        "class_names": info.class_names,
        "num_classes": len(info.class_names),
        "in_chans": info.preprocess.input_size[0],
        "origin": f"{TRAINED} on {info.classes} with recipe {recipe}{start}",
        "run": record,
    }
    if distribution := registry.load().distribution_of(info.model):
        about["distribution"] = distribution
    safetensors_file.write(module.state_dict(), run.model, about)


def command_line() -> str:
    """The command line that this process was started with, as far as it is Zoo's."""
    program = Path(sys.argv[0])
    is_zoo = program.name == "zoo" or program.parts[-2:] == ("zoo", "__main__.py")
    return shlex.join(["zoo", *sys.argv[1:]]) if is_zoo else ""
