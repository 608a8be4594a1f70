"""The default training hook."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn

from zoo.spec import Preprocess
from zoo.system import distributed
from zoo.system.malloc import keep_freed_memory
from zoo.training import norms, record
from zoo.training.engine import Criterion, Engine, ParameterGroups
from zoo.training.inputs import TrainingData
from zoo.training.interruption import Interruption
from zoo.training.recipe import Recipe
from zoo.training.run import Run


def train(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    run: Run,
    *,
    preprocess: Preprocess,
    device: torch.device | str | None = None,
    criterion: Criterion | None = None,
    parameter_groups: ParameterGroups | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Trains a network in place: the default train hook.

    In processes that a launcher started, all must call it; the first one writes and shows progress. A resumed run
    continues bit by bit as if it had not stopped, on the same machine and with as many threads and processes. On Ctrl-C
    or SIGTERM a checkpoint is written before KeyboardInterrupt is raised.

    Args:
        model: The network.
        data: The images.
        recipe: The recipe.
        run: The run's directory. Its ``is_paused`` says afterwards whether epochs are left.
        preprocess: How images are prepared.
        device: Where to train. By default a GPU if there is one.
        criterion: Returns the mean loss of (output, labels). By default cross-entropy with label smoothing.
        parameter_groups: Returns the optimiser's groups for (model, recipe). A group may have an ``lr_scale`` and a
            ``weight_decay``.
        on_epoch: Called with an epoch's number, from 0, before it, and again if it is resumed.

    Returns:
        The network, with the average of its weights if the recipe asks for one.

    Raises:
        TrainingError: The directory holds another run, or the loss is not a finite number; the last checkpoint stays.
        RecipeError: The optimiser is unknown, or settings cannot be combined.

    Example:
        >>> import zoo
        >>> model, recipe = zoo.create("resnet20.digits"), zoo.training.Recipe(epochs=1)
        >>> data = zoo.training.split(zoo.data.load("digits", "test"), recipe)
        >>> run = zoo.training.Run("runs/digits")
        >>> model = zoo.training.train(model, data, recipe, run, preprocess=model.zoo_info.preprocess)
        >>> run.is_paused
        False
    """
    run.check()
    group = distributed.current()
    device = group.device(device)
    keep_freed_memory()
    engine = Engine(model, data, recipe, run, preprocess, device, criterion, parameter_groups, on_epoch)
    described = record.describe(model, data, recipe, preprocess, run, device)
    run.open(described)
    run.display.announce(record.in_words(described, data, recipe, engine.batches.steps))
    cuda = [device] if device.type == "cuda" else []
    was_training = model.training
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=cuda))
            interruption = stack.enter_context(Interruption(is_patient=group.count > 1))
            if recipe.sync_norm and group.count > 1:
                stack.enter_context(norms.sync_batch_norm(model, group))
            engine.resume()
            engine.train(interruption)
    finally:
        engine.close()
        run.close()
        model.train(was_training)
    return model
