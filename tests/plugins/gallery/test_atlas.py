"""The atlas: computed in parts, resumed at any point, shown as a page for each channel."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image
from support import small_site
from support.command import ask_warm, printed, told

import zoo
from zoo.errors import DataError
from zoo_gallery import atlas
from zoo_gallery import site as gallery

NETWORK = "resnet20.digits"
WORDS = ["gallery", "atlas", NETWORK, "--layer", "act1", "--channels", "12", "--limit", "40", "--steps", "2"]


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas, "_TOGETHER", 8)
        yield


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 of 16 channels, in parts of 8."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    folder = tmp_path_factory.mktemp("atlas") / "atlas"
    (row,) = told(*WORDS, "-o", folder)
    assert (row["layers"], row["channels"], row["computed"]) == (1, 12, 2)
    assert row["size"] == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return folder


@pytest.fixture(scope="module")
def explored(computed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("jinja2", reason="needs jinja2")
    folder = tmp_path_factory.mktemp("explored") / "site"
    printed("gallery", "build", "resnet20", "--atlas", computed, "-o", folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_the_activations_are_those_of_zoo_look_patches(computed: Path) -> None:
    (layer,) = atlas.read(computed)
    digits = zoo.data.load("digits", "test")
    searched = range(0, len(digits), len(digits) // 40)[:40]
    expected = zoo.look.patches(NETWORK, "act1", digits.subset(searched, "test"), channels=range(12), count=9)
    shown = [channel for _, channel in layer.channels]
    assert [channel.number for channel in shown] == [*range(12)]
    for channel, activations, images in zip(shown, expected.activations, expected.images, strict=True):
        assert channel.activations == pytest.approx(activations.tolist(), rel=1e-3)
        assert list(channel.images) == [searched[image] for image in images.tolist()]
        assert list(channel.classes) == [digits.classes[int(digits.labels[image])] for image in channel.images]
    assert layer.has_rest


def unit(**other: Any) -> atlas.Channel:
    """Returns a channel that prefers upright stripes of 4 pixels, with nine cats."""
    known = {
        "number": 3, "activations": (2.0,) * 9, "images": tuple(range(9)), "classes": ("cat",) * 9, "maximum": 3.0,
        "responses": ((1.0, 0.1), (0.5, 0.1)), "best": (4.0, 0.0), "selectivity": 0.8, "gabor": None,
        "gray": None, "axis": None,
    }  # fmt: skip
    return atlas.Channel(**known | other)  # type: ignore[arg-type]  # by name


def test_what_a_channel_prefers_is_said_in_words(computed: Path) -> None:
    (layer,) = atlas.read(computed)
    first = layer.parts[0][1]
    assert first.is_first, "act1 follows the first convolution"
    later = msgspec.structs.replace(first, is_first=False)
    stripes = ["vertical stripes 0°", "high frequency"]
    assert later.preferences(unit()) == ["cat", *stripes]
    assert later.preferences(unit(classes=("cat",) * 4 + ("dog",) * 5)) == ["dog", *stripes]
    assert later.preferences(unit(classes=("cat",) * 4 + ("dog",) * 4 + ("car",))) == stripes, "no majority"
    assert later.preferences(unit(activations=(2.1,) * 9)) == ["cat"], "patches drive it more than twice as much"
    assert later.preferences(unit(selectivity=0.4, best=(4.1, 0.0))) == ["cat", "middle frequency"]
    assert later.preferences(unit(best=(8.1, 22.5))) == ["cat", "oblique stripes 22.5°", "low frequency"]
    assert later.preferences(unit(best=None)) == ["cat"]
    assert first.preferences(unit(gray=0.9, axis=0.0)) == [*stripes, "grey"], "no class: it sees a few pixels"
    assert first.preferences(unit(gray=0.5, axis=0.0)) == stripes
    for axis, words in {
        20: "red and cyan",
        50: "yellow and blue",
        130: "green and magenta",
        170: "red and cyan",
    }.items():
        assert first.preferences(unit(gray=0.1, axis=float(axis))) == [*stripes, words]


def test_images_are_searched_at_equal_distances(tmp_path: Path) -> None:
    """A split may have its classes one after the other."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    atlas.compute(NETWORK, tmp_path / "atlas", layers=["act1"], channels=8, limit=3, steps=1)
    (layer,) = atlas.read(tmp_path / "atlas")
    third = len(zoo.data.load("digits", "test")) // 3
    assert {image for _, channel in layer.channels for image in channel.images} == {0, third, 2 * third}
    assert "3 images at equal distances" in layer.parts[0][1].data


def test_what_was_ended_is_continued_and_nothing_is_computed_twice(computed: Path, tmp_path: Path) -> None:
    """Killed while it wrote the second part: its pictures are there, and not its description."""
    folder = tmp_path / "atlas"
    shutil.copytree(computed, folder)
    (folder / NETWORK / "act1" / "00008.json").unlink()
    first = folder / NETWORK / "act1" / "00000.json"
    before = first.stat().st_mtime_ns
    made = atlas.compute(NETWORK, folder, layers=["act1"], channels=12, limit=40, steps=2)
    assert made.computed == 1
    assert first.stat().st_mtime_ns == before
    assert contents(folder) == contents(computed), "equal inputs give equal bytes"


