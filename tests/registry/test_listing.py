"""What the list and the info say of models and weights."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from support.command import ask_warm as ask
from support.command import told

import zoo
from zoo import registry
from zoo.errors import UnknownNameError
from zoo.loading import safetensors_file
from zoo.manifest import Weights

ROOT = Path(__file__).parents[2]


def embedded() -> list[Weights]:
    every = (weights for entry in registry.current().models() for weights in entry.weights)
    return [weights for weights in every if weights.hub.startswith("embedded:")]


SIZES = {
    "hog_svm.c10": 10 * (324 + 1),
    "resnet20.fmnist": 269_722 - 16 * 2 * 9,
    "hmax.caltech101": 102 * (4 * 1000 + 1),
}
"""A linear SVM of 324 features; one input channel in place of three; four sizes of 1,000 prototypes."""


@pytest.mark.parametrize(("name", "count"), SIZES.items())
def test_the_size_of_weights_is_that_of_their_own_network(name: str, count: int) -> None:
    [row] = told("list", name)
    assert row["params"] == count
    assert told("info", name)["weights"][0]["params"] == count
    assert f"parameters  {count:,}" in re.sub(" +", "  ", ask("info", name).stdout)


def test_a_filter_by_size_goes_by_the_network_of_the_weights() -> None:
    small = zoo.list_models(pretrained=True, max_params=10_000)
    assert "hog_svm.c10" in small
    assert "sift_bovw_tree.caltech101" not in small
    assert "hog_svm" not in zoo.list_models(max_params=10_000)


def test_multiply_adds_are_not_those_of_another_input() -> None:
    """A convolution's grow with the pixels: 8 x 8 takes a sixteenth of 32 x 32, nearly."""
    whole, small = (told("info", name)["weights"][0]["macs"] for name in ("resnet20.c10", "resnet20.digits"))
    assert whole == 40_551_040
    assert small == pytest.approx(whole / 16, rel=0.01)


@pytest.mark.parametrize("weights", embedded(), ids=lambda weights: weights.name)
def test_epochs_are_those_of_the_record_in_the_file(weights: Weights) -> None:
    run = safetensors_file.metadata(ROOT / "weights_manifest" / weights.path)["run"]
    is_fitted = registry.current().find(weights.arch).model.fitted
    assert weights.epochs == (None if is_fitted else run["recipe"]["epochs"])


def test_the_budget_of_a_models_default_weights_is_shown() -> None:
    assert "c10+ (30 epochs)" in ask("list", "ror3_56").stdout
    assert re.search(r"ror3_56\.c10 .* 30  Apache", ask("info", "ror3_56").stdout)
    assert re.search(r"trained for +8 epochs", ask("info", "resnet20.c10_e8").stdout)
    assert told("list", "resnet20.*")[0]["epochs"] == 60


def test_a_models_name_lists_its_weights_where_weights_are_listed() -> None:
    assert zoo.list_models("resnet50", pretrained=True) == zoo.list_models("resnet50.*")
    assert zoo.list_models("resnet?0", dataset="cifar10", max_params=300_000) == [
        "resnet20.c10",
        "resnet20.c10_e30",
        "resnet20.c10_e8",
    ]
    assert zoo.list_models("*20.c10_e8", pretrained=True) == ["resnet20.c10_e8"]
    assert "resnet50.a1_in1k" in ask("list", "resnet50", "--pretrained").stdout
    assert zoo.list_models("resnet5", pretrained=True) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--dataset", "imagenet"], "Did you mean imagenet-1k"),
        (["list", "--dataset", "zzz"], "Data sets: caltech101"),
        (["list", "ResNet50"], "Did you mean resnet50?"),
        (["list", "resnt50"], "Did you mean resnet50"),
        (["evaluate", "resnet20.c10", "--data", "imagenet"], "as a path"),
        (["evaluate", "resnet20.c10", "--data", "cifar_10"], "Did you mean cifar10"),
    ],
)
def test_what_matches_nothing_is_answered_with_what_was_meant(words: list[str], said: str) -> None:
    assert said in ask(*words).stderr


@pytest.mark.first(6)
@pytest.mark.parametrize(
    "pattern",
    ["resnet20.*", "*.c10*", "r?snet[0-9]*.c10", "*[.]c10", "*", "*net*", "*c10", "resnet20?c10", "*.*.*", "."],
)
def test_a_pattern_lists_what_the_standard_library_matches(pattern: str) -> None:
    every = zoo.list_models(pretrained=True)
    is_of_models = "." not in pattern  # then all weights of a model that it matches are meant
    expected = [
        name
        for name in every
        if fnmatchcase(name, pattern) or (is_of_models and fnmatchcase(name.partition(".")[0], pattern))
    ]
    assert zoo.list_models(pattern, pretrained=True) == expected


def test_the_list_says_how_large_fitting_made_a_network() -> None:
    """1,000 prototypes of 4 sizes and 102 classes: 4,000 x 102 weights and 102 biases."""
    assert "caltech101" in (shown := ask("list", "hmax").stdout)
    assert "(408 k params)" in shown


def test_a_list_is_sorted_by_what_is_asked_for() -> None:
    rows = told("list", "--sort", "top1", "--dataset", "cifar10")
    scores = [row["scores"]["cifar10/test"]["top1"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    years = [row["year"] for row in told("list", "--sort", "year") if row["year"]]
    assert years == sorted(years, reverse=True)
    for amount in ("params", "macs"):
        numbers = [row[amount] for row in told("list", "resnet*", "--sort", amount)]
        assert numbers == sorted(numbers, key=lambda number: number or float("inf"))
    assert zoo.list_models("resnet?8", sort="params") == ["resnet18"]
    with pytest.raises(UnknownNameError, match="Unknown order 'size'"):
        zoo.list_models(sort="size")


def test_a_filter_by_top1_keeps_what_is_at_least_as_good_on_the_data_that_is_meant() -> None:
    rows = told("list", "resnet20*", "--min-top1", "90", "--dataset", "cifar10")
    every = told("list", "resnet20*", "--dataset", "cifar10")
    expected = [row["name"] for row in every if row["scores"]["cifar10/test"]["top1"] >= 90]
    assert [row["name"] for row in rows] == expected
    assert 0 < len(expected) < len(every)
    assert "resnet20.digits" in zoo.list_models("resnet20", min_top1=90)  # on its own data set


def test_the_default_weights_are_marked() -> None:
    assert "a1h_in1k* (default)" in ask("list", "resnet152").stdout
    [default] = [row for row in told("list", "resnet152.*") if row["default"]]
    assert default["name"] == "resnet152.a1h_in1k"
    assert [row["tag"] for row in zoo.info("resnet152")["weights"] if row["default"]] == ["a1h_in1k"]
    assert "resnet152 alone means these" in ask("info", "resnet152.a1h_in1k").stdout
    assert "alone means" not in ask("info", "resnet152.tv_in1k").stdout
