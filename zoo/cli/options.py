"""Options that several commands share, what checks them, and what completes them in a shell."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from zoo import registry
from zoo.cli.output import echo, print_json
from zoo.errors import UnknownNameError, WeightsError
from zoo.registry.listing import list_models

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgb]?)", re.IGNORECASE)
_RESERVED = {"name", "pretrained", "weights", "device", "dtype", "num_classes", "in_chans"}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of models; names of weights after a dot; a collection's models after its slash."""
    plugin, slash, _ = incomplete.partition("/")
    pattern = f"{plugin}/*" if slash else "*"
    known = list_models(pattern, pretrained="." in incomplete)
    known += [f"{row.name}/" for row in registry.current().collections if not slash]
    return [name for name in known if name.startswith(incomplete)]


def complete_family(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [row.name for row in registry.current().plugins if row.name.startswith(incomplete)]


def check_family(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Returns the name of a plugin; raises :class:`UnknownNameError` for any other."""
    known = [row.name for row in registry.current().plugins] if value else []
    if value and value not in known:
        raise UnknownNameError.of("family", value, known, hint=f"Families: {', '.join(known) or 'none'}.")
    return value


def check_amount(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Reads a whole number, ``25M`` for 25,000,000."""
    if value is None:
        return None
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a number such as 300000, 300k or 25M.")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def check_device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Returns a device that torch has here; by default a GPU if there is one."""
    from zoo.system.distributed import ALONE

    return str(ALONE.device(None)) if value is None else check_given_device(context, parameter, value)


def check_given_device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Returns a device that torch has here, if one is given."""
    if value is None:
        return None
    import torch

    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise click.BadParameter(f"{value!r} cannot be used: {str(error).partition(chr(10))[0]}") from None
    return value


def check_one(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Returns the value of an option that is given once: click takes the last of several without a word."""
    if len(values) > 1:
        raise click.BadParameter(f"got {len(values)} of them, expected one.")
    return values[0] if values else None


def check_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Reads ``key=value`` pairs; the command checks the keys."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals):
            example = "column=3" if parameter.name == "args" else "lr=0.05 or augment.flip=true"
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, such as {example}.")
        pairs[key.strip()] = value.strip()
    return pairs


def check_epochs(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Reads numbers of epochs: ``0,1,2,5``."""
    numbers = [text.strip() for text in value.split(",") if text.strip()]
    if not all(text.isdigit() for text in numbers):
        raise click.BadParameter(f"{value!r} are not numbers of epochs, such as 0,1,2,5.")
    return tuple(sorted({int(text) for text in numbers}))


def read_args(pairs: dict[str, str]) -> dict[str, Any]:
    """Arguments of a build function, their values read as TOML; a bare word is a string."""
    from zoo.system.toml import read_value

    for key in _RESERVED & pairs.keys():
        raise click.BadParameter(f"{key} is set by other options.", param_hint="'--arg'")

    return {key: read_value(value) for key, value in pairs.items()}


class Named(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click
    """One of Zoo's own names, or that of an extension that a plugin brings: those in this field of its row."""

    name = "name"

    def __init__(self, field: str, core: Sequence[str]) -> None:
        self.field, self.core = field, core

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        from zoo.registry import extensions

        if value not in self.core:
            extensions.require(self.field, value, self.core)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self._known())}]" if self._known() else "NAME"

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in self._known() if name.startswith(incomplete)]

    def _known(self) -> list[str]:
        from zoo.registry import extensions

        return extensions.names_in(self.field, self.core)


Option = Callable[[Any], Any]
"""A decorator of a command."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_PATH = click.Path(path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)

_DATA = "Name or path of a data set."
_DEVICE = "Torch device, such as cpu or cuda:1.  [default: "
_HERE = f"{_DEVICE}a GPU if there is one, else the CPU]"


def pairs(*names: str, help: str) -> Option:
    return click.option(*names, multiple=True, metavar="KEY=VALUE", callback=check_pairs, help=help)


def choice(*names: str, values: Sequence[str], help: str) -> Option:
    """Returns the option that takes one of ``values``, by default the first."""
    return click.option(*names, type=click.Choice(values), default=values[0], show_default=True, help=help)


def keep_network(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Returns the file to write; raises an error for one that holds a network, which the command would replace."""
    if value is not None and value.is_file():
        from zoo.loading import safetensors_file

        with suppress(WeightsError):
            if "num_classes" in (about := safetensors_file.metadata(value)):
                raise click.BadParameter(f"{value} holds a network of {about.get('model')}: choose another file.")
    return value


