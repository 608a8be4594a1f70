"""The page of Gabor filters: its filters are zoo's, its cells respond as they should."""

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zoo.data.image_file import read_image
from zoo.modules.gabor import gabor_filter

pytestmark = pytest.mark.may_skip  # the browser is a package of the system

PHOTO = Path(__file__).parents[3] / "examples" / "digit.png"

FILTERS = """async (every) => {
  const { gaborFilter } = await import(new URL("assets/cells.mjs", document.baseURI).href);
  return every.map((options) => {
    const { even, odd } = gaborFilter(options);
    return [[...even], [...odd]];
  });
}"""
RESPONSES = """async ([image, side, options]) => {
  const { gaborFilter, responses, rings } = await import(new URL("assets/cells.mjs", document.baseURI).href);
  const { simple, complex } = responses(image ?? rings(side), side, gaborFilter(options));
  return [[...simple], [...complex]];
}"""
RINGS_SIDE = 160


def pixels(page: Any, canvas: str) -> np.ndarray:
    """Returns the grey levels of a canvas."""
    data = page.locator(canvas).evaluate("(one) => one.toDataURL()").partition(",")[2]
    return np.asarray(read_image(base64.b64decode(data), "canvas", 1)).astype(int)


def moved(page: Any, label: str, key: str) -> None:
    page.get_by_label(label).press(key)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_filters_of_the_page_are_those_of_zoo(page: Any, address: str) -> None:
    page.goto(f"{address}gabor.html")
    settings = [
        {"wavelength": 8.0, "orientation": math.radians(30), "phase": 0.0, "size": 27, "removeDc": True},
        {"wavelength": 3.0, "orientation": 0.0, "phase": math.radians(90), "size": 5, "removeDc": True},
        {"wavelength": 16.0, "orientation": math.radians(175), "phase": math.radians(250), "size": 41, "gamma": 1.0},
        {"wavelength": 5.5, "orientation": math.radians(90), "phase": 1.0, "size": 15, "removeDc": False},
    ]
    for setting, parts in zip(settings, page.evaluate(FILTERS, settings), strict=True):
        options = dict(setting)
        has_no_dc = options.pop("removeDc", True)
        for part, values in zip(("even", "odd"), parts, strict=True):
            expected = gabor_filter(**options, part=part, remove_dc=has_no_dc)
            ours = torch.tensor(values, dtype=torch.float64).view_as(expected)
            assert (ours - expected).abs().max() < 1e-12, (setting, part)


def test_responses_are_the_correlation_with_the_filter_and_the_energy_of_both_parts(page: Any, address: str) -> None:
    page.goto(f"{address}gabor.html")
    image = torch.rand(20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    setting = {"wavelength": 6.0, "orientation": 0.7, "phase": 0.4, "size": 11}
    simple, complex_ = page.evaluate(RESPONSES, [image.flatten().tolist(), 20, setting])
    padded = F.pad(image[None, None], (5, 5, 5, 5), mode="replicate")
    even, odd = (
        F.conv2d(padded, gabor_filter(**setting, part=part, remove_dc=True)[None, None]).flatten()
        for part in ("even", "odd")
    )
    assert torch.tensor(simple, dtype=torch.float64).allclose(even.clamp(min=0), atol=1e-12)
    assert torch.tensor(complex_, dtype=torch.float64).allclose((even**2 + odd**2).sqrt(), atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 90])
def test_the_complex_cell_finds_its_orientation_and_wavelength_in_the_rings(
    page: Any, address: str, degrees: int
) -> None:
    """The rings' phase grows by pi / 240 times the squared distance: their wavelength is 8 at a distance of 30."""
    page.goto(f"{address}gabor.html")
    setting = {"wavelength": 8.0, "orientation": math.radians(degrees), "phase": 0.0, "size": 27}
    _, energy = page.evaluate(RESPONSES, [None, RINGS_SIDE, setting])
    row, column = divmod(int(np.argmax(energy)), RINGS_SIDE)
    x, y = abs(column - (RINGS_SIDE - 1) / 2), abs(row - (RINGS_SIDE - 1) / 2)
    along, across = (x, y) if degrees == 0 else (y, x)
    assert along == pytest.approx(30, abs=4)
    assert across < 4


def test_the_phase_changes_the_simple_cell_and_not_the_complex_cell(page: Any, address: str) -> None:
    page.goto(f"{address}gabor.html")
    page.get_by_role("status").get_by_text("The rings.").wait_for()
    moved(page, "Orientation", "Home")
    before = {name: pixels(page, f"#{name}") for name in ("filter", "simple", "complex")}
    for _ in range(9):  # 90 degrees
        moved(page, "Phase", "ArrowRight")
    after = {name: pixels(page, f"#{name}") for name in before}
    assert np.abs(after["filter"] - before["filter"]).max() > 50
    assert np.abs(after["simple"] - before["simple"]).max() > 50
    assert np.abs(after["complex"] - before["complex"]).max() <= 2


@pytest.mark.slow
def test_the_readers_image_is_shown_and_the_rings_come_back(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}gabor.html")
    page.get_by_role("status").get_by_text("The rings.").wait_for()
    rings = pixels(page, "#image")
    page.get_by_label("Your own image").set_input_files(PHOTO)
    page.get_by_role("status").get_by_text("Your image.").wait_for()
    moved(page, "Phase", "Home")
    assert not np.array_equal(pixels(page, "#image"), rings)
    page.get_by_role("button", name="Show the rings").click()
    moved(page, "Phase", "Home")
    assert np.array_equal(pixels(page, "#image"), rings)
    (tmp_path / "text.png").write_text("no image")
    page.get_by_label("Your own image").set_input_files(tmp_path / "text.png")
    page.get_by_text("This file is not an image that the browser can read.").wait_for()
