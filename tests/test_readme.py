"""What README.md says is so."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from zoo import registry
from zoo.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINEAGE = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_tables_are_those_of_the_registry(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", ",".join(row.name for row in registry.load().plugins if row.is_builtin))
    registry.clear()
    for page in tables.PAGES:
        assert tables.render(page) == page.read_text(encoding="utf-8"), "run python docs/tables.py"


@pytest.mark.parametrize(
    ("weights", "parameters"), [("hog_svm.c10", "3,250"), ("hmax.caltech101", "408,102"), ("resnet20.c10", "269,722")]
)
def test_the_lineage_counts_the_parameters_of_the_weights_themselves(weights: str, parameters: str) -> None:
    """HOG's 324 values and a bias for ten classes; HMAX's 4,000 prototypes' and one for 102: not the rows' defaults."""
    [line] = [line for line in LINEAGE.splitlines() if f"| `{weights}` |" in line]
    assert f"| {parameters} |" in line


def test_caltech_101_is_scored_as_its_literature_does_and_says_so() -> None:
    """Serre et al. 2007 and all others give the mean over classes; per image, large classes count more."""
    rows = [line for line in (README + LINEAGE).splitlines() if "caltech101:15:0" in line and "%" in line]
    assert len(rows) > 8
    assert all("(mean of classes)" in row for row in rows)


def test_every_command_of_the_table_exists_and_none_is_left_out() -> None:
    shown = set(re.findall(r"^\| `zoo ([\w-]+)", README, re.MULTILINE))
    assert shown == set(cli.homes)


def test_its_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


COMMAND = re.compile(r"`(zoo [^`]+)`|^\$ (?:ZOO_[A-Z]+=\S+ )*(zoo (?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
PLACEHOLDERS = re.compile(r"\b[A-Z][A-Z_]+\b|\.\.\.|\\\||[]\[]")


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command in the docs that names real things."""
    found = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for inline, line in COMMAND.findall(page.read_text(encoding="utf-8")):
            text = inline or line
            if not PLACEHOLDERS.search(text):
                found.append((page.name, shlex.split(text.replace("\\\n", " "), comments=True)))
    return found


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)[:80]
)
def test_every_command_of_the_docs_is_one_that_the_program_takes(
    page: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options, their values and the names in it are known; those that only ask are run."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _context: Path(value))
    command: click.Command = cli
    rest, names = [word for word in words[1:] if word != "--debug"], ["zoo"]
    with click.Context(cli) as context:
        while isinstance(command, click.Group) and rest:
            name, inner, rest = command.resolve_command(context, rest)
            assert inner is not None
            command, names = inner, [*names, str(name)]
        if isinstance(command, click.Group):
            return
        try:
            asked = command.make_context(" ".join(names), [*rest], parent=context)
        except click.MissingParameter:  # what a sentence leaves out, a session must not
            asked = None
    for parameter in ("name", "names", "model") if asked else ():
        value = asked.params.get(parameter) or ()
        for model in (value,) if isinstance(value, str) else value:
            if not set(model) & set("*?/") and model not in ("hello", "hello_net", "resnet20.mine"):
                registry.load().find(str(model).removesuffix(".akamaster_c10"))
    if asked and words[1] in ("info", "list", "recipes", "plugins") and "hello" not in words:
        done = CliRunner().invoke(cli, words[1:], prog_name="zoo")
        assert done.exit_code == 0, done.output


def test_the_python_session_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that need no CIFAR-10 weights to be right; the picture is the one that the repository ships."""
    from PIL import Image

    code = re.search(r"```python\nimport zoo\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {"picture": Image.open(ROOT / "examples" / "digit.png")}
    exec(f"import zoo\n{code[1]}", names)
    assert names["logits"].argmax() == 3, "the picture shows a 3"
