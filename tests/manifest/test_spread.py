"""The spread of a score: what it states of several trainings, and where it is shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ManifestError
from zoo.manifest import Protocol, Spread, parse, render

ENTRY = """
[net.tag]
file = "model.safetensors"
pinned = false

[net.tag.scores."mnist/test"]
n = 10000
source = "a test"
top1 = 98.0
protocol = { trained_on = 50000, runs = 1 }
"""
SPREAD = "spread = { mean = 98.1, deviation = 0.1, seeds = [0, 1, 4], top1 = [98.0, 98.2, 98.1] }"


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_mean_and_deviation_are_numpys(values: list[float]) -> None:
    spread = Spread.of(dict(enumerate(values)))
    assert spread.mean == pytest.approx(np.mean(values), abs=2e-4)
    assert spread.deviation == pytest.approx(np.std(values, ddof=1), abs=2e-4)


def test_a_score_states_several_trainings_beside_that_of_its_network() -> None:
    [entry] = parse(ENTRY + SPREAD)
    score = entry.scores["mnist/test"]
    assert score.spread == Spread(98.1, 0.1, (0, 1, 4), (98.0, 98.2, 98.1))
    assert score.spread.words == "98.10 ± 0.10 (3)"
    assert parse(render(entry)) == (entry,)


def test_a_protocol_beside_others_counts_the_trainings_of_the_spread() -> None:
    [entry] = parse(ENTRY + SPREAD)
    ours = entry.protocol_of(entry.scores["mnist/test"])
    assert Protocol(trained_on=50_000, runs=3).beside(ours) == ""
    assert Protocol(runs=10).beside(ours) == "ten runs; ours three runs"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1, 4], top1 = [98.0, 98.2, 98.1]", "seeds = [0], top1 = [98.1]", "length >= 2"),
        ("[0, 1, 4]", "[0, 1]", "2 different seeds, but 3 top1"),
        ("[0, 1, 4]", "[0, 1, 1]", "2 different seeds, but 3 top1"),
        ("mean = 98.1", "mean = 98.2", "mean = 98.2"),
        ("deviation = 0.1", "deviation = 0.0816", "deviation = 0.0816"),  # that of n in place of n - 1
        ("deviation = 0.1", "deviation = nan", "deviation"),
        ("mean = 98.1", "mean = inf", "mean"),
        ("98.2, 98.1]", "98.2, nan]", "top1"),
        ("top1 = 98.0\n", "top1 = 97.9\n", "top1 = 97.9, but those of spread are 98 to 98.2"),
        ("top1 = 98.0\n", "", "top1 = None"),
        ("seeds", "seed", "seed"),
    ],
)
def test_a_wrong_spread_is_refused(old: str, new: str, message: str) -> None:
    assert old in ENTRY + SPREAD
    with pytest.raises(ManifestError, match=message):
        parse((ENTRY + SPREAD).replace(old, new))
