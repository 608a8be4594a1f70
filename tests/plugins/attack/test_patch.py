"""Patches: where they are put, what they do to trained networks beside controls, and how they are kept."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.command import ask_warm, told
from support.seeded import uniform as noise
from torch import Tensor

import zoo
from zoo.data import ImageSet, load
from zoo.errors import DataError, SpecError
from zoo_attack import patch as patches
from zoo_attack.patch import Patch, Placement, Ranges, apply, mask_of, paste, place, read_patch
from zoo_attack.patch_training import Success, success, train_patch

DIGITS = "resnet20.digits"


@pytest.fixture(scope="module")
def training_digits() -> ImageSet:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    return load("digits", "train")


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    pytest.importorskip("sklearn", reason="needs zoo-vision[data]")
    return load("digits", "test")


def at(scale: float = 1.0, angle: float = 0.0, centre: tuple[float, float] = (0.5, 0.5)) -> Placement:
    return Placement(torch.tensor([scale]), torch.tensor([angle]), torch.tensor([centre]))


# ---- Placement ----


@pytest.mark.parametrize("side", [7, 16, 32])
def test_at_the_identity_the_patch_is_seen_within_the_mask_and_the_image_outside(side: int) -> None:
    pixels, images, mask = noise(3, side, side), noise(1, 3, side, side, seed=1), mask_of("circle", side)
    seen = paste(pixels, mask, images, at())[0]
    torch.testing.assert_close(seen, torch.where(mask.bool(), pixels, images[0]), atol=1e-5, rtol=0)


def test_turning_by_90_degrees_is_anticlockwise_and_exact() -> None:
    pixels, images, mask = noise(3, 16, 16), noise(1, 3, 16, 16, seed=1), mask_of("square", 16)
    seen = paste(pixels, mask, images, at(angle=90.0))[0]
    torch.testing.assert_close(seen, torch.rot90(pixels, 1, (1, 2)), atol=1e-4, rtol=0)


def test_a_shift_by_whole_pixels_moves_the_patch_and_leaves_the_rest() -> None:
    pixels, images, mask = noise(3, 8, 8), noise(1, 3, 24, 32, seed=1), mask_of("square", 8)
    # Columns 20 to 27 and rows 4 to 11 of 24 x 32: right of the middle, above it.
    seen = paste(pixels, mask, images, at(8 / 24, 0.0, (24 / 32, 8 / 24)))[0]
    expected = images[0].clone()
    expected[:, 4:12, 20:28] = pixels
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(("shape", "share"), [("circle", math.pi / 4), ("square", 1.0)])
def test_a_patch_covers_its_scale_squared_of_the_image(shape: Any, share: float, scale: float) -> None:
    white = Patch.of(torch.ones(1, 64, 64), shape)
    area = float(apply(white, torch.zeros(1, 1, 64, 64), scale=scale, rotation=0).mean())
    assert area == pytest.approx(share * scale**2, rel=0.04)


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_a_patch_lies_wholly_within_the_image(shape: Any) -> None:
    ranges = Ranges(scale=(0.3, 0.6), rotation=45.0)
    images = torch.zeros(200, 1, 40, 60)
    seen = apply(Patch.of(torch.ones(1, 20, 20), shape, ranges), images, seed=1)
    placement = place(ranges, 200, (40, 60), shape, torch.Generator().manual_seed(1))
    sides = placement.scale * 40
    expected = sides**2 * (math.pi / 4 if shape == "circle" else 1.0)
    torch.testing.assert_close(seen.sum((1, 2, 3)).double(), expected, rtol=0.06, atol=0)
    assert (placement.scale.min(), placement.scale.max()) == (
        pytest.approx(0.3, abs=0.01),
        pytest.approx(0.6, abs=0.01),
    )
    assert float(placement.angle.abs().max()) == pytest.approx(45, abs=1)
    assert (seen.amax(0) > 0.5).float().mean() > 0.8  # and anywhere in it, the corners aside


def test_gradients_reach_the_patch_within_its_mask_and_a_pixel_around_it() -> None:
    mask = mask_of("circle", 16)
    pixels = torch.full((3, 16, 16), 0.5, requires_grad=True)
    placement = place(Ranges(scale=(0.4, 0.9), rotation=180), 64, (32, 32), "circle", torch.Generator().manual_seed(0))
    paste(pixels, mask, noise(64, 3, 32, 32), placement).square().sum().backward()
    rim = torch.nn.functional.max_pool2d(mask[None], 3, 1, 1)[0].bool()
    assert (pixels.grad[:, mask.bool()] != 0).all()
    assert (pixels.grad[:, ~rim] == 0).all()
    assert (~rim).any()


def test_a_grey_patch_goes_onto_colour_and_not_the_other_way_round() -> None:
    assert apply(Patch.of(torch.ones(1, 4, 4)), torch.zeros(2, 3, 8, 8)).shape == (2, 3, 8, 8)
    with pytest.raises(DataError, match="3 channels cannot be applied to images with 1"):
        apply(Patch.of(torch.ones(3, 4, 4)), torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(
    "given",
    [
        {"scale": (0.0, 0.5)},
        {"scale": (0.6, 0.5)},
        {"scale": (0.5, 1.5)},
        {"rotation": 200.0},
        {"location": (2.0, 0.0)},
    ],
)
def test_impossible_ranges_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        Ranges(**given)


# ---- The file ----


def test_a_patch_survives_its_file_and_needs_no_attack(tmp_path: Path) -> None:
    origin = patches.Origin(target=3, target_name="cat", weights=("a.b",), steps=7, seed=5, command="zoo attack patch")
    made = Patch(noise(3, 8, 8), mask_of("circle", 8), Ranges(scale=(0.2, 0.4), location=(0.1, 0.9)), origin)
    first, second = (made.write(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    stored = read_patch(tmp_path / "a.safetensors")
    assert first == second
    assert torch.equal(stored.pixels, made.pixels)
    assert torch.equal(stored.mask, made.mask)
    assert (stored.ranges, stored.origin) == (made.ranges, made.origin)
    images = noise(5, 3, 16, 16)
    assert torch.equal(apply(stored, images, seed=2), apply(made, images, seed=2))
    assert not torch.equal(apply(stored, images, seed=3, location=(0.5, 0.5)), apply(made, images, seed=2))


def test_another_file_is_no_patch(tmp_path: Path) -> None:
    zoo.fetch(DIGITS)
    with pytest.raises(DataError, match="is not a patch file"):
        read_patch(zoo.fetch(DIGITS))


def test_a_patch_that_does_not_fit_its_mask_is_refused() -> None:
    with pytest.raises(DataError, match="expected C S S and S S"):
        Patch(noise(3, 8, 8), mask_of("circle", 9))
    with pytest.raises(DataError, match="expected"):
        Patch(2 + noise(3, 8, 8), mask_of("circle", 8))


# ---- What it does ----

SMALL = Ranges(scale=(0.5, 0.7), rotation=20.0)


def picture_of(data: ImageSet, target: int, side: int) -> Tensor:
    """Returns a real image of the class, as it is, cut to ``side`` about its middle."""
    image = data.pixels[int((data.labels == target).nonzero()[0])].float() / 255
    return torch.nn.functional.interpolate(image[None], (side, side), mode="bilinear")[0]


def rates(made: Patch, name: str, train: ImageSet, test: ImageSet, target: int, limit: int) -> dict[str, Success]:
    """Returns the scores of the patch, and of what it must beat."""
    side = made.pixels.shape[-1]
    shapes = {"patch": made.pixels, "noise": noise(*made.pixels.shape), "picture": picture_of(train, target, side)}
    held = {kind: Patch(pixels, made.mask, made.ranges, made.origin) for kind, pixels in shapes.items()}
    found = {kind: success(patch, name, test, target=target, limit=limit) for kind, patch in held.items()}
    return found | {"other target": success(made, name, test, target=(target + 1) % 10, limit=limit)}


@pytest.mark.slow
def test_a_patch_on_digits_beats_noise_a_picture_and_other_targets(training_digits: ImageSet, digits: ImageSet) -> None:
    """The median over targets; images of the test split, which the patch has not seen."""
    rows = []
    for target in (0, 3, 8):
        made = train_patch(DIGITS, training_digits, target, ranges=SMALL, steps=60, batch_size=16, lr=0.1)
        assert 0 <= made.pixels.min() <= made.pixels.max() <= 1
        rows.append(rates(made, DIGITS, training_digits, digits, target, 120))
    medians = {kind: sorted(row[kind].rate for row in rows)[1] for kind in rows[0]}
    assert medians["patch"] > 60
    for control in ("noise", "picture", "other target"):
        assert medians[control] < medians["patch"] / 2, medians
    assert all(row["patch"].without < 10 for row in rows)


def test_a_patch_follows_from_its_seed(training_digits: ImageSet) -> None:
    options: dict[str, Any] = {"steps": 3, "batch_size": 4}
    first, again = (train_patch(DIGITS, training_digits, 1, seed=1, **options) for _ in range(2))
    other = train_patch(DIGITS, training_digits, 1, seed=2, **options)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert first.origin.fingerprint == training_digits.fingerprint
    assert (first.origin.target, first.origin.weights, first.origin.seed) == (1, (DIGITS,), 1)


def test_one_patch_is_made_for_several_networks_that_stay_as_they_were(training_digits: ImageSet) -> None:
    networks = [zoo.create(DIGITS), zoo.create("resnet20.digits").eval()]
    before = [{key: value.clone() for key, value in network.state_dict().items()} for network in networks]
    made = train_patch(networks, training_digits, 2, steps=2, batch_size=4)
    assert made.origin.weights == (DIGITS, DIGITS)
    assert [network.training for network in networks] == [True, False]
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"target": 10}, DataError, "Target 10 is not a class of digits"),
        ({"target": 1, "steps": 0}, SpecError, "steps = 0"),
        ({"target": 1, "lr": 0.0}, SpecError, "lr = 0"),
        ({"target": 1, "models": [DIGITS, "resnet20.c10"]}, SpecError, "same input size"),
        ({"target": 1, "models": []}, SpecError, "No network"),
    ],
)
def test_what_no_patch_can_be_made_of_is_refused(
    training_digits: ImageSet, given: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        train_patch(**{"models": DIGITS, "data": training_digits, **given})


# ---- The command line ----


@pytest.mark.parametrize(
    "words",
    [
        ["attack", "patch", "train", DIGITS, "--data", "digits", "--target", "8"],
        ["features", DIGITS, "--data", "digits"],
    ],
    ids=["patch", "features"],
)
def test_tensors_are_written_to_a_safetensors_file_or_not_at_all(words: list[str], tmp_path: Path) -> None:
    refused = ask_warm(*words, "-o", tmp_path / "tensors")
    assert refused.exit_code == 2
    assert "tensors.safetensors" in refused.output.replace("\n", "")
    assert not [*tmp_path.iterdir()]


def test_patches_from_the_command_line(training_digits: ImageSet, tmp_path: Path) -> None:
    file = tmp_path / "patch.safetensors"
    words = ["attack", "patch", "train", DIGITS, "--data", "digits", "--target", "8", "--steps", "3"]
    outcome = told(*words, "--scale", "0.5,0.7", "-o", file)
    assert (outcome["target"], outcome["ranges"]["scale"], outcome["data"]) == (8, [0.5, 0.7], "digits")

    words = ["attack", "patch", "score", str(file), DIGITS, "--data", "digits", "--limit", "40"]
    words += ["-o", str(tmp_path / "p.png")] if find_spec("matplotlib") else []
    outcome = told(*words)
    assert 0 <= outcome["interval"][0] <= outcome["rate"] <= outcome["interval"][1] <= 100
    assert outcome["n"] <= 40

    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    images = [str(tmp_path / "red.png"), str(Path(__file__).parents[3] / "examples" / "digit.png")]
    rows = told("attack", "patch", "apply", file, *images, "-o", tmp_path / "out")["images"]
    with Image.open(rows[0]["patched"]) as patched:
        assert patched.size == (40, 30)
        assert patched.tobytes() != bytes([255, 0, 0]) * 1200


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "patch.safetensors"
    Patch.of(noise(1, 4, 4)).write(file)
    words = ["attack", "patch", "score", str(file), DIGITS, "--data", "digits"]
    assert ask_warm(*words, "--scale", "big").exit_code == 2
    result = ask_warm(*words)
    assert result.exit_code == 1
    assert "has no target class" in result.stderr
