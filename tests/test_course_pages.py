"""The course: the same chapters in both languages, exercises as ``zoo course`` asks them, notebooks that run."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from support import samples
from support.loaded import load

import zoo
from zoo import registry
from zoo.cli import cli
from zoo_course.exercises import exercises

COURSE = Path(__file__).parents[1] / "docs" / "course"
notebooks: ModuleType = load(COURSE / "notebooks.py")

CHAPTERS: list[Path] = notebooks.chapters()
IN_A_SECOND = {"04-zfnet", "05-vgg", "08-resnet", "10-fractalnet", "13-targetprop"}
"""Chapters whose notebooks run that fast."""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w+\n.*?^```$", text, re.MULTILINE | re.DOTALL)


def figures(page: Path) -> list[Path]:
    found = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [(page.parent / name).resolve() for name in found]


def commands(text: str) -> set[str]:
    """Returns those in the prose of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {" ".join(found.split()) for found in re.findall(r"`(zoo [^`]+)`", prose)}


def test_there_is_a_chapter_for_every_exercise_in_both_languages() -> None:
    for language in notebooks.LANGUAGES:
        assert [page.stem.partition("-")[2] for page in notebooks.chapters(language)] == [*exercises()]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_both_languages_have_the_same_code_figures_and_commands(page: Path) -> None:
    other = page.parent / "ja" / page.name
    english, japanese = (file.read_text(encoding="utf-8") for file in (page, other))
    assert blocks(english)
    assert blocks(english) == blocks(japanese)
    assert figures(page)
    assert [figure.name for figure in figures(page)] == [figure.name for figure in figures(other)]
    assert commands(english) == commands(japanese)
    assert len(re.findall(r"[ぁ-んァ-ヶ一-龠]", japanese)) > 400


def test_the_course_names_every_experiment_and_no_other() -> None:
    for folder in notebooks.LANGUAGES.values():
        text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in folder.glob("*.md"))
        assert {*re.findall(r"`zoo experiment (\w+)", text)} - {"list"} == {*zoo.experiment.experiments()}


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_asks_the_question_that_the_command_checks(page: Path) -> None:
    name = page.stem.partition("-")[2]
    section = page.read_text(encoding="utf-8").partition("## Exercise")[2]
    assert exercises()[name].question in " ".join(section.replace("`", "").split())
    assert f"```console\n$ zoo course check {name}\n```" in section
    assert commands(section) >= {f"zoo course check {name} ANSWER"}


@pytest.mark.parametrize("page", notebooks.chapters("ja"), ids=lambda page: page.stem)
def test_a_japanese_chapter_asks_the_question_that_the_command_asks_in_japanese(page: Path) -> None:
    section = page.read_text(encoding="utf-8").partition("## 演習")[2].replace("`", "")
    assert exercises()[page.stem.partition("-")[2]].ja.question in section


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_figures_are_small_and_made_by_the_chapter(page: Path) -> None:
    code = "".join(blocks(page.read_text(encoding="utf-8")))
    for figure in figures(page):
        assert figure.name in code
        assert figure.stat().st_size < 100_000


def rows(page: Path, first: str) -> list[list[str]]:
    """Returns the cells of the table whose row begins with ``first``."""
    [table] = [found for found in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.M) if first in found]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.parametrize("folder", notebooks.LANGUAGES.values(), ids=notebooks.LANGUAGES)