def output(help: str, kind: click.Path = NEW_FILE, required: bool = True, suffix: str = "") -> Option:
    """Returns the option ``-o``; a file without ``suffix`` is an error before the work begins."""

    def check(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and not value.name.endswith(suffix):
            raise click.BadParameter(f"{value}: the output must be a {suffix} file. Use -o {value}{suffix}.")
        return value if suffix != ".safetensors" else keep_network(context, parameter, value)

    metavar = "FILE" if kind.file_okay else "DIR"
    return click.option("-o", "--output", type=kind, required=required, metavar=metavar, callback=check, help=help)


def batch_size(default: int) -> Option:
    return click.option("--batch-size", default=default, show_default=True, type=POSITIVE, help="Images per batch.")


def moved(*commands: str) -> Option:
    """Returns the option ``--all`` of former versions, which says what took its place: ``commands``."""

    def refuse(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            raise click.UsageError(f"--all is now a command: {' or '.join(commands)}.")

    return click.option(
        "--all", is_flag=True, hidden=True, expose_value=False, callback=refuse, help="Is a command now."
    )


def is_pattern(text: str) -> bool:
    """Returns whether ``text`` is a pattern of names, and no path."""
    return bool(set("*?[") & set(text)) and not Path(text).exists()


def expand(names: Iterable[str], *, pretrained: bool = True) -> list[str]:
    """Returns ``names`` with the weights that a pattern matches in its place, or the models unless ``pretrained``.

    Raises :class:`UnknownNameError` for a pattern that matches nothing.
    """
    expanded: list[str] = []
    for name in names:
        matching = list_models(name, pretrained=pretrained) if is_pattern(name) else [name]
        if not matching:
            kind, more = ("weights", " --pretrained") if pretrained else ("models", "")
            raise UnknownNameError(f"No {kind} match {name!r}.", hint=f"zoo list PATTERN{more} shows names.")
        expanded += matching
    return list(dict.fromkeys(expanded))


def refuse_pattern(context: click.Context, parameter: click.Parameter, value: Any, *, bulk: str = "") -> Any:
    """Returns the name or names as they are; raises :class:`click.UsageError` for a pattern.

    ``bulk`` is the command of ``zoo bulk`` that takes patterns.
    """
    for name in [value] if isinstance(value, str) else value or ():
        if is_pattern(name):
            what = "one name" if parameter.nargs == 1 else "names"
            shown = f"zoo bulk {bulk} takes patterns." if bulk else f"zoo list {name!r} shows what it matches."
            raise click.UsageError(f"{name!r} is a pattern; this command takes {what}. {shown}", context)
    return value


def one_name(*, bulk: str = "") -> Option:
    """Returns the argument NAME, which refuses patterns; ``zoo bulk`` takes them for the command ``bulk``."""
    return click.argument("name", shell_complete=complete_name, callback=partial(refuse_pattern, bulk=bulk))


def several_names(*, required: bool = True, pretrained: bool = True) -> Option:
    """Returns the argument NAME..., which takes patterns of weights too, or of models unless ``pretrained``."""
    metavar = "NAME..." if required else "[NAME]..."

    def callback(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(expand(value, pretrained=pretrained))

    return click.argument(
        "names", nargs=-1, required=required, metavar=metavar, shell_complete=complete_name, callback=callback
    )


name: Option = one_name()
names: Option = several_names()
weights: Option = click.option(
    "--weights", type=click.Path(exists=True, path_type=Path), metavar="FILE|RUN",
    help="Load this file, or that of a run, not NAME's weights.",
)  # fmt: skip
args: Option = pairs("--arg", "args", help="Set an argument of the model. Repeatable.")
data: Option = click.option(
    "--data", multiple=True, callback=check_one, help=f"{_DATA}  [default: the one the weights were trained on]"
)
data_sets: Option = click.option(
    "--data", multiple=True, help=f"{_DATA} Repeatable.  [default: the one the weights were trained on]"
)
required_data: Option = click.option("--data", multiple=True, required=True, callback=check_one, help=_DATA)
split: Option = click.option("--split", default="test", show_default=True, help="Split of the data set.")
target: Option = click.option("--target", metavar="CLASS", help="Class, by number or name.")
seed: Option = click.option("--seed", default=0, show_default=True, help="Seed of the random numbers.")
device: Option = click.option("--device", callback=check_device, help=_HERE)
training_device: Option = click.option("--device", callback=check_given_device, help=_HERE)
recorded_device: Option = click.option(
    "--device", callback=check_given_device, help=f"{_DEVICE}the record's, if this machine has it]"
)
checkpoint_every: Option = click.option(
    "--checkpoint-every", default=0, type=click.IntRange(min=0), metavar="STEPS",
    help="Also write a checkpoint every STEPS steps.",
)  # fmt: skip
keep_epochs: Option = click.option(
    "--keep-epochs", "keep_epochs", metavar="N,N,N", callback=check_epochs, default="",
    help="Keep the network after these epochs in DIR/epochs.",
)  # fmt: skip
limit: Option = click.option("--limit", type=POSITIVE, metavar="N", help="Use N evenly spaced images.  [default: all]")
threads: Option = click.option(
    "--threads", type=POSITIVE, help="Threads per job.  [default: the cores divided among the jobs]"
)
json: Option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def several(*chosen: Option) -> Option:
    """Returns several options as one decorator, in the order that help shows them."""

    def decorate(command: Any) -> Any:
        for option in reversed(chosen):
            command = option(command)
        return command

    return decorate


@click.command(epilog="Example: zoo completion bash")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the completion script of a shell.

    bash: eval "$(zoo completion bash)" in ~/.bashrc; zsh likewise in ~/.zshrc;
    fish: zoo completion fish > ~/.config/fish/completions/zoo.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "zoo", "_ZOO_COMPLETE").source()
    if as_json:
        return print_json({"shell": shell, "script": script})
    return echo(script)
