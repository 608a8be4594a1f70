"""Options that several commands share, what completes them in a shell, and what checks them."""

import re
from collections.abc import Callable
from typing import Any

import click

from zoo import registry
from zoo.errors import UnknownNameError
from zoo.registry.listing import list_models

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgb]?)", re.IGNORECASE)
_DECIDED = {"name", "pretrained", "weights", "device", "dtype", "num_classes", "in_chans"}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of models; of weights once a dot is typed; of a collection's once its slash is."""
    plugin, slash, _ = incomplete.partition("/")
    pattern = f"{plugin}/*" if slash else "*"
    known = list_models(pattern, pretrained="." in incomplete)
    known += [f"{row.name}/" for row in registry.current().collections if not slash]
    return [name for name in known if name.startswith(incomplete)]


def complete_family(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [row.name for row in registry.current().plugins if row.name.startswith(incomplete)]


def check_family(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A plugin's name; raises :class:`UnknownNameError` for any other."""
    known = [row.name for row in registry.current().plugins] if value else []
    if value and value not in known:
        raise UnknownNameError.of("family", value, known, hint=f"There are {', '.join(known) or 'none'}.")
    return value


def check_amount(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A whole number, ``25M`` for 25,000,000."""
    if value is None:
        return None
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a number such as 300000, 300k or 25M.")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def check_device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A device that torch has here; by default what every command takes, a GPU if there is one."""
    from zoo.system.distributed import ALONE

    return str(ALONE.device(None)) if value is None else check_given_device(context, parameter, value)


def check_given_device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A device that torch has here, if one is given."""
    if value is None:
        return None
    import torch

    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise click.BadParameter(f"{value!r} cannot be used: {str(error).partition(chr(10))[0]}") from None
    return value


def check_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` pairs; who takes them says which keys there are."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals):
            example = "column=3" if parameter.name == "args" else "lr=0.05 or augment.flip=true"
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, such as {example}.")
        pairs[key.strip()] = value.strip()
    return pairs


def read_args(pairs: dict[str, str]) -> dict[str, Any]:
    """Arguments of a build function, their values read as TOML; a bare word is a string."""
    from zoo.training.choice import read_value

    for key in _DECIDED & pairs.keys():
        raise click.BadParameter(f"{key} is decided by the rest of the command line.", param_hint="'--arg'")

    return {key: read_value(value) for key, value in pairs.items()}


json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_DEVICES = "cpu, cuda, cuda:1, mps, ...  [default: "
_HERE = f"{_DEVICES}a GPU if there is one, else cpu]"
_RECORDED = f"{_DEVICES}that of the record, if it is here]"
device_option: Callable[[Any], Any] = click.option("--device", callback=check_device, help=_HERE)
training_device_option: Callable[[Any], Any] = click.option("--device", callback=check_given_device, help=_HERE)
recorded_device_option: Callable[[Any], Any] = click.option("--device", callback=check_given_device, help=_RECORDED)
args_option: Callable[[Any], Any] = click.option(
    "--arg", "args", multiple=True, metavar="KEY=VALUE", callback=check_pairs, help="Change how the model is built."
)
