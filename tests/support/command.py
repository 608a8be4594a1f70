"""The command ``zoo``, called in this process."""

from click.testing import CliRunner, Result

from zoo import registry
from zoo.cli import cli


def ask(*words: object) -> Result:
    """Returns the result of ``zoo`` with ``words``; plugins are looked for anew, as in a fresh process."""
    registry.clear()
    return CliRunner().invoke(cli, [str(word) for word in words], prog_name="zoo")
