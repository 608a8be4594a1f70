"""Folders of one's own photographs: what is wrong with them is said before the first epoch."""

from pathlib import Path

import pytest
from PIL import Image
from support.command import ask_warm as ask

from zoo import data
from zoo.data import folder_check
from zoo.errors import DataError

TRAIN = ("train", "resnet8", "--set", "epochs=1", "--device", "cpu")


def photograph(file: Path, shade: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 255 - shade, 90)).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of birds in two splits, in a folder of its own."""
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            photograph(tmp_path / "parent" / "photos" / split / "crow" / f"{number}.png", 20 * number)
            photograph(tmp_path / "parent" / "photos" / split / "jay" / f"{number}.png", 255 - 20 * number)
    return tmp_path / "parent" / "photos"


def kinds(folder: Path) -> dict[str, str]:
    return {finding.kind: finding.level for finding in folder_check.check_structure(folder)}


def test_a_folder_too_high_is_refused_and_the_right_one_named(photos: Path, tmp_path: Path) -> None:
    answer = ask(*TRAIN, "--data", photos.parent, "-o", tmp_path / "run")
    assert answer.exit_code == 1
    assert f"Did you mean {photos}?" in answer.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(DataError, match="but holds one: 'photos'"):
        data.load(photos.parent, "test")  # evaluation, too, would score training images


def test_splits_below_the_classes_are_refused(tmp_path: Path) -> None:
    for name in ("crow", "jay"):
        for split in ("train", "test"):
            photograph(tmp_path / "photos" / name / split / "1.png")
    with pytest.raises(DataError, match="belong above the classes") as caught:
        data.load(tmp_path / "photos", "train")
    assert str(tmp_path / "photos" / "train" / "crow") in caught.value.hint


@pytest.mark.parametrize("folder", ["photos", "photos/train"])
def test_one_class_is_refused_and_the_folder_of_the_classes_named(folder: str, tmp_path: Path) -> None:
    for name in ("crow", "jay"):
        photograph(tmp_path / folder / "unpacked" / name / "1.png")
    answer = ask(*TRAIN, "--data", tmp_path / "photos", "-o", tmp_path / "run")
    assert answer.exit_code == 1
    assert "has one class, 'unpacked'" in answer.stderr
    assert str(tmp_path / folder / "unpacked") in answer.stderr.partition("hint:")[2]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_set_of_one_class_in_memory_is_refused(tmp_path: Path) -> None:
    import zoo

    digits = data.load("digits")
    ones = (digits.labels == 1).nonzero()[:, 0]
    of_one = data.ImageSet("ones", "train", ("one",), digits.labels[ones] * 0, digits.pixels[ones])
    with pytest.raises(DataError, match="has one class, 'one'"):
        zoo.train("resnet8", of_one, settings={"epochs": 1}, output=tmp_path / "run", device="cpu")


def test_what_a_folder_lacks_is_found(photos: Path) -> None:
    assert kinds(photos) == {"few images": "note"}
    (photos / "train" / "crow" / "IMG_1.HEIC").write_bytes(b"photograph of a phone")
    photograph(photos / "train" / "loose.png")
    for number in range(40):
        photograph(photos / "train" / "jay" / f"more{number}.png")
    for file in (photos / "test" / "jay").iterdir():
        file.unlink()
    (photos / "test" / "jay").rmdir()
    (photos / "train" / "owl").mkdir()
    findings = {finding.kind: finding for finding in folder_check.check_structure(photos)}
    assert {kind: finding.level for kind, finding in findings.items()} == {
        "empty class": "error", "missing class": "warning", "no class": "warning", "other files": "warning",
        "imbalance": "warning",
    }  # fmt: skip
    assert findings["other files"].files == ("train/crow/IMG_1.HEIC",)
    assert findings["no class"].files == ("train/loose.png",)
    assert all(finding.advice for finding in findings.values())


def test_training_warns_in_a_line_each_and_goes_on(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "train" / "crow" / "IMG_1.HEIC").write_bytes(b"photograph of a phone")
    answer = ask(*TRAIN, "--data", photos, "-o", tmp_path / "run")
    assert answer.exit_code == 0, answer.stderr
    [line] = [message for message in caplog.messages if "HEIC" in message]
    assert "passed over" in line
    assert "Convert photographs" in line


def test_all_unreadable_images_are_named_at_once(photos: Path) -> None:
    names = ("train/crow/0.png", "train/jay/2.png")
    for name in names:
        (photos / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="2 images cannot be read") as caught:
        data.load(photos, "train")
    assert all(name in caught.value.message for name in names)
    [finding] = [one for one in folder_check.check_headers(folder_check.list_images(photos)) if one.level == "error"]
    assert finding.files == names


def test_orientation_modes_and_sizes_are_read_from_headers(photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8)).save(photos / "train" / "crow" / "turned.jpg", exif=exif)
    Image.new("L", (8, 8)).save(photos / "train" / "jay" / "grey.png")
    Image.new("RGBA", (8, 8)).save(photos / "test" / "jay" / "clear.png")
    findings = {finding.kind: finding for finding in folder_check.check_headers(folder_check.list_images(photos))}
    assert findings["orientation"].files == ("train/crow/turned.jpg",)
    assert findings["transparency"].files == ("test/jay/clear.png",)
    assert findings["modes"].message.startswith("1 grey and 14 colour images")
    assert "8 x 8 to 8 x 16" in findings["sizes"].message, "as it is shown"
    assert {finding.level for finding in findings.values()} == {"note"}