def test_the_table_of_alexnet_has_the_sizes_of_the_network_and_of_the_formula(folder: Path) -> None:
    import torch
    from torch import nn

    network = zoo.create("alexnet", device="meta")
    outputs: list[tuple[nn.Module, torch.Size]] = []
    for layer in network.features:
        layer.register_forward_hook(lambda layer, _, output: outputs.append((layer, output.shape)))
    network(torch.empty(1, *zoo.info("alexnet")["preprocess"]["input_size"], device="meta"))
    layers = [(layer, shape) for layer, shape in outputs if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    image, *table = rows(folder / "03-alexnet.md", "227 x 227")[2:]
    size = int(image[-1].split()[0])
    for row, (layer, shape) in zip(table, layers, strict=True):
        kernel, stride, padding = map(int, row[1:4])
        size = (size + 2 * padding - kernel) // stride + 1
        assert row[-1] == f"{size} x {size} x {shape[1]}"
        assert shape[2:] == (size, size)
        first = [value[0] if isinstance(value, tuple) else value for value in (layer.kernel_size, layer.stride)]
        assert first == [kernel, stride]


QUOTED = {
    "03-alexnet": {
        "Krizhevsky et al. 2012, section 6: seven networks, one in validation, the second best": "15.3 18.2 26.2",
    },
    "04-zfnet": {"Zeiler and Fergus 2013, table 2: top-1 of AlexNet and of the changed one": "40.7 38.4"},
    "05-vgg": {"Simonyan and Zisserman 2014, table 3: C, D and E trained at 256 to 512 pixels": "8.8 8.1 8.0"},
    "06-googlenet": {
        "Szegedy et al. 2014, table 3 and section 8: one network on 144 crops (7.89), seven, and VGG": "7.9 6.67 7.32",
        "Simonyan and Zisserman 2014, table 5: D, dense and many crops": "7.2",
        "Szegedy et al. 2014, section 5: the weight of the auxiliary losses": "0.3",
    },
    "08-resnet": {"He et al. 2015, table 5: six networks on test images": "3.57"},
    "11-ror": {"Zhang et al. 2016: RoR-3-164 with stochastic depth": "4.86"},
    "13-targetprop": {"Lee et al. 2014, table 1: by target propagation, by backpropagation": "98.06 98.14"},
    "15-fooling": {"Goodfellow et al. 2014, figure 1: epsilon, and the gibbon's confidence in per cent": "0.007 99.3"},
}
"""Figures of papers by the chapter that quotes them."""


@pytest.mark.parametrize("folder", notebooks.LANGUAGES.values(), ids=notebooks.LANGUAGES)
def test_chapters_quote_the_figures_of_the_papers(folder: Path) -> None:
    for chapter, quotes in QUOTED.items():
        text = (folder / f"{chapter}.md").read_text(encoding="utf-8")
        numbers = re.findall(r"\d+(?:\.\d+)?", text)
        for source, figures in quotes.items():
            assert {*figures.split()} <= {*numbers}, (chapter, source)


@pytest.mark.parametrize(
    ("name", "figures"),
    {
        "alexnet": "1.4 0.4 1",  # sections 3.3, 3.4 and 4.1
        "zfnet": "1.7",  # table 2: 18.2 to 16.5
        "vgg": "7 19",  # section 4.1
        "degradation": "56 20",  # as the lecture has it; figure 6
        "stochastic_depth": "110 1.2 500",  # table 1: 6.41 to 5.23
        "ror": "164 5.04 5.02 4.67 4.51",  # table V
        "lineage": "15.3 6.67 3.57",  # the three challenges
        "targetprop": "98.06 98.14",  # table 1
    }.items(),
)
def test_experiments_quote_the_figures_of_the_papers(name: str, figures: str) -> None:
    about = zoo.experiment.experiment(name)
    said = f"{about.lecture} {about.paper}"
    assert {*figures.split()} <= {*re.findall(r"\d+(?:\.\d+)?", said)}


def test_ratios_that_chapters_quote_are_those_of_the_networks() -> None:
    """A twentieth (chapter 6), a third fewer (chapter 9), and fewer multiply-adds than VGG-16 (chapter 8)."""
    about = {name: zoo.info(name) for name in ("vgg16", "googlenet", "resnet152")}
    assert about["vgg16"]["params"] / about["googlenet"]["params"] == pytest.approx(20, rel=0.05)
    assert about["resnet152"]["macs"] < about["vgg16"]["macs"]
    small = [zoo.info(name)["params"] for name in ("densenet_bc_40_12", "resnet20")]
    assert small[0] / small[1] == pytest.approx(2 / 3, rel=0.05)


@pytest.mark.parametrize("folder", notebooks.LANGUAGES.values(), ids=notebooks.LANGUAGES)
def test_the_table_of_vgg_has_the_layers_and_parameters_of_the_networks(folder: Path) -> None:
    from torch import nn

    table = [row[1:] for row in rows(folder / "05-vgg.md", "A-LRN")]
    _, _, names, depths, *blocks, millions, errors = table
    assert [*map(float, errors)] == [10.4, 10.5, 9.9, 9.4, 8.8, 9.0]  # the paper's table 3, S = Q = 256
    for column, name in enumerate(names):
        network = zoo.create(name.strip("`"), device="meta")
        kernels = [str(layer.kernel_size[0]) for layer in network.features if isinstance(layer, nn.Conv2d)]
        assert kernels == " ".join(block[column].replace(", LRN", "") for block in blocks).split(), name
        assert int(depths[column]) == len(kernels) + 3
        assert int(millions[column]) == round(zoo.info(name.strip("`"))["params"] / 1e6)


@pytest.mark.parametrize("folder", notebooks.LANGUAGES.values(), ids=notebooks.LANGUAGES)
def test_the_table_of_resnet_has_the_blocks_and_parameters_of_the_networks(folder: Path) -> None:
    names, _, _, *blocks, _, millions, billions = [row[1:] for row in rows(folder / "08-resnet.md", "56 x 56")]
    for column, name in enumerate(text.strip("`") for text in names):
        network = zoo.create(name, device="meta")
        assert [int(row[column]) for row in blocks] == [
            len(getattr(network, f"layer{group}")) for group in (1, 2, 3, 4)
        ]
        assert float(millions[column]) == round(zoo.info(name)["params"] / 1e6, 1)
        assert float(billions[column]) == pytest.approx(zoo.info(name)["macs"] / 1e9, abs=0.35)  # v1.5


def test_the_notebooks_are_up_to_date() -> None:
    written = {*(COURSE / "notebooks").rglob("*.ipynb")}
    expected = {
        notebooks.place(page, language): notebooks.notebook(page, language)
        for language in notebooks.LANGUAGES
        for page in notebooks.chapters(language)
    }
    assert written == expected.keys()
    for file, text in expected.items():
        assert file.read_text(encoding="utf-8") == text, "run make generate"


CLAIMS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "02-features": lambda names: len(names["numbers"]) == 15 * 15 * 4 * 9,  # blocks, cells, directions
    "06-googlenet": lambda names: max(names["sizes"]) < 2,  # with reductions, which come last
    "07-normalisation": lambda names: names["losses"][0] > 2.2 and names["losses"][-1] < 0.2,
    "08-resnet": lambda names: names["errors"] == sorted(names["errors"], reverse=True),  # of residual networks
    "09-densenet": lambda names: max(layer.in_channels for layer in names["layers"]) == 120,
    "11-ror": lambda names: all(layer.weight.grad.norm() < 10 for layer in names["layers"]),
}
"""What chapters say about their figures, in terms of the values that their code leaves behind."""


