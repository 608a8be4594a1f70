"""Updates of the weights: parameter groups, optimizer, learning rate, averages, batch normalisation over processes."""

import copy
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from zoo.errors import MissingExtraError, RecipeError
from zoo.modules.network import lies_in, parameter_levels
from zoo.spec import Model
from zoo.system.distributed import Processes
from zoo.training.recipe import Lookahead, Recipe

BACKBONE = "backbone"
"""Name in ``freeze`` of everything but the declared head."""


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """Freezes the parts that match ``patterns``; returns the submodules among them, to keep them in eval mode.

    A pattern is the name of a submodule or parameter, a shell pattern of such names, or ``backbone`` for everything
    outside the model's declared head. Raises :class:`RecipeError` for a pattern without match, or if all parameters
    would be frozen.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen: set[str] = set()
    for pattern in patterns:
        named = {name for name in (*modules, *parameters) if fnmatchcase(name, pattern)}
        met = _outside_head(model) if pattern == BACKBONE else named
        if not met:
            raise _no_match(pattern, model, [*modules, *parameters])
        chosen |= met
    frozen = [module for name, module in modules.items() if name in chosen]
    for learned in (*frozen, *(parameters[name] for name in chosen & parameters.keys())):
        learned.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in parameters.values()):
        raise RecipeError(
            f"freeze = {list(patterns)} freezes all parameters.",
            hint=f"--freeze {BACKBONE} freezes all but the head (freeze = [{BACKBONE!r}]).",
        )
    return frozen


def by_layer(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]] | None:
    """Groups parameters, with a rate that falls by ``recipe.layer_decay`` per stage from the head down; None if 1.

    The schedule multiplies its rate by a group's ``lr_scale``. As in timm, parameters in the network's
    ``no_weight_decay()`` do not decay, nor do biases and norms if the recipe excludes them.
    """
    if recipe.layer_decay == 1:
        return None
    row = _row(model, "layer_decay")
    if not row.stages:
        raise RecipeError(f"layer_decay: {row.name} declares no stages.", hint="Set layer_decay to 1.")
    stages = parameter_levels(model, row.stages, stem=row.stem, head=row.head)
    levels = {name: stage for name, (stage, _) in stages.items()}  # 0 for the stem, the highest for the head
    top = max(levels.values(), default=0)
    exempt: Collection[str] = getattr(model, "no_weight_decay", set)()
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = _decays(name, parameter, recipe, exempt)
            groups.setdefault((top - levels[name], decays), []).append(parameter)
    # The head's comes first: the log shows the first group's rate.
    return [
        {
            "params": groups[depth, decays],
            "lr_scale": recipe.layer_decay**depth,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for depth, decays in sorted(groups)
    ]


def _outside_head(model: nn.Module) -> set[str]:
    """Returns parameters outside the declared head, and submodules that do not contain any of it."""
    head = _row(model, f"freeze = {BACKBONE!r}").head
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    modules = {name for name, _ in model.named_modules() if name}
    modules -= {name for name in modules if any(lies_in(part, name) for part in head)}
    return {name for name in parameters | modules if not any(lies_in(name, part) for part in head)}


def _row(model: nn.Module, wish: str) -> Model:
    """Returns the plugin's row of ``model``."""
    info = getattr(model, "zoo_info", None)
    if info is None:
        raise RecipeError(
            f"{wish} needs the head and stages of the model, but this {type(model).__name__} was not created by Zoo.",
            hint="Create it with zoo.create, or name its submodules (freeze) or its groups (parameter_groups).",
        )
    row: Model = info.model
    return row


def _no_match(pattern: str, model: nn.Module, names: list[str]) -> RecipeError:
    near = get_close_matches(pattern, [BACKBONE, *names], n=3)
    parts = ", ".join([BACKBONE, *(name for name, _ in model.named_children())])
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Available: {parts} and their submodules."
    return RecipeError(f"freeze = {pattern!r} does not match any part of this {type(model).__name__}.", hint=hint)