def test_fewer_channels_leave_what_is_there(computed: Path, tmp_path: Path) -> None:
    shutil.copytree(computed, tmp_path / "atlas")
    found = atlas.compute(NETWORK, tmp_path / "atlas", layers=["act1"], channels=3, limit=40, steps=2)
    assert (found.channels, found.computed) == (3, 0)
    assert contents(tmp_path / "atlas") == contents(computed)


def test_other_settings_compute_a_part_again(computed: Path, tmp_path: Path) -> None:
    shutil.copytree(computed, tmp_path / "atlas")
    found = atlas.compute(NETWORK, tmp_path / "atlas", layers=["act1"], channels=2, limit=30, steps=1)
    assert found.computed == 1


def test_the_first_layer_is_the_first_of_the_default_layers(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    words = ["gallery", "atlas", NETWORK, "--first", "--channels", "1", "--limit", "9", "--steps", "1"]
    printed(*words, "--data", "digits", "--split", "test", "-o", tmp_path / "atlas")
    assert [layer.name for layer in atlas.read(tmp_path / "atlas")] == ["act1"]
    done = ask_warm(*words, "--layer", "layer1", "-o", tmp_path / "atlas")
    assert done.exit_code == 2
    assert "--first has no effect with --layer" in done.stderr


def test_without_names_all_embedded_weights_are_meant() -> None:
    names = atlas.embedded()
    assert NETWORK in names
    assert all(zoo.info(name)["weights"][0]["hub"].startswith("embedded:") for name in names)


def test_each_channel_has_a_page_with_its_own_pictures(explored: Path, computed: Path) -> None:
    folder = explored / "atlas" / NETWORK / "act1"
    assert {file.name for file in folder.glob("*.html")} == {"index.html", *(f"{n}.html" for n in range(12))}
    (layer,) = atlas.read(computed)
    part, channel = layer.channels[9]
    page = small_site.Page(folder / "9.html")
    views = [image["viewbox"] for tag, image in page.elements if tag == "svg" and image.get("class") == "crop"]
    files = [image for tag, image in page.elements if tag == "image"]
    kinds = ("maximum", "patches", "projections", "field")
    assert {*kinds} == {*part.tiles}
    assert ", ".join(part.preferences(channel)) in " ".join(page.text)
    assert [image["href"] for image in files] == [f"00008.{kind}.webp" for kind in kinds]
    for view, image, kind in zip(views, files, kinds, strict=True):
        width, height = part.tiles[kind]
        assert view == f"0 {height} {width} {height}", "the second of its part"
        with Image.open(folder / str(image["href"])) as sheet:
            assert sheet.size == (int(image["width"] or 0), int(image["height"] or 0)) == (width, 4 * height)
    text = " ".join(page.text)
    assert f"images {', '.join(map(str, channel.images))}" in text
    assert {"8.html", "10.html", "index.html"} <= set(page.links)


def test_links_within_the_atlas_lead_to_pages(explored: Path) -> None:
    pages = small_site.pages(explored)
    for file, page in pages.items():
        for link in (*page.links, *page.loads):
            if not link.startswith("http"):
                assert (file.parent / re.split("[?#]", link)[0]).resolve().is_file() or link.startswith("#"), (
                    file,
                    link,
                )
    assert f"../atlas/{NETWORK}/act1/index.html" in pages[explored / "models" / "resnet20.html"].links
    assert "atlas.html" in pages[explored / "index.html"].links


def test_a_second_build_writes_nothing_and_one_without_the_atlas_removes_it(
    explored: Path, computed: Path, tmp_path: Path
) -> None:
    shutil.copytree(explored, tmp_path / "site")
    assert gallery.build(tmp_path / "site", ["resnet20"], channels=computed).written == 0
    gallery.build(tmp_path / "site", ["resnet20"])
    gallery.build(tmp_path / "new", ["resnet20"])
    assert contents(tmp_path / "site") == contents(tmp_path / "new")


def test_the_atlas_of_the_site_is_of_the_published_weights() -> None:
    """They need a data set and so are part of the repository: they must be of this format and of these weights."""
    layers = atlas.read(Path(__file__).parents[3] / "docs" / "atlas")
    assert {layer.weights for layer in layers} >= {"resnet20.c10", "alexnet_small.c10"}
    for layer in layers:
        (known,) = zoo.info(layer.weights)["weights"]
        for _, part in layer.parts:
            assert part.settings == msgspec.structs.replace(
                part.settings, sha256=known["sha256"], version=atlas.VERSION
            )


def test_a_folder_that_holds_no_atlas_is_refused(computed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no atlas"):
        atlas.read(tmp_path)
    shutil.copytree(computed, tmp_path / "atlas")
    (tmp_path / "atlas" / NETWORK / "act1" / "00000.json").write_text("{}")
    with pytest.raises(DataError, match="is not a part of an atlas"):
        gallery.build(tmp_path / "site", ["resnet20"], channels=tmp_path / "atlas")
