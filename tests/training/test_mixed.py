"""Training on images that torchvision varies and mixes: exact, and learned from as soft labels say."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec import structs
from support.small_training import PREPROCESS, RECIPE, StopAt, assert_same, images, rows, run
from torch.nn import functional as F

import zoo
from zoo.data.augmentation import Augmentation, ColorJitter, RandAugment
from zoo.errors import RecipeError
from zoo.system.distributed import Processes
from zoo.training import Recipe
from zoo.training.choice import resolve
from zoo.training.engine import CrossEntropy
from zoo.training.inputs import Batches

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


class One(Processes):
    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count


def test_an_image_is_varied_alike_in_whichever_process_it_is() -> None:
    recipe = structs.replace(MIXED, augment=structs.replace(VARIED, mixup=0.0, cutmix=0.0))
    whole, *parts = (
        next(Batches(images(), recipe, PREPROCESS, torch.device("cpu"), One(rank, count)).epoch(1))
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
