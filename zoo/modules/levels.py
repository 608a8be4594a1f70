"""How far each parameter is from the input: for learning rates that fall from the head down."""

from collections.abc import Sequence

from torch import nn


def parameter_levels(
    model: nn.Module, stages: Sequence[str], *, stem: Sequence[str], head: Sequence[str], by_block: bool = False
) -> dict[str, tuple[int, int]]:
    """Where each parameter lies: (stage, block), both counted from the input on.

    Args:
        model: The network.
        stages: Names of its stages, in order.
        stem: Names of submodules in front of them.
        head: Names of submodules behind them.
        by_block: Whether the parts of a stage count; otherwise its block is 0.

    Returns:
        By name, (0, 0) for the stem and the highest stage for the head. Parameters outside of all stages belong to the
        stage that is registered after them.
    """
    places: dict[str, tuple[int, int]] = {}
    following = 0
    for owner, module in model.named_modules():
        stage = next((index for index, name in enumerate(stages) if lies_in(owner, name)), None)
        following = following if stage is None else max(following, stage + 1)
        for name, _ in module.named_parameters(prefix=owner, recurse=False):
            if any(lies_in(owner, part) for part in head):
                places[name] = len(stages) + 1, 0
            elif stage is not None:
                places[name] = stage, _block(model, stages[stage], owner) if by_block else 0
            else:
                places[name] = 0 if any(lies_in(owner, part) for part in stem) else following, 0
    used = sorted({stage for stage, _ in places.values()})
    return {name: (used.index(stage), block) for name, (stage, block) in places.items()}


def lies_in(name: str, module: str) -> bool:
    """Whether ``name`` is that of ``module`` or of something in it."""
    return name == module or name.startswith(f"{module}.")


def _block(model: nn.Module, stage: str, owner: str) -> int:
    """The number of the part of ``stage`` that ``owner`` lies in; 0 for a stage without parts."""
    module = model.get_submodule(stage)
    if owner == stage or not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return 0
    names = [name for name, _ in module.named_children()]
    return names.index(owner.removeprefix(f"{stage}.").partition(".")[0])
