"""``zoo WORDS``, in this process."""

import json
from typing import Any

from click.testing import CliRunner, Result

from zoo import registry
from zoo.cli import cli


def ask(*words: object) -> Result:
    """Runs ``zoo WORDS`` with the registry of this process."""
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


def ask_anew(*words: object) -> Result:
    """Runs ``zoo WORDS`` with a registry that is read again, as a new process has it."""
    registry.clear()
    return ask(*words)


def told(*words: object) -> Any:
    """Returns what ``zoo WORDS --json`` prints; fails unless the command succeeds."""
    done = ask(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)
