"""Training inputs: images that torchvision varies and mixes, and progressive resizing, by sides worked out by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from support.ranks import OneOf
from support.small_training import PREPROCESS, RECIPE, StopAt, assert_same, images, rows, run
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

import zoo
from zoo.data.augmentation import Augmentation, ColorJitter, RandAugment
from zoo.errors import RecipeError
from zoo.training import Recipe
from zoo.training.choice import resolve
from zoo.training.engine import CrossEntropy
from zoo.training.inputs import Batches
from zoo.training.recipe import Progressive

pytest.importorskip("timm", reason="needs zoo-vision[train]")
torchvision = pytest.importorskip("torchvision", reason="needs zoo-vision[data]")

VARIED = Augmentation(
    pad_crop=1, color_jitter=ColorJitter(0.4, 0.4), rand_augment=RandAugment(), random_erasing=0.5, mixup=0.2,
    cutmix=1.0, mix_probability=0.8,
)  # fmt: skip
MIXED = structs.replace(RECIPE, epochs=2, label_smoothing=0.1, augment=VARIED, accumulate=2)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("form", ["memory", "files", "stream"])
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_as_the_unbroken_one(tmp_path: Path, form: str) -> None:
    data: Any = images(is_resident=form != "files")
    if form == "stream":
        pytest.importorskip("webdataset", reason="needs zoo-vision[stream]")
        data = zoo.data.open_stream(zoo.data.write_shards(data, tmp_path / "shards").parent)
    unbroken = run(tmp_path / "unbroken", MIXED, data)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", MIXED, data, display=StopAt(2, 2, interrupt), checkpoint_every=1)
    torch.rand(5)  # torch's own generator is somewhere else
    assert_same(run(tmp_path / "broken", MIXED, data, resume=True), unbroken)
    assert [row["loss"] for row in rows(tmp_path / "broken")] == [row["loss"] for row in rows(tmp_path / "unbroken")]


def test_an_image_is_varied_alike_in_whichever_process_it_is() -> None:
    recipe = structs.replace(MIXED, augment=structs.replace(VARIED, mixup=0.0, cutmix=0.0))
    whole, *parts = (
        next(Batches(images(), recipe, PREPROCESS, torch.device("cpu"), OneOf(rank, count)).epoch(1))
        for rank, count in [(0, 1), (0, 2), (1, 2)]
    )
    assert torch.equal(torch.cat([part for part, _ in parts]), whole[0])
    assert torch.equal(torch.cat([labels for _, labels in parts]), whole[1])


def test_mixed_batches_hold_shares_of_the_classes_of_their_images() -> None:
    recipe = structs.replace(RECIPE, augment=Augmentation(mixup=1.0))
    plain = structs.replace(RECIPE, augment=Augmentation())
    (mixed, shares), (whole, labels) = (
        next(Batches(images(), chosen, PREPROCESS, torch.device("cpu")).epoch(0)) for chosen in (recipe, plain)
    )
    own = F.one_hot(labels, 4).float()
    share = next(float(a) for a, b, c in zip(shares[:, 0], own[:, 0], own.roll(1, 0)[:, 0], strict=True) if b and not c)
    torch.testing.assert_close(shares, share * own + (1 - share) * own.roll(1, 0))
    torch.testing.assert_close(mixed, share * whole + (1 - share) * whole.roll(1, 0))


def test_the_loss_of_shares_is_the_mean_of_the_classes_losses_by_their_shares() -> None:
    """Zhang et al. 2017: the loss is linear in the labels, also if they are smoothed."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    one, other = torch.randint(4, (2, 6), generator=generator)
    loss = CrossEntropy(0.1)
    mixed = 0.3 * F.one_hot(one, 4) + 0.7 * F.one_hot(other, 4)
    torch.testing.assert_close(loss(logits, mixed), 0.3 * loss(logits, one) + 0.7 * loss(logits, other))


def test_training_accuracy_counts_the_larger_share(tmp_path: Path) -> None:
    """With labels that are never mixed, it is the accuracy of training without mixing."""
    plain = structs.replace(RECIPE, epochs=2, augment=Augmentation())
    never = structs.replace(plain, augment=Augmentation(mixup=1.0, mix_probability=0.0))
    run(tmp_path / "plain", plain)
    run(tmp_path / "never", never)
    found, expected = (rows(tmp_path / folder) for folder in ("never", "plain"))
    assert [row["train_top1"] for row in found] == [row["train_top1"] for row in expected]
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], rel=1e-3)


@pytest.mark.slow
def test_the_run_record_names_what_is_set_and_the_version_of_torchvision(tmp_path: Path) -> None:
    run(tmp_path / "mixed", structs.replace(RECIPE, epochs=2, augment=Augmentation(cutmix=1.0)))
    record = json.loads((tmp_path / "mixed" / "config.json").read_text())
    assert record["recipe"]["augment"] == {"cutmix": 1.0}
    assert record["versions"]["torchvision"] == torchvision.__version__
    assert msgspec.to_builtins(Recipe())["augment"] == {}
    run(tmp_path / "plain", structs.replace(RECIPE, epochs=2))
    assert "torchvision" not in json.loads((tmp_path / "plain" / "config.json").read_text())["versions"]


def test_settings_name_fields_within_their_tables() -> None:
    changed = resolve("x", {}, {"augment.rand_augment.magnitude": "7", "augment.color_jitter.hue": "0.1"})
    assert changed.augment.rand_augment == RandAugment(2, 7)
    assert changed.augment.color_jitter == ColorJitter(hue=0.1)
    with pytest.raises(RecipeError, match=r"(?s)no field 'augment.mixupp'.*augment.mixup"):
        resolve("x", {}, {"augment.mixupp": "1"})
    with pytest.raises(RecipeError, match="cannot be combined with adversarial"):
        resolve("x", {}, {"augment.mixup": "0.2", "adversarial.attack": "pgd"})


def any_size() -> nn.Module:
    """Returns a network for images of any size."""
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


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torch's compiler import setuptools, which refuses where Python's own distutils is loaded."""
    if "_distutils" not in str(getattr(sys.modules.get("distutils"), "__file__", "_distutils")):
        monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_compiled_training_takes_the_steps_of_plain_training(tmp_path: Path) -> None:
    """Compiles one layer, which is the fastest; the next test compiles convolutions of two sizes."""
    fields = {"epochs": 2, "batch_size": 36, "lr": 0.05, "precision": "float32"}
    linear = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4))  # noqa: E731
    ends = []
    for name, is_compiled in (("plain", False), ("compiled", True)):
        torch.manual_seed(0)
        counters.clear()
        ends.append(run(tmp_path / name, Recipe(**fields, compile=is_compiled), model=linear()))
        assert bool(counters["frames"]["ok"]) == is_compiled
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
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
