"""Progressive resizing: the sides of images by epoch, against those worked out by hand, and compiled training."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_training import PREPROCESS, assert_same, images, rows, run
from torch import nn
from torch.nn import functional as F

from zoo.errors import RecipeError
from zoo.training import Recipe
from zoo.training.inputs import Batches
from zoo.training.recipe import Progressive

pytest.importorskip("timm", reason="needs zoo-vision[train]")


def any_size() -> nn.Module:
    """A network for images of any size."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 8, 3, padding=1)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


def test_sides_grow_in_steps_and_the_last_epochs_see_full_images() -> None:
    sides = [Progressive(0.625, 0.3).side(32, epoch, 30) for epoch in range(30)]
    assert sides == [20] * 4 + [24] * 7 + [28] * 7 + [32] * 12


def test_a_training_costs_as_much_as_its_pixels() -> None:
    expected = (4 * 20**2 + 7 * 24**2 + 7 * 28**2 + 12 * 32**2) / (30 * 32**2)
    assert Progressive(0.625, 0.3).share_of_pixels(32, 30) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "full", "epochs", "expected"),
    [
        (Progressive(0.5, 0.5, 1), 8, 4, [4, 6, 8, 8]),
        (Progressive(0.5, 0.5, 8), 28, 4, [16, 24, 28, 28]),  # 28 is no multiple of 8
        (Progressive(0.1, 0.5, 4), 8, 2, [4, 8]),  # one step at least
        (Progressive(1.0, 0.1), 32, 3, [32, 32, 32]),
        (Progressive(0.5, 1.0), 32, 3, [32, 32, 32]),
    ],
)
def test_sides_by_hand(settings: Progressive, full: int, epochs: int, expected: list[int]) -> None:
    assert [settings.side(full, epoch, epochs) for epoch in range(epochs)] == expected


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 16), st.integers(1, 300), st.integers(1, 40))
def test_sides_never_shrink_and_end_full(scale: float, share: float, increment: int, full: int, epochs: int) -> None:
    settings = Progressive(scale, share, increment)
    sides = [settings.side(full, epoch, epochs) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert sides[-1] == full
    assert all(0 < side <= full for side in sides)


def test_batches_are_the_augmented_images_made_smaller_with_antialiasing() -> None:
    plain = Recipe(epochs=2, batch_size=8)
    small = Recipe(epochs=2, batch_size=8, progressive=Progressive(0.5, 0.5))
    parts = [Batches(images(), recipe, PREPROCESS, torch.device("cpu")) for recipe in (plain, small)]
    for (full, _), (smaller, _) in zip(parts[0].epoch(0), parts[1].epoch(0), strict=True):
        expected = F.interpolate(full, (4, 4), mode="bilinear", antialias=True)
        assert torch.equal(smaller, expected)
    assert [part.shape[2:] for part, _ in parts[1].epoch(1)] == [(8, 8)] * 9


def test_a_network_of_one_size_is_told_before_training(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch_size=16, progressive=Progressive(0.5, 0.5))
    with pytest.raises(RecipeError, match="the network does not take images of 4x4 pixels"):
        run(tmp_path / "run", recipe)  # its classifier takes 8x8
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_compiled_training_gives_the_same_network_up_to_rounding(tmp_path: Path) -> None:
    fields = {"epochs": 2, "batch_size": 16, "lr": 0.05, "precision": "float32", "progressive": Progressive(0.5, 0.5)}
    plain = run(tmp_path / "plain", Recipe(**fields), model=any_size())
    compiled = run(tmp_path / "compiled", Recipe(**fields, compile=True), model=any_size())
    assert any(not torch.equal(compiled[key], plain[key]) for key in plain)  # other code has computed it
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-5)
    assert [row["loss"] for row in rows(tmp_path / "compiled")] == pytest.approx(
        [row["loss"] for row in rows(tmp_path / "plain")], rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_a_compiled_training_that_is_resumed_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    recipe = Recipe(epochs=4, batch_size=16, lr=0.05, compile=True, progressive=Progressive(0.5, 0.5))
    unbroken = run(tmp_path / "unbroken", recipe, model=any_size())
    run(tmp_path / "broken", recipe, model=any_size(), stop_after=2)
    assert_same(run(tmp_path / "broken", recipe, model=any_size(), resume=True), unbroken)
