"""A model's own train and evaluate hooks, run by name."""

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.creation import create_trained, info_of
from zoo.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.data import ImageSet
    from zoo.evaluation import Report
    from zoo.training import Recipe, Run

log = logging.getLogger("zoo")


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
    without ``data``, the data set whose classes the weights know. ``options`` go to the model's
    evaluate hook (``zoo.evaluation.evaluate``: ``batch_size``, ``dtype``, ``progress``).
    """
    from zoo import data as datasets

    if isinstance(model, str):
        model = create_trained(model, weights=weights)
    info = info_of(model)
    data = data or info.classes
    if not data:
        raise DataError(f"{info.name} does not say which data set it knows.", hint="Name one: --data NAME (data=NAME).")
    images = data if isinstance(data, datasets.ImageSet) else datasets.load(data, split)
    if info.classes not in ("", images.name) and info.class_names != images.classes:
        log.warning(
            "%s knows the classes of %s: its score on %s means something only where labels are numbered alike",
            info.name,
            info.classes,
            images.name,
        )
    hook = registry.hook(info.model.evaluate, info.model.requires)
    report: Report = hook(model, images, preprocess=info.preprocess, device=device, **options)
    return report


def train(
    name: str,
    data: "str | Path | ImageSet",
    *,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    output: str | Path,
    resume: bool = False,
    device: "str | torch.device | None" = None,
    **run_options: Any,
) -> "nn.Module":
    """Trains the architecture ``name`` on the training split of ``data`` and writes ``output``.

    ``recipe`` names one of the family's recipes, by default its first for this model and data;
    ``settings`` change fields of it. ``output`` is the run's directory; its ``model.safetensors``
    holds the trained network and the record of the run. ``run_options`` go to ``zoo.training.Run``.
    """
    import torch

    from zoo import data as datasets
    from zoo import load, training

    found = registry.load().find(name)
    images = data if isinstance(data, datasets.ImageSet) else datasets.load(data, "train")
    chosen = training.choose(found.plugin, found.model, images.name, recipe, settings)
    run = training.Run(output, resume=resume, command=run_options.pop("command", _command()), **run_options)
    run.check()
    torch.manual_seed(chosen.seed)
    module, info = load.build(found.model, num_classes=len(images.classes), in_chans=images.channels)
    prepared = training.split(images, chosen)
    preprocess = training.normalise(module, prepared, chosen, info.preprocess)
    info = info._replace(preprocess=preprocess, classes=images.name, class_names=images.classes)
    module.zoo_info = info  # type: ignore[assignment]  # a plain value, not a submodule
    hook = registry.hook(found.model.train, found.model.requires)
    trained: nn.Module = hook(module, prepared, chosen, run, preprocess=preprocess, device=device)
    if not run.is_paused:
        _keep(trained, run, chosen)
    return trained


def _keep(module: "nn.Module", run: "Run", recipe: "Recipe") -> None:
    """Writes the trained network with all that is needed to use it and to train it again."""
    import json

    import msgspec

    from zoo import tensorfile

    info = info_of(module)
    record = {"recipe": msgspec.to_builtins(recipe), "command": run.command}
    if run.config.exists():  # as the default hook writes it; a family's own may not
        record = json.loads(run.config.read_text(encoding="utf-8"))
    about = {
        "model": info.model.name,
        "args": info.args,
        "preprocess": msgspec.to_builtins(info.preprocess),
        "classes": info.classes,
        "class_names": info.class_names,
        "num_classes": len(info.class_names),
        "in_chans": info.preprocess.input_size[0],
        "origin": f"trained by zoo train on {info.classes} with recipe {recipe.name}",
        "run": record,
    }
    tensorfile.write(module.state_dict(), run.model, about)


def _command() -> str:
    """The command line that this process was started with, as far as it is Zoo's."""
    program = Path(sys.argv[0]).name
    return shlex.join([program, *sys.argv[1:]]) if program == "zoo" else ""