def run(line: str) -> None:
    words = shlex.split(line.removeprefix("!"))
    assert words[0] == "zoo"
    registry.clear()
    done = CliRunner().invoke(cli, words[1:], prog_name="zoo")
    assert done.exit_code == 0, f"{line}\n{done.output}"


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[] if page.stem in IN_A_SECOND else [pytest.mark.slow])
        for page in CHAPTERS
    ],
)
def test_a_notebook_runs_from_its_first_cell_to_its_last(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DATA", str(samples.write(tmp_path / "sample")))
    monkeypatch.chdir(tmp_path)
    document = json.loads(notebooks.place(page, "en").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert "%pip install" in code[0]
    names: dict[str, Any] = {}
    for text in code[1:]:
        if text.startswith("!"):
            for line in text.splitlines():
                run(line)
        else:
            exec(compile(text, page.name, "exec"), names)
    assert page.stem not in CLAIMS or CLAIMS[page.stem](names)


@pytest.mark.parametrize("folder", notebooks.LANGUAGES.values(), ids=notebooks.LANGUAGES)
def test_the_teachers_page_plans_every_chapter(folder: Path) -> None:
    text = (folder / "teaching.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[\d+\]\((\d\d-\w+)\.md\) \|[^|]*\| (\d+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == [page.stem for page in CHAPTERS]
    assert re.search(rf"(?<!\d){sum(int(minutes) for _, minutes in rows)}(?: minutes|分)", text)


def test_the_other_pages_have_the_same_code_in_both_languages() -> None:
    for name in ("index.md", "teaching.md"):
        english, japanese = ((folder / name).read_text(encoding="utf-8") for folder in notebooks.LANGUAGES.values())
        assert blocks(english) == blocks(japanese)
        assert commands(english) == commands(japanese)
