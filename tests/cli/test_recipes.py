"""``zoo recipes``: what there is, what it gave and what it costs; and that the claims are those of the weights."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from support import distributions, specimen
from support.command import ask
from support.terminal import draw
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo import registry
from zoo.data.classes import count_training_images
from zoo.errors import RecipeError
from zoo.loading import safetensors_file
from zoo.spec import Plugin
from zoo.training import choice as recipes
from zoo.training import choose
from zoo.training.choice import Row, expectations, rows
from zoo.training.recipe import Expectation
from zoo.training.record import read


def listed(*words: object) -> list[dict[str, Any]]:
    answer = ask("recipes", *words, "--json")
    assert answer.exit_code == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def built_in() -> list[Plugin]:
    found = [row.plugin for row in registry.current().plugins if row.is_builtin and row.plugin is not None]
    return [plugin for plugin in found if plugin.recipes]


def measured() -> Iterator[tuple[str, Expectation]]:
    """Yields the recipes' names and what they gave to weights of ours."""
    for plugin in built_in():
        for name, table in recipes.read(plugin).items():
            yield from ((name, row) for row in expectations(name, table) if row.weights)


# ---- what is claimed ----------------------------------------------------------------------------------------------


def test_what_a_recipe_gave_is_the_score_that_the_weights_manifest_claims() -> None:
    names = [row.weights for _, row in measured()]
    assert {"resnet20.c10", "resnet20.digits"} <= set(names)
    for _, row in measured():
        entry = registry.current().find(row.weights).weights
        assert entry is not None
        assert entry.arch == row.model
        assert row.top1 == pytest.approx(entry.scores[f"{row.data}/test"].top1, abs=0.005)


def test_a_recipe_is_still_what_its_weights_were_trained_with() -> None:
    for name, row in measured():
        trained = read(safetensors_file.metadata(zoo.fetch(row.weights))["run"], row.weights)
        found = registry.current().find(row.model)
        now = choose(found.plugin, found.model, row.data, name)
        assert trained.data["train"].name == row.data
        assert trained.recipe.name == name
        assert msgspec.structs.replace(trained.recipe, note="", seed=0) == msgspec.structs.replace(now, note="", seed=0)


def test_every_family_that_has_recipes_states_its_papers() -> None:
    for plugin in built_in():
        assert any(name.startswith("paper_") for name in recipes.read(plugin)), plugin.name


def test_the_published_figures_are_the_papers() -> None:
    # He et al. 2015, table 6, and 2016, table 3, in per cent of errors
    errors = {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97}
    deeper = {"resnet110": 6.61, "resnet1202": 7.93}
    deeper |= {"preact_resnet110": 6.37, "preact_resnet164": 5.46, "preact_resnet1001": 4.92}
    claimed = {(row["recipe"], row["model"]): row["expected"] for row in listed() if row["expected"]}
    for recipe, expected in (("paper_c10", errors), ("paper_c10_110", deeper)):
        for model, error in expected.items():
            assert claimed[recipe, model]["top1"] == pytest.approx(100 - error)
            assert "He et al." in claimed[recipe, model]["source"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either source or weights"),
        ({"source": "a paper", "weights": "net.mine"}, "either source or weights"),
        ({"source": "a paper", "seconds": 3}, "both seconds and on, or neither"),
        ({"source": "a paper", "top1": 101}, "top1"),
        ({"source": "a paper", "top5": 99}, "top5"),
        ({"source": "a paper", "mean_class": 44.0}, "either top1 or mean_class"),
        ({"source": "a paper", "protocol": {"runs": 0}}, "runs"),
        ({"source": "a paper", "protocol": {"seeds": 3}}, "seeds"),
        ({"weights": "net.mine", "protocol": {"runs": 3}}, "in their manifest"),
    ],
)
def test_an_expectation_says_on_whose_word(fields: dict[str, Any], message: str) -> None:
    table = {"expected": [{"model": "net", "data": "digits", "top1": 90.0, **fields}]}
    with pytest.raises(RecipeError, match=rf"'mine': expected: .*{message}"):
        expectations("mine", table)


