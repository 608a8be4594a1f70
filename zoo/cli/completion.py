"""``zoo completion``: the script with which a shell completes commands, options and names."""

import click
from click.shell_completion import get_completion_class

from zoo.cli import options
from zoo.cli.output import echo, print_json


@click.command(epilog="Example: zoo completion bash")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@options.json
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
