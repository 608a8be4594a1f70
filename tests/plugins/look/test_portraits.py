"""Portraits of channels: tuning to gratings, patches at the border, linear receptive fields."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo.data.image_file import webp
from zoo.evaluation import frozen
from zoo.modules.gabor import gabor_filter
from zoo_look.portraits import ORIENTATIONS, Field, Portraits, portray, tuning


class Cells(nn.Module):
    """Simple cells with the Gabor filters of four orientations, and one that only sees brightness."""

    DEGREES = (0.0, 45.0, 90.0, 135.0)

    def __init__(self) -> None:
        super().__init__()
        kernels = [
            gabor_filter(5.0, math.radians(angle), size=11, remove_dc=True).float().expand(3, -1, -1)
            for angle in self.DEGREES
        ]
        self.cells = nn.Conv2d(3, 5, 11, padding=5, bias=False)
        self.cells.weight.data = torch.stack([*kernels, torch.full_like(kernels[0], 0.01)])
        self.relu = nn.ReLU()
        self.zoo_info = zoo.create("resnet20").zoo_info

    def forward(self, images: Tensor) -> Tensor:
        responses: Tensor = self.relu(self.cells(images))
        return responses


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells().eval()


@pytest.fixture(scope="module")
def made(cells: Cells) -> Portraits:
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = zoo.data.ImageSet("noise", "test", ("noise",), torch.zeros(12, dtype=torch.int64), pixels)
    with frozen(cells):
        (made,) = portray(cells, "relu", images, [range(5)], steps=30)
    return made


def test_a_gabor_filter_prefers_its_own_orientation_and_wavelength(cells: Cells) -> None:
    tuned = tuning(cells, "relu")
    assert tuned.responses.shape == (5, len(tuned.wavelengths), ORIENTATIONS)
    for channel, degrees in enumerate(Cells.DEGREES):
        best = tuned.best(channel)
        wavelength, orientation = best
        assert orientation == degrees
        nearest = min(tuned.wavelengths, key=lambda length: abs(math.log(length / 5)))
        assert wavelength == nearest
        assert tuned.selectivity(channel) > 0.5


def test_a_cell_without_a_preferred_orientation_is_not_selective(cells: Cells) -> None:
    found = tuning(cells, "relu")
    assert found.selectivity(4) < 0.2


def test_the_linear_field_of_a_convolution_is_its_filter_and_the_nearest_gabor_filter_fits(
    cells: Cells, made: Portraits
) -> None:
    assert made.field.weight.allclose(cells.cells.weight, atol=1e-6)
    assert made.field.nearest.error[:4].max() < 0.05
    degrees = made.field.nearest.orientation[:4].rad2deg()
    assert degrees.remainder(180).tolist() == pytest.approx(Cells.DEGREES, abs=2)


def test_the_fields_of_the_first_convolution_are_known_as_such(cells: Cells, made: Portraits) -> None:
    assert made.field.is_first
    twice = nn.Sequential(cells.cells, nn.Conv2d(5, 5, 1))
    twice.zoo_info = cells.zoo_info
    pixels = torch.full((9, 3, 32, 32), 200, dtype=torch.uint8)
    images = zoo.data.ImageSet("grey", "test", ("grey",), torch.zeros(9, dtype=torch.int64), pixels)
    with frozen(twice):
        (second,) = portray(twice, "1", images, [range(5)], steps=1)
    assert not second.field.is_first


def test_the_colours_of_a_field_are_its_axis_of_hue() -> None:
    wave = torch.linspace(-1, 1, 9).view(3, 3)
    colors = {"grey": (1, 1, 1), "red": (1, 0, 0), "yellow": (0.5, 0.5, -1), "green": (-1, 2, -1), "blue": (0, 0, 1)}
    weight = torch.stack([torch.tensor(color).float()[:, None, None] * wave for color in colors.values()])
    found = dict(zip(colors, Field(weight, None, is_first=True).colors(), strict=True))
    assert found["grey"][0] == pytest.approx(1)
    assert found["red"] == pytest.approx((1 / 3, 0), abs=1e-6), "a third of red is grey"
    assert found["yellow"] == pytest.approx((0, 60), abs=1e-4)
    assert found["green"] == pytest.approx((0, 120), abs=1e-4)
    assert found["blue"][1] == pytest.approx(60, abs=1e-4), "blue lies opposite to yellow"
    assert Field(weight[:, :1], None, is_first=True).colors() == []


def test_the_maximising_image_drives_the_unit_more_than_the_strongest_patch(made: Portraits) -> None:
    assert [image.shape for image in made.maxima] == [(3, 11, 11)] * 5
    assert all(value > float(most) for value, most in zip(made.values, made.strongest.activations[:, 0], strict=True))


def test_patches_at_the_border_keep_their_place_and_are_transparent_beyond_it(made: Portraits) -> None:
    seen_border = False
    for unit in range(5):
        boxes = made.strongest.boxes[unit].tolist()
        for patch, (top, left, bottom, right) in zip(made.patches(unit), boxes, strict=True):
            assert patch.shape == (4, 11, 11)
            rows, columns = (patch[3] > 0).any(1), (patch[3] > 0).any(0)
            assert (int(rows.sum()), int(columns.sum())) == (bottom - top, right - left)
            if bottom - top < 11:
                seen_border = True
                assert bool(rows[-1]) == (top == 0), "what is missing lies above the image, or below"
    assert seen_border


def test_projections_have_the_places_of_their_patches(made: Portraits) -> None:
    for patch, projection in zip(made.patches(0), made.projections(0), strict=True):
        assert projection[3].equal(patch[3])


def test_a_network_without_relus_has_no_projections_and_one_without_gradient_no_maxima() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bright = nn.Identity()
            self.zoo_info = zoo.create("resnet20").zoo_info

        def forward(self, images: Tensor) -> Tensor:
            bright: Tensor = self.bright((images > 0).float().detach())
            return bright

    pixels = torch.full((9, 3, 32, 32), 200, dtype=torch.uint8)
    images = zoo.data.ImageSet("grey", "test", ("grey",), torch.zeros(9, dtype=torch.int64), pixels)
    (made,) = portray(Counts().eval(), "bright", images, [range(3)], steps=2)
    assert made.projections(0) == []
    assert made.maxima == []
    assert made.field is None
    assert len(made.patches(0)) == 9


def test_small_pictures_are_stored_exactly_and_large_ones_nearly() -> None:
    noise = torch.rand(3, 40, 24, generator=torch.Generator().manual_seed(0))
    exact = (noise * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(webp(noise)))), exact)
    smooth = torch.linspace(0, 1, 64).expand(3, 64, 64)
    lossy = np.asarray(Image.open(io.BytesIO(webp(smooth, tile=64)))).astype(int)
    assert np.abs(lossy - (smooth * 255).permute(1, 2, 0).numpy()).mean() < 4