def test_the_list_says_where_a_papers_protocol_differs_from_the_recipe() -> None:
    """Lee et al. 2014: 50,000 digits, ten runs. Zhou et al. 2017 train as the recipe does."""
    rows = {(row["recipe"], row["expected"]["source"]): row for row in listed("dtp_mlp") if row["expected"]}
    difference = "50,000 training images, ten runs; ours 60,000 training images, one run"
    assert rows["paper_mnist", "Lee et al. 2014, section 3.1"]["difference"] == difference
    assert rows["paper_mnist", ""]["difference"] == "", "it is ours"
    assert difference in ask("recipes", "dtp_mlp").stdout
    [same] = [row for row in listed("orn8_align") if row["recipe"] == "paper_mnist_rot"]
    assert same["expected"]["top1"] == 98.58
    assert same["difference"] == ""


@pytest.mark.parametrize(("model", "data"), [("orn8_align", "mnist_rot"), ("gcn4_3x3", "mnist_rot")])
def test_a_papers_name_is_refused_where_another_recipe_is_its_protocol(model: str, data: str) -> None:
    """Zhou et al. 2017 and Luan et al. 2017 rotate digits anew at every access: paper_mnist would rotate them once."""
    plugin = registry.current().find(model).plugin
    with pytest.raises(RecipeError, match=r"'paper_mnist' is for mnist, not mnist_rot(.|\n)*paper_mnist_rot\?"):
        choose(plugin, model, data, "paper_mnist")


@pytest.mark.parametrize("model", ["orn8_align", "gcn4_3x3"])
@pytest.mark.parametrize("data", ["mnist", "mnist_rot"])
def test_authors_of_rotating_filters_hold_10000_digits_out_and_rotate_the_others_anew(model: str, data: str) -> None:
    plugin = registry.current().find(model).plugin
    recipe = choose(plugin, model, data, "paper_mnist" if data == "mnist" else "paper_mnist_rot")
    assert count_training_images(data) - recipe.validation == 50_000
    assert recipe.keep == "best"
    assert recipe.augment.redraw is (data == "mnist_rot")


def test_expectations_are_no_part_of_the_recipe() -> None:
    table = {"expected": [{"model": "net", "data": "digits", "top1": 90.0, "source": "a paper"}], "epochs": 3}
    assert recipes.resolve("mine", table) == recipes.resolve("mine", {"epochs": 3})


# ---- what it costs ------------------------------------------------------------------------------------------------


def test_the_cost_is_three_forward_passes_of_every_image_and_epoch() -> None:
    plugin = registry.current().find("resnet20").plugin
    (row,) = [row for row in rows(plugin) if row.recipe == "fast_c10" and row.model == "resnet20"]
    with FlopCounterMode(display=False) as counter:
        zoo.create("resnet20")(torch.zeros(1, 3, 32, 32))
    assert row.pflop == pytest.approx(3 * counter.get_total_flops() * 49_920 * 60 / 1e15)


def test_the_cost_is_at_the_recipes_input_size() -> None:
    (row,) = [row for row in listed("resnet20") if row["recipe"] == "digits"]
    with FlopCounterMode(display=False) as counter:
        zoo.create("resnet20", in_chans=1)(torch.zeros(1, 1, 8, 8))
    expected = 3 * counter.get_total_flops() * 1408 * 40 / 1e15
    assert row["pflop"] == pytest.approx(expected, rel=0.02)  # two input channels fewer


@pytest.mark.parametrize("weights", ["resnet20.c10", "resnet20.fmnist", "resnet20.digits"])
def test_training_splits_are_as_large_as_those_that_were_trained_on(weights: str) -> None:
    images = read(safetensors_file.metadata(zoo.fetch(weights))["run"], weights).data["train"]
    assert count_training_images(images.name) == images.n


# ---- the list -----------------------------------------------------------------------------------------------------


