"""``zoo WORDS``, in this process."""

import json
from typing import Any

from click.testing import CliRunner, Result

from zoo import registry
from zoo.cli import cli


def ask(*words: object) -> Result:
    """Returns the result of ``zoo WORDS``; plugins are looked for anew, as in a fresh process."""
    registry.clear()
    return ask_warm(*words)


def ask_warm(*words: object) -> Result:
    """Returns the result of ``zoo WORDS`` with the registry of this process, as it is."""
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")


def told(*words: object) -> Any:
    """Returns what ``zoo WORDS --json`` prints; fails unless the command succeeds."""
    done = ask_warm(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def printed(*words: object) -> str:
    """Returns what ``zoo WORDS`` prints; fails unless the command succeeds."""
    done = ask_warm(*words)
    assert done.exit_code == 0, done.stderr
    return done.stdout
