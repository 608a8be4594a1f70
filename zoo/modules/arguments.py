"""Checks of the arguments of build functions."""

from collections.abc import Iterable

from zoo.errors import SpecError


def check_choice(argument: str, value: object, choices: Iterable[object]) -> None:
    """Checks that a build function's ``argument`` is one of its ``choices``.

    Raises:
        SpecError: It is not; the message lists the choices.
    """
    allowed = tuple(choices)
    if value not in allowed:
        raise SpecError(f"{argument} = {value!r} is not one of {', '.join(map(repr, allowed))}.")


def check_positive(**arguments: float) -> None:
    """Checks that each of a build function's ``arguments`` is at least 1.

    Raises:
        SpecError: One of them is not.
    """
    for name, value in arguments.items():
        if not value >= 1:
            raise SpecError(f"{name} = {value!r} must be at least 1.")


def count_units(depth: int, *, layers: int, others: int, hint: str = "") -> int:
    """Counts the units of a network of ``depth`` layers.

    Args:
        depth: Layers in all.
        layers: Layers that one more unit adds.
        others: Layers outside the units.
        hint: What the error suggests.

    Returns:
        n in ``depth`` = ``layers`` n + ``others``, at least 1.

    Raises:
        SpecError: There is no such n.
    """
    units, rest = divmod(depth - others, layers)
    if units < 1 or rest:
        examples = ", ".join(str(layers * n + others) for n in (1, 2, 3))
        raise SpecError(f"depth = {depth!r} is not {layers}n + {others}: {examples}, ...", hint=hint)
    return units