def test_the_default_of_each_data_set_is_the_one_that_training_takes() -> None:
    found = registry.current().find("resnet20")
    marked = {row["data"]: row["recipe"] for row in listed("resnet20") if row["default"]}
    assert marked.keys() >= {"cifar10", "digits", "fashion_mnist", "mnist"}
    for name, recipe in marked.items():
        assert choose(found.plugin, found.model, name).name == recipe


def test_a_model_gets_the_recipes_that_can_serve_it() -> None:
    names = {row["recipe"] for row in listed("resnet20")}
    assert {"fast_c10", "paper_c10", "degradation_c10", "digits"} <= names
    assert not {"paper_in1k", "paper_c10_110"} & names
    assert {row["recipe"] for row in listed("vgg16")} == {"paper_in1k"}


def test_the_table_shows_scores_costs_and_times() -> None:
    answer = ask("recipes", "resnet20")
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["recipe", "data", "epochs", "top-1", "from", "PFLOP", "time"]
    assert next(line for line in lines if line.startswith("digits*")).split()[1:] == [
        "digits", "40", "100.00%", "resnet20.digits", "0.00086", "27", "s",
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("paper_c10 ")).endswith("2")
    assert "* the default for that model and data set." in answer.stderr
    assert "Times on one core of an AMD EPYC" in answer.stderr


def test_all_recipes_are_listed_with_their_families() -> None:
    families = {(row["family"], row["recipe"]) for row in listed()}
    for plugin in built_in():
        assert {name for family, name in families if family == plugin.name} == set(recipes.read(plugin))


@pytest.mark.first(1)
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_gets_lines_that_fit(columns: int) -> None:
    drawn = draw([sys.executable, "-m", "zoo", "recipes"], columns=columns).terminal
    text = re.sub(r"\x1b\[[\d;]*m", "", drawn.decode())
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "100.00%" in text


def test_a_family_whose_recipes_cannot_be_read_hides_no_others(tmp_path: Path) -> None:
    files = {"odd.py": distributions.plugin("odd", "odd_net", recipes="'odd_files:recipes.toml'")}
    files |= {"odd_files/__init__.py": "", "odd_files/recipes.toml": "[mine]\nepoch = 3\n"}
    site = distributions.install(tmp_path / "site", "zoo-odd", {"odd": "odd:plugin"}, files)
    done = distributions.run("recipes", site=site)
    assert done.returncode == 0
    assert "Not shown: odd: Recipe 'mine' has no field 'epoch'." in done.stderr
    assert "fast_c10" in done.stdout
    alone = distributions.run("recipes", "odd_net", site=site)
    assert alone.returncode == 2
    assert "Did you mean epochs?" in alone.stderr


def test_a_data_set_of_a_family_says_how_many_images_it_trains_on(tmp_path: Path) -> None:
    text = distributions.plugin("odd", "odd_net", datasets="(DatasetSpec('shapes', 'odd_model:load', images=100),)")
    files = {"odd.py": text.replace("import Model", "import DatasetSpec, Model")}
    site = distributions.install(tmp_path / "site", "zoo-odd", {"odd": "odd:plugin"}, files)
    code = "from zoo.data.classes import count_training_images as f; print(f('shapes'), f('others'))"
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.split() == ["100", "0"]


def test_what_is_fitted_is_listed_without_epochs_and_cost() -> None:
    found = {row["recipe"]: row for row in listed()}
    assert (found["paper_svm"]["fitted"], found["paper_svm"]["pflop"]) == (True, None)
    assert not found["paper_c10"]["fitted"]
    answer = ask("recipes", "hmax").stdout
    assert re.search(r"^paper_svm\* +caltech101\* +fitted$", answer, re.MULTILINE)
    assert re.search(r"^  training +fitted, without gradients$", ask("info", "hmax").stdout, re.MULTILINE)
    assert json.loads(ask("list", "hmax", "--json").stdout)[0]["fitted"]


def test_a_row_without_operations_or_images_states_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specimen.install(tmp_path, monkeypatch)
    found = registry.current().find("net")
    (row,) = rows(found.plugin, found.model)
    assert isinstance(row, Row)
    assert (row.recipe, row.data, row.is_default, row.pflop) == ("plain", "shapes", True, None)
