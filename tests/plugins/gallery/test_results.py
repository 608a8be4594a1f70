"""How networks fail: the results that the site shows are those of the files."""

import base64
import collections
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import small_site
from support.command import printed, told

import zoo
from zoo.errors import DataError
from zoo_gallery import results
from zoo_gallery import site as gallery

ATTACKED: list[dict[str, Any]] = json.loads(small_site.ROBUSTNESS.read_bytes())


@pytest.fixture
def invariance(tmp_path: Path) -> Path:
    """What ``zoo look invariance`` measured for a network."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    file = tmp_path / "invariance.json"
    words = ["look", "invariance", "resnet20.digits", "--data", "digits", "--limit", "40"]
    printed(*words, "--transform", "rotation=0,90", "--transform", "blur=1", "-o", file)
    return file


def rows(file: Path) -> list[list[str]]:
    """Returns the cells of the tables of failures on a page."""
    text = file.read_text(encoding="utf-8")
    tables = [part.partition("</table>")[0] for part in text.split(' on changed images"')[1:]]
    found = [row for table in tables for row in table.partition("<tbody>")[2].split("<tr>")[1:]]
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in found]


def test_robust_accuracy_is_that_of_the_file_with_its_interval_images_and_command(site: Path) -> None:
    page = site / "models" / "resnet20.html"
    curves = [curve for curve in ATTACKED if curve["weights"] == "resnet20.c10"]
    points = [(curve["method"]["name"], point) for curve in curves for point in curve["points"]]
    shown = rows(page)
    assert len(shown) == len(points) == 21
    for (name, strength, _, top1, interval), (method, point) in zip(shown, points, strict=True):
        assert name == method
        assert float(strength) == pytest.approx(255 * point["epsilon"], rel=1e-3)
        assert top1 == f"{point['accuracy']:.2f}%"
        assert interval == "{:.2f} to {:.2f}".format(*point["interval"])
    text = " ".join(small_site.Page(page).text)
    assert curves[0]["command"] in text
    assert curves[0]["fingerprint"] in text
    assert "How it fails" not in (site / "models" / "plain20.html").read_text(encoding="utf-8")


def test_scores_of_transformed_images_are_those_of_the_file(tmp_path: Path, invariance: Path) -> None:
    words = ["gallery", "build", "resnet20", "-o", str(tmp_path / "site"), "--failures", str(invariance)]
    words += ["--failures", str(small_site.ROBUSTNESS)]
    printed(*words)
    points = json.loads(invariance.read_bytes())["points"]
    shown = [row for row in rows(tmp_path / "site" / "models" / "resnet20.html") if row[0] in ("rotation", "blur")]
    assert [(row[0], float(row[1]), row[3]) for row in shown] == [
        (point["transformation"], point["strength"], f"{point['top1']:.2f}%") for point in points
    ]


def test_a_chart_of_failures_has_a_line_a_method_and_a_marker_a_point(site: Path) -> None:
    page = small_site.Page(site / "models" / "resnet20.html")
    every = [given for tag, given in page.elements if tag == "polyline"]
    lines = [given for given in every if len((given["points"] or "").split()) == 7]  # not the curves of trainings
    assert [given["class"] for given in lines] == ["line c0", "line c1", "line c2"]
    for given in lines:
        places = [tuple(map(float, pair.split(","))) for pair in (given["points"] or "").split()]
        assert places == sorted(places), "from left to right"
        assert [y for _, y in places] == sorted(y for _, y in places), "accuracy falls, and y points down"


WITHOUT_POINTS = json.dumps([{**ATTACKED[0], "points": []}])


@pytest.mark.parametrize(
    "text", ["", "[]x", "{}", '[{"weights": "resnet20.c10"}]', '{"data": "", "fingerprint": ""}', WITHOUT_POINTS]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read as results"):
        gallery.build(tmp_path / "site", ["zfnet"], failures=[tmp_path / "other.json"])
    assert not (tmp_path / "site").exists()


def test_a_unit_that_is_missing_is_an_error(tmp_path: Path, invariance: Path) -> None:
    content = json.loads(invariance.read_bytes())
    del content["units"]["rotation"]
    invariance.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cannot be read as results: 'rotation'"):
        results.read([invariance])


def test_two_files_with_one_curve_are_refused() -> None:
    with pytest.raises(DataError, match=r"second result of resnet20\.c10, random_sign on cifar10/test"):
        results.read([small_site.ROBUSTNESS, small_site.ROBUSTNESS])


# ---- confusion ------------------------------------------------------------------------------------------


def confused(classes: list[str], counts: list[list[int]]) -> dict[str, Any]:
    """Returns what ``zoo look confusion`` writes."""
    return {
        "kind": "confusion", "caption": "", "weights": "resnet20.digits", "data": "digits/test",
        "fingerprint": "sha256:0", "n": 100, "correct": 57, "classes": classes, "counts": counts,
    }  # fmt: skip


def test_a_confusion_matrix_is_that_of_zoo_look_confusion(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    file = tmp_path / "confusion.json"
    printed("look", "confusion", "resnet20.digits", "--limit", "50", "-o", file)
    gallery.build(tmp_path / "site", ["resnet20"], failures=[file])
    text = (tmp_path / "site" / "models" / "resnet20.html").read_text(encoding="utf-8")
    table = text.partition('aria-label="Confusion matrix of resnet20.digits on digits/test"')[2].partition("</table>")[
        0
    ]
    shown = [re.findall(r"<td[^>]*>(\d+)</td>", row) for row in table.partition("<tbody>")[2].split("<tr>")[1:]]
    assert [[int(count) for count in row] for row in shown] == json.loads(file.read_bytes())["counts"]
    assert "50 images of digits/test" in table


def test_of_many_classes_the_pairs_that_are_confused_most_are_listed(tmp_path: Path) -> None:
    names = [f"<b>{number}" for number in range(30)]
    counts = [[0] * 30 for _ in names]
    counts[4][5], counts[6][7], counts[8][8] = 3, 40, 57
    (tmp_path / "many.json").write_text(json.dumps(confused(names, counts)))
    gallery.build(tmp_path / "site", ["resnet20"], failures=[tmp_path / "many.json"])
    page = (tmp_path / "site" / "models" / "resnet20.html").read_text(encoding="utf-8")
    table = page.partition('aria-label="Classes that resnet20.digits confuses')[2].partition("</table>")[0]
    assert re.findall(r">&lt;b&gt;(\d+)</td>|>(\d+)</td>", table) == [("7", ""), ("", "40"), ("5", ""), ("", "3")]


def test_counts_that_do_not_fit_the_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(confused(["a", "b"], [[1, 2], [3]])))
    with pytest.raises(DataError, match="2 classes have counts of 1, 2"):
        results.read([tmp_path / "wrong.json"])


# ---- pictures -------------------------------------------------------------------------------------------


def build(folder: Path, file: Path) -> Path:
    """Returns the page of resnet20 on a site that shows ``file``."""
    printed("gallery", "build", "resnet20", "-o", folder, "--failures", file)
    return folder / "models" / "resnet20.html"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``zoo attack series`` wrote, for three images at three epsilons."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    file = tmp_path_factory.mktemp("series") / "series.json"
    words = [
        "attack",
        "series",
        "resnet20.digits",
        "--data",
        "digits",
        "--limit",
        "3",
        "--attack",
        "pgd",
        "--steps",
        "4",
    ]
    assert told(*words, "--epsilons", "0.1,0.5", "--seed", "1", "-o", file)["epsilons"] == [0, 0.1, 0.5]
    return file


def test_predictions_under_attack_are_those_for_the_pictures_that_are_shown(series: Path) -> None:
    """The network is asked again, about the pixels of the file."""
    made = json.loads(series.read_bytes())
    with Image.open(io.BytesIO(base64.b64decode(made["sheet"]))) as sheet:
        pixels = torch.from_numpy(np.asarray(sheet.convert("L")).copy())
    width, height = made["tile"]
    tiles = pixels.unfold(0, height, height).unfold(1, width, width)  # images, epsilons, height, width
    assert tiles.shape[:2] == (3, 3)
    network = zoo.attack.PixelModel.of(zoo.create("resnet20.digits").eval())
    digits = zoo.data.load("digits", "test")
    for row, attacked in zip(tiles, made["attacked"], strict=True):
        assert row[0].equal(digits.pixels[attacked["image"], 0]), "without attack, the image itself"
        assert attacked["label"] == int(digits.labels[attacked["image"]])
        with torch.no_grad():
            answers = network(row[:, None].float() / 255).softmax(1)
        assert answers.argmax(1).tolist() == [said["index"] for said in attacked["said"]]
        assert answers.amax(1).tolist() == pytest.approx([said["probability"] for said in attacked["said"]], abs=1e-3)
        for tile, epsilon in zip(row, made["epsilons"], strict=True):
            assert int((tile.int() - row[0].int()).abs().max()) <= 255 * epsilon + 0.5


def test_a_page_shows_every_prediction_under_attack_and_the_pictures(series: Path, tmp_path: Path) -> None:
    made = json.loads(series.read_bytes())
    page = build(tmp_path / "site", series)
    text = page.read_text(encoding="utf-8")
    table = text.partition('attacked by pgd"')[2].partition("</table>")[0]
    shown = re.findall(r"</svg>([✓✗]) ([^,<]*), (\d+)%</td>", table)
    expected = [
        ("✓" if said["index"] == one["label"] else "✗", said["name"], f"{100 * said['probability']:.0f}")
        for one in made["attacked"]
        for said in one["said"]
    ]
    assert shown == expected
    (picture,) = (tmp_path / "site" / "failures").iterdir()
    assert picture.read_bytes() == base64.b64decode(made["sheet"])
    assert text.count(f"../failures/{picture.name}") == 3 + 9
    gallery.build(tmp_path / "site", ["resnet20"])
    assert not picture.exists(), "a later build without the file removes its pictures"


def test_the_images_that_are_confused_most_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "confusion.json"
    confusion = zoo.look.confusion(always_seven(), limit=60, examples=2)
    confusion.save(file)
    examples = json.loads(file.read_bytes())["examples"]
    assert [example["predicted"] for example in examples["images"]] == ["7"] * len(examples["images"])
    counts = collections.Counter(example["true"] for example in examples["images"])
    assert set(counts.values()) <= {1, 2}
    assert len(counts) == 9
    digits = zoo.data.load("digits", "test")
    for example, picture in zip(examples["images"], confusion.pictures, strict=True):
        assert picture.equal(digits.pixels[example["image"]])
        assert int(digits.labels[example["image"]]) == int(example["true"])
    page = build(tmp_path / "site", file).read_text(encoding="utf-8")
    for example in examples["images"]:
        assert f"{example['true']}, classified as 7" in page


def always_seven() -> torch.nn.Module:
    network = zoo.create("resnet20.digits")
    with torch.no_grad():
        network.get_classifier().bias[7] += 1000
    return network


def test_examples_of_the_confused_classes_are_only_there_if_they_are_asked_for(tmp_path: Path) -> None:
    words = ["look", "confusion", "resnet20.digits", "--limit", "50", "--examples", "3"]
    assert "examples" not in told(*words), "of the first 50 images, none is confused"


def test_a_patch_to_print_is_shown_with_its_score(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    pixels = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0))
    patch = zoo.attack.Patch(pixels, torch.ones(7, 7), zoo.attack.Ranges())
    patch.write(tmp_path / "patch.safetensors")
    words = ["attack", "patch", "score", str(tmp_path / "patch.safetensors"), "resnet20.digits", "--data", "digits"]
    file = tmp_path / "patch.json"
    printed(*words, "--target", "3", "--limit", "40", "-o", file)
    scored = json.loads(file.read_bytes())
    page = build(tmp_path / "site", file)
    text = page.read_text(encoding="utf-8")
    assert f"{scored['rate']:.2f}% of {scored['n']} images of other classes" in text
    (picture,) = (tmp_path / "site" / "failures").iterdir()
    assert f"../failures/{picture.name}" in small_site.Page(page).links
    with Image.open(picture) as paper:
        shown = torch.from_numpy(np.asarray(paper.convert("L")).copy())
    assert min(shown.shape) >= 512
    assert len(shown) % 7 == 0
    times = len(shown) // 7
    assert shown[::times, ::times].equal((pixels[0] * 255).round().byte())


def test_a_series_with_missing_predictions_is_refused(series: Path, tmp_path: Path) -> None:
    made = json.loads(series.read_bytes())
    del made["attacked"][1]["said"][0]
    (tmp_path / "series.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match="no prediction for each of 3 epsilons"):
        results.read([tmp_path / "series.json"])
    with pytest.raises(DataError, match=r"second result of resnet20\.digits, series pgd on digits/test"):
        results.read([series, series])
