"""The protocol of a score: its fields, its words, and those of the difference of two."""

from typing import Any

import pytest

import zoo
from zoo import registry
from zoo.errors import ManifestError
from zoo.loading import safetensors_file
from zoo.manifest import Protocol, parse, render
from zoo.training.record import read

ENTRY = """
[net.tag]
file = "model.safetensors"
pinned = false
epochs = 8

[net.tag.scores."cifar10/test"]
n = 10000
source = "a paper"
top1 = 90.0
"""
LEE = Protocol(trained_on=50_000, runs=10)
"""Lee et al. 2014: 50,000 digits and ten runs."""
DIFFERENCE = "50,000 training images, ten runs; ours 60,000 training images, one run"


def test_a_score_has_a_protocol_and_the_epochs_of_its_weights() -> None:
    [entry] = parse(ENTRY + "protocol = { trained_on = 45000, runs = 5, views = 10, selection = 'median' }\n")
    score = entry.scores["cifar10/test"]
    assert score.protocol == Protocol(trained_on=45_000, runs=5, views=10, selection="median")
    assert entry.protocol_of(score) == Protocol(trained_on=45_000, epochs=8, runs=5, views=10, selection="median")
    assert parse(render(entry)) == (entry,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("trained_on = 0", "trained_on"),
        ("runs = 1.5", "runs"),
        ("views = -6", "views"),
        ("epochs = 0", "epochs"),
        ("images = 50000", "images"),
        ('selection = "a\\nb"', "selection"),
    ],
)
def test_a_wrong_protocol_is_refused_with_its_field(fields: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse(f"{ENTRY}protocol = {{ {fields} }}\n")


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (LEE, {"trained_on": 60_000, "runs": 1, "views": 1}, DIFFERENCE),
        (LEE, {"trained_on": 50_000, "runs": 10, "epochs": 100}, ""),  # their epochs are not known
        (LEE, {"runs": 10}, "50,000 training images"),  # ours are not
        (Protocol(epochs=9.9, views=6), {"epochs": 10, "views": 1}, "9.9 epochs, six views; ours ten epochs, one view"),
        (Protocol(selection="median"), {}, "median"),
        (Protocol(), {"runs": 1}, ""),
    ],
)  # fmt: skip
def test_only_what_is_known_of_theirs_is_compared(theirs: Protocol, ours: dict[str, Any], words: str) -> None:
    assert theirs.beside(Protocol(**ours)) == words


@pytest.mark.usefixtures("only_built_in")
def test_the_weights_that_ship_state_how_many_images_their_records_have() -> None:
    compared = 0
    for model in registry.current().models():
        for weights in model.weights:
            if weights.hub.startswith("embedded:"):
                record = read(safetensors_file.metadata(zoo.fetch(weights.name))["run"], weights.name)
                for score in weights.scores.values():
                    assert score.protocol is not None, weights.name
                    assert score.protocol.runs == 1, weights.name
                    if model.row.name != "neocognitron":  # which draws 4,000 of them
                        assert score.protocol.trained_on == record.data["train"].n, weights.name
                        compared += 1
    assert compared > 30


def test_a_published_figure_of_digits_or_small_images_states_a_protocol(only_built_in: None) -> None:
    from zoo.training import choice

    without = set()
    for model in registry.current().models():
        for figure in choice.published(model.row.plugin, model.name):
            if not figure.data.startswith("imagenet") and figure.protocol == Protocol():
                without.add(figure.source)
    assert without == {"a student project, PRML2023"}, "of which nothing more is known"
