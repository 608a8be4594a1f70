"""Commands of plugins that take over another where an option is given: ``zoo train --sweep``."""

import sys
from pathlib import Path

import pytest
from support import distributions
from support.command import ask_warm as ask

from zoo.errors import SpecError
from zoo.spec import Plugin

SWEEP = '''
import click

@click.command()
@click.option("--sweep", required=True)
@click.option("--points", default=3)
@click.option("--json", "as_json", is_flag=True)
def sweep(sweep, points, as_json):
    """Train many."""
    click.echo(f"{sweep} {points}")
'''


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a distribution that brings ``zoo train --sweep``, and claims ``zoo train --data``."""
    text = distributions.plugin("many", commands='{"train --sweep": "many_cli:sweep", "train --data": "absent:absent"}')
    files = {"many.py": text, "many_cli.py": SWEEP}
    distributions.install(tmp_path, "zoo-many", {"many": "many:plugin"}, files)
    monkeypatch.syspath_prepend(str(tmp_path))
    distributions.forget(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [("--sweep", "lr"), ("--sweep=lr",), ("--points", "3", "--sweep", "lr")])
def test_the_option_calls_the_plugins_command(words: tuple[str, ...]) -> None:
    assert ask("train", *words).stdout == "lr 3\n"


def test_the_help_of_the_command_points_to_it_and_imports_nothing_of_it() -> None:
    done = ask("train", "--help")
    assert "zoo train --sweep --help" in " ".join(done.stdout.split())
    assert "many_cli" not in sys.modules
    assert "Train many." in ask("train", "--sweep", "--help").stdout


def test_an_option_of_the_command_itself_stays_its_own() -> None:
    done = ask("train", "--data", "digits", "--no-such-option")
    assert (done.exit_code, "No such option '--no-such-option'" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "--points", "3"), "--points needs --sweep."),
        (("train", "--sweep", "lr", "--recipe", "fast"), "--recipe and --sweep exclude each other."),
        (("train", "--swep", "lr"), "--sweep"),
    ],
)
def test_options_of_the_one_beside_the_other_are_refused(words: tuple[str, ...], said: str) -> None:
    done = ask(*words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_two_that_contest_an_option_are_each_reached_by_the_plugins_name(site: Path) -> None:
    text = distributions.plugin("rival", commands='{"train --sweep": "many_cli:sweep"}')
    distributions.install(site, "zoo-rival", {"rival": "rival:plugin"}, {"rival.py": text})
    distributions.forget(site)
    done = ask("train", "--sweep", "lr")
    assert "Several plugins have the command 'train --sweep'" in done.stderr
    assert "zoo rival/train --sweep" in done.stderr
    assert ask("rival/train", "--sweep", "lr").stdout == "lr 3\n"


def test_such_a_command_is_no_line_of_the_list() -> None:
    assert "--sweep" not in ask("--help").stdout


@pytest.mark.parametrize("name", ["train --Sweep", "train sweep", "train -s", "train --a --b", "--sweep"])
def test_a_name_has_one_long_option_at_most(name: str) -> None:
    with pytest.raises(SpecError, match="must have lower case letters"):
        Plugin("mine", api=1, commands={name: "package:command"})