class Schedule:
    """The learning rate of each update, a function of its number, so that there is no state to store.

    Its values are timm's, to the bit.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, updates_per_epoch: int) -> None:
        self._optimizer = optimizer  # whose groups are others after a checkpoint is read
        self._recipe = recipe
        self._epoch = updates_per_epoch
        self._warmup = recipe.warmup_epochs * updates_per_epoch
        self._highest = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]

    def set(self, update: int) -> float:
        """Sets the learning rate of update number ``update`` (from 0) and returns that of the first group."""
        for group, highest in zip(self._optimizer.param_groups, self._highest, strict=True):
            group["lr"] = self._rate(update, highest) * group.get("lr_scale", 1.0)
        return float(self._optimizer.param_groups[0]["lr"])

    def _rate(self, update: int, highest: float) -> float:
        recipe = self._recipe
        if update < self._warmup:
            return recipe.warmup_lr + update * ((highest - recipe.warmup_lr) / self._warmup)
        match recipe.schedule:
            case "cosine" | "linear":
                done, total = update - self._warmup, (recipe.epochs - recipe.warmup_epochs) * self._epoch
                if done >= total:
                    return recipe.min_lr
                if recipe.schedule == "linear":
                    return recipe.min_lr + (highest - recipe.min_lr) * (1 - done / total)
                return recipe.min_lr + 0.5 * (highest - recipe.min_lr) * (1 + math.cos(math.pi * done / total))
            case "step":
                # A hair less: 1.1 epochs of 50 updates are 55.00000000000001 in floats, and end before update 55.
                falls = update // (recipe.decay_epochs[0] * (1 - 1e-12) * self._epoch)
            case "multistep":
                falls = sum(update >= epoch * self._epoch - 0.5 for epoch in recipe.decay_epochs)
            case "constant":
                return highest
        return float(highest * recipe.decay_rate**falls)


def create_optimizer(
    model: nn.Module, recipe: Recipe, groups: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """Creates the optimizer of ``recipe`` for ``groups``, by default for the trained parameters of ``model``.

    SGD, Adam and AdamW are torch's; all others are timm's.
    """
    groups = groups or _by_decay(model, recipe)
    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, **recipe.optimizer_args}
    try:
        match recipe.optimizer:
            case "sgd":
                is_nesterov = recipe.nesterov and recipe.momentum > 0
                momentum = {"momentum": recipe.momentum, "nesterov": is_nesterov}
                made: torch.optim.Optimizer = torch.optim.SGD(groups, **{"fused": True, **momentum, **settings})
                if recipe.momentum:
                    _start_momentum(made)
            case "adam" | "adamw":
                kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
                made = kind(groups, **{"fused": True, **settings})
            case _:
                made = _of_timm(groups, recipe.optimizer, {"momentum": recipe.momentum, **settings})
    except (ValueError, TypeError) as error:
        raise RecipeError(f"Optimiser {recipe.optimizer!r}: {error}", hint=_similar(recipe.optimizer)) from None
    return made


def _by_decay(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups the trained parameters by whether they decay, as timm does."""
    exempt: Collection[str] = getattr(model, "no_weight_decay", set)()
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[bool(recipe.weight_decay) and _decays(name, parameter, recipe, exempt)].append(parameter)
    return [
        {"params": parameters, "weight_decay": recipe.weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]


def _decays(name: str, parameter: nn.Parameter, recipe: Recipe, exempt: Collection[str]) -> bool:
    is_small = parameter.ndim <= 1 or name.endswith(".bias")
    return (recipe.decay_norm_and_bias or not is_small) and not any(fnmatchcase(name, p) for p in exempt)


def _of_timm(groups: list[dict[str, Any]], name: str, settings: dict[str, Any]) -> torch.optim.Optimizer:
    try:
        from timm.optim import create_optimizer_v2
    except ImportError:
        raise MissingExtraError.of(f"Optimiser {name!r}", "timm", "zoo-vision[train]") from None
    made: torch.optim.Optimizer = create_optimizer_v2(groups, opt=name, **settings)
    return made


def _similar(optimizer: str) -> str:
    """Returns the hint for an optimizer that does not exist, or takes other arguments."""
    try:
        from timm.optim import list_optimizers
    except ImportError:
        return "Without timm there are sgd, adam and adamw."
    near = get_close_matches(optimizer, list_optimizers(), n=3)
    return f"Did you mean {' or '.join(near)}?" if near else "timm.optim.list_optimizers() lists them."


def _start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Initialises momentum with zeros, which is its initial value anyway.

    torch creates it with a parameter's first gradient, and its fused SGD fails if some parameters get theirs later than
    others, as in networks with drop-path.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class _Follower:
    """A copy of ``model`` (``module``, in eval mode) whose parameters and buffers follow its own."""

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        averages, values = self.module.state_dict(), model.state_dict(keep_vars=True)
        pairs = {id(value): (averages[key], value.detach()) for key, value in values.items()}.values()  # tied ones once
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def _follow(self, decay: float) -> None:
        """Sets average <- decay * average + (1 - decay) * model; integer buffers are copied."""
        averages: list[Tensor] = [average for average, _ in self._floating]
        torch._foreach_lerp_(averages, [value for _, value in self._floating], 1 - decay)
        for average, value in self._copied:
            average.copy_(value)


class EMA(_Follower):
    """An exponential moving average: average <- d * average + (1 - d) * model after every update.

    ``d`` rises as (1 + t) / (10 + t) to ``decay``, so that the first weights are soon forgotten.
    ``module`` is the network that holds the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self._decay = decay

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Takes in the weights after update number ``update`` (from 0)."""
        self._follow(min(self._decay, (1 + update) / (10 + update)))


class LookaheadWeights(_Follower):
    """Lookahead: slow weights that follow the network's and replace them regularly.

    Every ``every`` updates slow <- d * slow + (1 - d) * model and model <- slow, where d rises as
    ``decay ** every * (t / updates) ** power``; after the last update model <- slow. Zhang et al.
    2019, arXiv 1907.08610, with d constant; the rising d is Jordan's, arXiv 2404.00498.
    """

    def __init__(self, model: nn.Module, settings: Lookahead, updates: int) -> None:
        super().__init__(model)
        self._settings = settings
        self._updates = updates

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Follows and leads the weights after update number ``update`` (from 0)."""
        settings, done = self._settings, update + 1
        if done % settings.every == 0:
            self._follow(settings.decay**settings.every * (done / self._updates) ** settings.power)
            self._lead()
        if done == self._updates:
            self._lead()

    def _lead(self) -> None:
        for slow, value in self._floating:
            value.copy_(slow)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Returns the running means and variances of ``model``, which its own images move in each process."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    held = [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]
    return [statistic for statistic in held if statistic is not None]


@contextmanager
def sync_batch_norm(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Makes batch normalisation in training use the statistics of the images of all ``processes`` within.

    As torch's SyncBatchNorm, which needs a GPU. All processes must run the same layers. Raises
    :class:`RecipeError` for a batch normalisation with additional computation.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for name, norm in norms.items():
        if type(norm).forward is not _BatchNorm.forward:
            raise RecipeError(
                f"sync_norm: {name} is {type(norm).__name__}, expected standard batch normalisation.",
                hint="Remove sync_norm; then each process uses the statistics of its own images.",
            )
    for norm in norms.values():
        norm.forward = partial(_normalize, norm, processes)  # type: ignore[method-assign]  # taken back below
    try:
        yield
    finally:
        for norm in norms.values():
            del norm.forward


def _normalize(norm: _BatchNorm, processes: Processes, inputs: Tensor) -> Tensor:
    """Normalizes ``inputs`` B C ... by the mean and variance of each channel over all processes."""
    if not norm.training:
        output: Tensor = _BatchNorm.forward(norm, inputs)
        return output
    wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    axes = [0, *range(2, inputs.ndim)]
    shape = [1, -1, *[1] * (inputs.ndim - 2)]
    count = wide.new_tensor([inputs.numel() / inputs.shape[1]])
    sums = _sum(torch.cat([count, wide.sum(axes)]), processes)
    total, mean = sums[0], sums[1:] / sums[0]  # C
    centered = wide - mean.view(shape)
    variance = _sum(centered.square().sum(axes), processes) / total  # C
    _move_statistics(norm, mean.detach(), (variance * total / (total - 1)).detach())
    scale = (variance + norm.eps).rsqrt()
    outputs = centered * (scale if norm.weight is None else scale * norm.weight).view(shape)
    if norm.bias is not None:
        outputs = outputs + norm.bias.view(shape)
    return outputs.to(inputs.dtype)


def _move_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics as ``nn.BatchNorm2d`` does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    factor = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, factor)
    norm.running_var.lerp_(variance, factor)


def _sum(values: Tensor, processes: Processes) -> Tensor:
    total: Callable[..., Tensor] = _Sum.apply
    return total(values, processes)


class _Sum(torch.autograd.Function):
    """The sum over processes: what a value does to the losses of all, its gradient gathers from all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(gradient), None
