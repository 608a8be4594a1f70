"""The default train hook."""

from collections.abc import Callable
from contextlib import ExitStack

import msgspec
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
    hook_args: type[msgspec.Struct] = msgspec.Struct,
) -> nn.Module:
    """Trains ``model`` in place and returns it, holding the average of its weights where one is kept.

    ``criterion(output, labels)`` returns the mean loss of a batch; by default cross-entropy with the
    recipe's label smoothing. ``parameter_groups(model, recipe)`` returns the optimiser's groups, each
    with an ``lr_scale`` and a ``weight_decay`` where it differs. ``on_epoch(number)`` is called before
    an epoch (from 0), and again where one is resumed: what it changes may depend on the number alone.
    ``hook_args`` is the struct that the caller reads from the recipe's ``hook_args``; by default they must be empty.
    Runs on a GPU where there is one, unless ``device`` says otherwise; in all processes that a launcher
    started, which call this alike, while the first one writes and shows. ``run.is_paused`` says that
    epochs are left. Resuming continues bit by bit as if there had been no break, on the same machine
    and number of threads and processes. On Ctrl-C or SIGTERM the step in hand is finished (on a GPU,
    some twenty more) and a checkpoint written before KeyboardInterrupt leaves, in every process.

    Raises :class:`TrainingError` where the run's directory does not suit or the loss stops being a
    number; then the last checkpoint stays.
    """
    run.check()
    recipe.read_hook_args(hook_args)
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
                stack.enter_context(norms.over_all(model, group))
            engine.resume()
            engine.train(interruption)
    finally:
        engine.close()
        run.close()
        model.train(was_training)
    return model
