"""README.md and the pages of docs are true: generated tables, commands, links."""

import json
import re
from pathlib import Path

import pytest
from support.loaded import load

from zoo import registry
from zoo.cli import cli

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
LINEAGE = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("only_built_in")
def test_its_tables_are_those_of_the_registry() -> None:
    tables = load(ROOT / "docs" / "tables.py")
    for page in tables.PAGES:
        assert tables.render(page) == page.read_text(encoding="utf-8"), "run make generate"


@pytest.mark.usefixtures("only_built_in")
def test_the_map_of_tests_is_up_to_date() -> None:
    tests = load(ROOT / "tests" / "support" / "map.py")
    assert tests.PAGE.read_text(encoding="utf-8") == tests.render(), "run make generate"


@pytest.mark.parametrize(
    ("weights", "parameters"), [("hog_svm.c10", "3,250"), ("hmax.caltech101", "408,102"), ("resnet20.c10", "269,722")]
)
def test_the_lineage_counts_the_parameters_of_the_weights_themselves(weights: str, parameters: str) -> None:
    """HOG's 324 values and a bias for ten classes; HMAX's 4,000 prototypes' and one for 102: not the rows' defaults."""
    [line] = [line for line in LINEAGE.splitlines() if f"| `{weights}` |" in line]
    assert f"| {parameters} |" in line


def test_caltech_101_is_scored_as_its_literature_does_and_says_so() -> None:
    """Serre et al. 2007 and all others give the mean over classes; per image, large classes count more."""
    rows = [line for line in (MODELS + LINEAGE).splitlines() if "caltech101:15:0" in line and "%" in line]
    assert len(rows) > 8
    assert all("(mean of classes)" in row for row in rows)


@pytest.mark.parametrize(
    ("weights", "figure", "difference"),
    [
        # Lee et al. 2014: 50,000 digits, ten runs
        ("dtp_mlp.mnist_50k", "98.06 (", ""),
        ("dtp_mlp.mnist_backprop", "98.14 (", ""),
        # He et al. 2015, section 4.2: 64,000 updates of 128 images
        ("resnet56.c10", "93.03 (", "164 epochs; ours 30 epochs"),
        # Zhou et al. 2017, the authors' demonstration
        (
            "orn8_align.mnist_rot",
            "98.58 (",
            "50,000 training images, 200 epochs, selected on 10,000 held-out images, images drawn anew in every epoch; "
            "ours 60,000 training images, 12 epochs, the last epoch, images drawn once",
        ),
        # Jordan 2024: 1,000 runs of 9.9 epochs; its six views are ours, too
        ("airbench94.c10", "94.01 (", "9.9 epochs, 1,000 runs; ours ten epochs, one run"),
        # Coates, Lee and Ng 2011, their program; quoted
        ("kmeans_svm.c10", r"77.9\* (", "SVMs by 1,000 iterations; ours SVMs by at most 200 iterations"),
    ],
)
@pytest.mark.parametrize("page", [MODELS, LINEAGE], ids=["models", "lineage"])
def test_a_published_figure_stands_beside_ours_with_what_differs(
    page: str, weights: str, figure: str, difference: str
) -> None:
    [line] = [line for line in page.splitlines() if f"| `{weights}` |" in line]
    cells = [cell.strip() for cell in line.split("|")]
    [published] = [cell for cell in cells if cell.startswith(figure)]
    assert cells[cells.index(published) + 1] == difference


def test_a_score_of_several_views_says_so() -> None:
    """Jordan 2024: two mirrored copies of three places."""
    for page in (MODELS, LINEAGE):
        [line] = [line for line in page.splitlines() if "| `airbench94.c10` |" in line]
        assert "94.09% (six views)" in line


def test_exported_weights_score_as_their_manifests_claim() -> None:
    """As measured by docs/export.py, for the weights that ship now."""
    measured = json.loads((ROOT / "docs" / "export.json").read_text(encoding="utf-8"))
    listed = {weights.name: weights for model in registry.current().models() for weights in model.weights}
    assert len(measured["float32"]) > 5
    for precision, allowed in (("float32", 0.0005), ("int8", 0.02)):
        for name, found in measured.get(precision, {}).items():
            assert found["sha256"] == listed[name].sha256, f"{name}: run make generate"
            if "error" not in found:
                claim = listed[name].scores[found["data"]]
                assert claim.correct is not None
                assert found["n"] == claim.n
                assert abs(found["correct"] - claim.correct) <= allowed * claim.n, name


def test_the_command_line_page_lists_every_command() -> None:
    shown = set(re.findall(r"^\| `zoo ([\w-]+)", COMMANDS, re.MULTILINE))
    brought = {
        name for plugin in registry.current().plugins if plugin.bare for name in plugin.bare.commands if " " not in name
    }
    assert shown == {*cli.homes, *brought}


def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings, as GitHub and the site make them, and of functions in the reference."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {*re.findall(r"^::: (\S+)$", text, re.MULTILINE), *re.findall(r'<span id="([\w.]+)">', text)} | {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def test_links_lead_to_pages_and_places_on_them() -> None:
    own = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
    places = {page: anchors(page) for page in [*own, *(ROOT / "docs").rglob("*.md")]}
    for page in places:
        for link in re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8")):
            if link.startswith("https://"):
                continue
            path, _, place = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not place or place in places[target], f"{page.name}: {link}"
