"""``zoo data check`` finds what was planted in a folder of digits, and changes nothing."""

import json
import re
from base64 import b64decode
from hashlib import sha256
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.command import ask_warm as ask

from zoo import data
from zoo.data.image_file import to_image

imagehash = pytest.importorskip("imagehash", reason="needs zoo-vision[check]")

PER_CLASS = 24
MISLABELED = ("train/2/was_0.png", "train/1/was_3.png")
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits 0 to 3, two in the wrong folder, with duplicates, a truncated file and a turned one."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    digits = data.load("digits")
    for label in range(4):
        numbers = (digits.labels == label).nonzero()[:, 0].tolist()
        for place, number in enumerate(numbers[: PER_CLASS + 4]):
            split = "train" if place < PER_CLASS else "test"
            file = folder / split / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            to_image(digits.pixels[number]).resize((48, 48), Image.Resampling.BICUBIC).save(file)
    for name, label in zip(MISLABELED, (0, 3), strict=True):
        first = min((folder / "train" / str(label)).iterdir(), key=lambda file: int(file.stem))
        first.rename(folder / name)
    in_train = sorted((folder / "train" / "0").iterdir())
    (folder / "test" / "0" / "copy.png").write_bytes(in_train[0].read_bytes())
    Image.open(in_train[1]).save(folder / "train" / "0" / HOSTILE, quality=60)
    Image.open(in_train[2]).save(folder / "train" / "0" / "again.jpg", quality=60)
    whole = in_train[3].read_bytes()
    (folder / "train" / "3" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(in_train[4]).save(folder / "train" / "0" / "turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def report(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The findings as JSON, and the page."""
    before = contents(photos)
    page = tmp_path_factory.mktemp("page") / "page.html"
    answer = ask("data", "check", photos, "--network", "resnet20.digits", "-o", page, "--json", "--device", "cpu")
    assert answer.exit_code == 1, answer.stderr  # an image that cannot be read
    assert contents(photos) == before, "nothing is changed"
    return json.loads(answer.stdout), page.read_text()


def contents(folder: Path) -> dict[str, str]:
    return {str(file): sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def finding(report: dict[str, Any], kind: str) -> dict[str, Any]:
    [row] = [row for row in report["findings"] if row["kind"] == kind]
    return row


def test_the_planted_labels_are_the_most_doubtful(report: tuple[dict[str, Any], str]) -> None:
    first = report[0]["doubtful"][: len(MISLABELED)]
    assert {row["file"] for row in first} == {*MISLABELED}
    assert {row["file"]: row["likelier"] for row in first} == dict(zip(MISLABELED, "03", strict=True))
    shares = [row["probability"] for row in report[0]["doubtful"]]
    assert shares == sorted(shares)
    assert max(shares) < 0.1


def test_a_copy_in_another_split_is_found(report: tuple[dict[str, Any], str]) -> None:
    row = finding(report[0], "exact duplicates across splits")
    assert row["level"] == "warning"
    [group] = row["groups"]
    assert "test/0/copy.png" in group
    assert any(name.startswith("train/0/") for name in group)


def test_the_same_pixels_under_another_name_are_exact_duplicates(report: tuple[dict[str, Any], str]) -> None:
    [group] = finding(report[0], "exact duplicates within a split")["groups"]
    assert f"train/0/{HOSTILE}" in group


def test_near_duplicates_are_those_of_imagehash(photos: Path, report: tuple[dict[str, Any], str]) -> None:
    groups = [row["groups"] for row in report[0]["findings"] if row["kind"].startswith("near duplicates")]
    linked = [set(group) for part in groups for group in part]
    assert any("train/0/again.jpg" in group for group in linked), "the same photograph as a JPEG"
    hashes = {}
    for file in sorted(photos.rglob("*.*")):
        if file.name not in ("truncated.png", "turned.jpg"):
            hashes[file.relative_to(photos).as_posix()] = imagehash.phash(Image.open(file).convert("RGB"))
    for name, value in hashes.items():
        for other, second in hashes.items():
            if name < other and 0 < value - second <= 4:
                assert any({name, other} <= group for group in linked), (name, other)


def test_the_truncated_and_the_turned_image_are_named(report: tuple[dict[str, Any], str]) -> None:
    assert finding(report[0], "unreadable")["files"] == ["train/3/truncated.png"]
    assert finding(report[0], "orientation")["files"] == ["train/0/turned.jpg"]
    assert all(row["advice"] for row in report[0]["findings"])


def test_the_page_shows_thumbnails_and_needs_nothing_else(report: tuple[dict[str, Any], str]) -> None:
    page = report[1]
    sources = re.findall(r'<img src="([^"]*)"', page)
    assert sources
    for source in sources:
        kind, _, encoded = source.partition(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(BytesIO(b64decode(encoded))).size <= (112, 112)
    assert HOSTILE not in page, "names of files are escaped"
    assert HOSTILE in unescape(page)
    assert not re.search(r"https?://|<script", page)


def test_a_folder_too_high_is_the_only_finding(photos: Path) -> None:
    answer = ask("data", "check", photos.parent, "--json", "--device", "cpu")
    assert answer.exit_code == 1
    [row] = json.loads(answer.stdout)["findings"]
    assert (row["level"], row["advice"]) == ("error", f"Did you mean {photos}?")


def test_what_was_found_is_printed_with_what_to_do(photos: Path) -> None:
    answer = ask("data", "check", photos, "--no-labels", "--device", "cpu")
    assert answer.exit_code == 1
    assert "error: 1 image cannot be read: train/3/truncated.png" in answer.stdout
    assert "Download or convert them again" in answer.stdout
    assert "doubtful" not in answer.stdout


def test_duplicates_and_doubt_are_as_wide_as_asked(photos: Path) -> None:
    words = ("data", "check", photos, "--network", "resnet20.digits", "--json", "--device", "cpu")
    strict = json.loads(ask(*words, "--distance", "0", "--doubt", "0").stdout)
    assert strict["doubtful"] == []
    wide = json.loads(ask(*words, "--distance", "20", "--doubt", "0.5").stdout)
    assert len(wide["doubtful"]) >= len(MISLABELED)
    near = [
        sum(len(row["files"]) for row in part["findings"] if row["kind"].startswith("near")) for part in (strict, wide)
    ]
    assert near[0] < near[1]
