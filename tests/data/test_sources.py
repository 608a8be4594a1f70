"""Data by name and by path: what is found, how it is counted, and what bad data gets."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo.data
from zoo import registry
from zoo.data import ImageSet, class_names, class_synsets, hold_out, load, mean_and_std
from zoo.data import image_file as decoding
from zoo.data.image_set import stratified_split
from zoo.errors import AmbiguousNameError, DataError, MissingExtraError, PluginError, SpecError, UnknownNameError
from zoo.spec import DatasetSpec, Plugin, Preprocess

NEEDS = pytest.mark.skipif(not os.environ.get("ZOO_DATA"), reason="ZOO_DATA is not set")


def _noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def _encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _write_folder(folder: Path, files: dict[str, Image.Image]) -> Path:
    for name, image in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def _write_parquet(file: Path, images: list[bytes], labels: list, names: list[str] | None = None) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    column = pa.array(
        [{"bytes": b, "path": None} for b in images], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    table = pa.table({"img": column, "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=3)
    return file


def _write_idx(file: Path, array: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", side) for side in array.shape)
    content = header + array.tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def _write_mnist(folder: Path, suffix: str = ".gz", labels: tuple[int, ...] = (3, 0, 9)) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), np.uint8)
    for prefix in ("train", "t10k"):
        _write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", np.array(labels, np.uint8))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setenv("ZOO_OFFLINE", "1")


# Names


def test_digits_are_scikit_learns_split_once_and_for_all():
    sklearn = pytest.importorskip("sklearn.datasets")
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.pixels.shape[1:] == (1, 8, 8)
    assert abs(torch.bincount(test.labels) / 360 - torch.bincount(train.labels) / 1437).max() < 0.002
    bunch = sklearn.load_digits()
    levels = {image.tobytes(): label for image, label in zip(bunch.images.astype(np.uint8), bunch.target, strict=True)}
    seen = set()
    for images in (train, test):
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            back = (pixels[0].numpy() / 255 * 16).round().astype(np.uint8)
            assert levels[back.tobytes()] == label
            seen.add(back.tobytes())
    assert len(seen) == 1797
    # Frozen: a changed split would make old scores incomparable without a word.
    assert train.fingerprint == "sha256:0ff12a3994c59b6b40bc32582fd81da391a736fc083d40ec674268977c9a8380"
    assert test.fingerprint == "sha256:3c0209dd9efb54cc6be962cf1c7b8ba6d05745e029b07f23abe28559583b32b6"


def test_digits_grey_levels_are_rounded_half_up():
    levels = {round(value * 16 / 255): value for value in load("digits").pixels.unique().tolist()}
    expected = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    assert [levels[level] for level in range(17)] == expected


@NEEDS
@pytest.mark.parametrize(
    ("name", "counts", "channels", "mean"),
    [
        ("mnist", (60_000, 10_000), 1, (0.1307,)),
        ("fashion_mnist", (60_000, 10_000), 1, (0.2860,)),
        pytest.param("cifar10", (50_000, 9_980), 3, (0.4914, 0.4822, 0.4465), marks=pytest.mark.slow),
    ],
)
def test_the_known_sets_have_their_published_counts_and_means(name, counts, channels, mean):
    folder = Path(os.environ["ZOO_DATA"])
    if not ((folder / name).exists() or (folder / f"{name}.npz").exists()):
        pytest.skip(f"ZOO_DATA has no {name}")
    for split, count in zip(("train", "test"), counts, strict=True):
        images = load(name, split)
        assert (len(images), images.channels, len(images.classes)) == (count, channels, 10)
        if split == "train":
            assert mean_and_std(images.pixels)[0] == pytest.approx(mean, abs=5e-5)
    # 1,000 test images of each class, but for the 20 that this copy of CIFAR-10 may lack.
    if name != "mnist":
        assert images.labels.bincount().tolist() == pytest.approx([1000] * 10, abs=20)


def test_root_comes_before_zoo_data(tmp_path, monkeypatch):
    _write_mnist(tmp_path / "a" / "mnist", labels=(1,))
    _write_mnist(tmp_path / "b" / "mnist", labels=(2, 2))
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "b"))
    assert load("mnist").labels.tolist() == [2, 2]
    assert load("mnist", root=tmp_path / "a").labels.tolist() == [1]
    assert load("mnist", root=tmp_path).labels.tolist() == [2, 2]


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_found_where_torchvision_puts_them_too(tmp_path, place, suffix):
    _write_mnist(tmp_path / place, suffix)
    images = load("mnist", "test", root=tmp_path)
    assert images.labels.tolist() == [3, 0, 9]
    assert images.pixels.shape == (3, 1, 4, 4)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_an_unknown_split_says_which_there_are(name):
    with pytest.raises(DataError, match=r"no split 'validation'(.|\n)*train and test"):
        load(name, "validation")


def test_without_a_network_the_error_says_where_files_may_be_put(offline, tmp_path):
    with pytest.raises(DataError, match=r"ZOO_OFFLINE=1(.|\n)*cifar10/train-\*\.parquet(.|\n)*ZOO_DATA=") as caught:
        load("cifar10", root=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_failed_download_leaves_nothing_behind(monkeypatch, tmp_path, cache_dir):
    torchvision = pytest.importorskip("torchvision.datasets.utils")
    monkeypatch.delenv("ZOO_DATA", raising=False)

    def fail(url: str, root: str, filename: str, md5: str) -> None:
        (Path(root) / filename).write_bytes(b"half")
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision, "download_url", fail)
    with pytest.raises(DataError, match=r"no route to host(.|\n)*ZOO_DATA="):
        load("fashion_mnist")
    assert [path.name for path in cache_dir.iterdir() if path.name != "index"] in ([], ["data"])
    assert [path for path in (cache_dir / "data").rglob("*") if path.is_file()] == []


def test_a_download_is_kept_and_not_repeated(monkeypatch, tmp_path, cache_dir):
    torchvision = pytest.importorskip("torchvision.datasets.utils")
    monkeypatch.delenv("ZOO_DATA", raising=False)
    source, asked = _write_mnist(tmp_path / "source"), []

    def copy(url: str, root: str, filename: str, md5: str) -> None:
        asked.append(url)
        shutil.copy(source / filename, root)

    monkeypatch.setattr(torchvision, "download_url", copy)
    assert load("mnist").labels.tolist() == [3, 0, 9]
    assert load("mnist", "test").labels.tolist() == [3, 0, 9]
    assert len(asked) == 4
    assert len(list((cache_dir / "data" / "mnist").iterdir())) == 4


def _write_cifar_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    record = bytes([7]) + bytes(range(256)) * 12
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(record * 10_000)


@pytest.mark.slow
def test_cifar10_is_read_from_its_binary_form_and_archive(tmp_path):
    _write_cifar_binary(tmp_path / "a" / "cifar-10-batches-bin")
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(tmp_path / "a" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    folder, archive = (load("cifar10", "test", root=tmp_path / place) for place in "ab")
    assert torch.equal(folder.pixels[9], torch.arange(256, dtype=torch.uint8).repeat(12).view(3, 32, 32))
    assert folder.labels.unique().tolist() == [7]
    assert torch.equal(folder.pixels, archive.pixels)
    short = tmp_path / "a" / "cifar-10-batches-bin" / "test_batch.bin"
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        load("cifar10", "test", root=tmp_path / "a")
    whole = (tmp_path / "b" / "cifar-10-binary.tar.gz").read_bytes()
    (tmp_path / "b" / "cifar-10-binary.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        load("cifar10", "test", root=tmp_path / "b")


# Caltech-101


def _write_caltech(folder: Path, counts: dict[str, int]) -> Path:
    """Photographs of several sizes, each of its own colour."""
    files = {
        f"{name}/image_{number:04}.jpg": Image.new("RGB", (20 + number, 16), (number, 200, 10))
        for name, count in counts.items()
        for number in range(count)
    }
    return _write_folder(folder, files)


def test_caltech101_is_drawn_alike_from_a_folder_a_tar_and_a_gzipped_tar(tmp_path):
    _write_caltech(tmp_path / "a" / "101_ObjectCategories", {"ant": 20, "bass": 17})
    for place, name, mode in (("b", "caltech101_h140.tar", "w"), ("c", "101_ObjectCategories.tar.gz", "w:gz")):
        (tmp_path / place).mkdir()
        with tarfile.open(tmp_path / place / name, mode) as tar:
            tar.add(tmp_path / "a" / "101_ObjectCategories", "anything")
    sets = {place: [load("caltech101", split, root=tmp_path / place) for split in ("train", "test")] for place in "abc"}
    for train, test in sets.values():
        assert train.classes == test.classes == ("ant", "bass")
        assert train.labels.bincount().tolist() == [15, 15]
        assert test.labels.bincount().tolist() == [5, 2]
        assert len({image.image(index).width for image in (train, test) for index in range(len(image))}) == 20
    assert len({(train.fingerprint, test.fingerprint) for train, test in sets.values()}) == 1
    drawn = {
        load(name, root=tmp_path / "a").fingerprint for name in ("caltech101", "caltech101:15:0", "caltech101:15:1")
    }
    assert len(drawn) == 2
    with pytest.raises(DataError, match=r"bass has 17(.|\n)*caltech101:30"):
        load("caltech101:17", root=tmp_path / "a")


def test_a_directory_that_is_called_like_an_image_is_none(tmp_path: Path) -> None:
    folder = _write_caltech(tmp_path / "101_ObjectCategories", {"ant": 20, "bass": 17})
    before = load("caltech101", "test", root=tmp_path)
    (folder / "ant" / "more.jpg").mkdir()
    after = load("caltech101", "test", root=tmp_path)
    assert after.fingerprint == before.fingerprint
    assert len(load(folder).labels) == 37


def test_caltech101_that_is_not_there_or_damaged_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.delenv("ZOO_DATA", raising=False)
    with pytest.raises(DataError, match=r"(.|\n)*101_ObjectCategories\.tar\.gz"):
        load("caltech101:30:2", root=tmp_path)
    with tarfile.open(tmp_path / "caltech101.tar", "w") as tar:
        tar.add(_write_caltech(tmp_path / "x", {"ant": 20}), "x")
    whole = (tmp_path / "caltech101.tar").read_bytes()
    (tmp_path / "caltech101.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(DataError, match=r"caltech101\.tar: cannot be read"):
        load("caltech101", root=tmp_path)


@pytest.mark.slow
@NEEDS
def test_caltech101_has_its_9144_photographs_of_102_classes():
    if not any(Path(os.environ["ZOO_DATA"]).glob("caltech101*")):
        pytest.skip("ZOO_DATA has no caltech101")
    train, test = load("caltech101:30:1"), load("caltech101:30:1", "test")
    assert (len(train), len(train) + len(test), len(train.classes)) == (30 * 102, 9_144, 102)
    assert test.labels.bincount().min() == 1  # inline_skate has 31
    assert train.image(0).mode == "RGB"


# Data sets that plugins bring


@pytest.fixture
def bring() -> Iterator[Callable[..., None]]:
    """Registers a plugin for each data set, by the plugin's name."""
    with contextlib.ExitStack() as stack:

        def register(**plugins: DatasetSpec) -> None:
            for name, spec in plugins.items():
                stack.enter_context(registry.register(Plugin(name, 1, datasets=(spec,))))

        yield register


def load_two_squares(root: Path, split: str) -> ImageSet:
    pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    return ImageSet("squares", split, ("no", "yes"), torch.tensor([0, 1]), pixels, origin=str(root))


def load_nothing(root: Path, split: str) -> None:
    return None


def load_badly(root: Path, split: str) -> None:
    raise KeyError("square")


def test_a_plugins_data_set_is_loaded_by_its_name(bring, tmp_path):
    bring(shapes=DatasetSpec("squares", f"{__name__}:load_two_squares"))
    images = load("squares", "test", root=tmp_path)
    assert (images.split, images.origin, len(images)) == ("test", str(tmp_path), 2)
    assert len(load("shapes/squares")) == 2
    with pytest.raises(DataError, match="no split 'validation'"):
        load("squares", "validation")


def test_two_plugins_with_one_data_set_are_told_apart(bring):
    spec = DatasetSpec("squares", f"{__name__}:load_two_squares")
    bring(a=spec, b=spec)
    with pytest.raises(AmbiguousNameError, match="a/squares or b/squares"):
        load("squares")
    assert len(load("a/squares")) == 2


@pytest.mark.parametrize(("hook", "message"), [("load_nothing", "NoneType"), ("load_badly", "KeyError: 'square'")])
def test_a_plugins_loader_that_fails_is_named(bring, hook, message):
    bring(shapes=DatasetSpec("squares", f"{__name__}:{hook}"))
    with pytest.raises(PluginError, match=message):
        load("squares")


# Image folders


def test_a_folder_is_read_as_torchvision_reads_it(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    names = ["train/b/2.png", "train/b/10.jpg", "train/a/x/1.png", "train/a/z.webp", "train/C/0.bmp"]
    _write_folder(tmp_path, {name: _noise((6, 5), seed=i) for i, name in enumerate(names)})
    (tmp_path / "train" / "a" / "notes.txt").write_text("not an image")
    expected = datasets.ImageFolder(str(tmp_path / "train"))
    images = load(tmp_path, "train")
    assert images.classes == tuple(expected.classes)
    assert images.labels.tolist() == expected.targets
    for index in range(len(images)):
        assert images.image(index).tobytes() == expected[index][0].tobytes()


def test_images_of_one_size_are_resident_and_others_are_not(tmp_path):
    _write_folder(tmp_path, {"train/a/1.png": _noise((6, 5)), "train/b/1.png": _noise((6, 5), "L")})
    resident = load(tmp_path)
    assert resident.pixels.shape == (2, 3, 5, 6)
    _write_folder(tmp_path, {"train/b/2.png": _noise((7, 5))})
    on_demand = load(str(tmp_path))
    assert on_demand.pixels is None
    assert on_demand.channels == 3
    assert [on_demand.image(i).mode for i in range(3)] == ["RGB"] * 3
    assert on_demand.image(-1).size == (7, 5)


def test_a_folder_of_grey_images_has_one_channel(tmp_path):
    _write_folder(tmp_path, {"train/a/1.png": _noise((6, 5), "L"), "train/b/1.png": _noise((9, 5), "L")})
    images = load(tmp_path)
    assert (images.channels, images.image(0).mode) == (1, "L")


def test_a_folder_without_splits_is_one_set_called_all(tmp_path):
    _write_folder(tmp_path, {"cat/1.png": _noise((4, 4)), "dog/1.png": _noise((4, 4))})
    images = load(tmp_path, "test")
    assert (images.split, images.classes) == ("all", ("cat", "dog"))


def test_training_classes_number_the_other_splits(tmp_path):
    _write_folder(tmp_path, {f"train/{name}/1.png": _noise((4, 4)) for name in "abc"})
    _write_folder(tmp_path, {"val/c/1.png": _noise((4, 4))})
    assert load(tmp_path, "validation").labels.tolist() == [2]
    _write_folder(tmp_path, {"val/d/1.png": _noise((4, 4))})
    with pytest.raises(DataError, match="d: no such class"):
        load(tmp_path, "validation")


def test_missing_splits_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="no folders of images"):
        load(tmp_path)
    _write_folder(tmp_path, {"train/a/1.png": _noise((4, 4))})
    with pytest.raises(DataError, match=r"no split 'test'(.|\n)*train"):
        load(tmp_path, "test")
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(DataError, match="b: no images"):
        load(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"1\.png: not a data set"):
        load(tmp_path / "train" / "a" / "1.png")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("other", [(16, 16), (17, 16)], ids=["resident", "on demand"])
def test_a_truncated_image_is_named(tmp_path, kind, other):
    _write_folder(tmp_path, {f"train/a/1.{kind}": _noise((16, 16)), "train/b/1.png": _noise(other)})
    file = tmp_path / "train" / "a" / f"1.{kind}"
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(DataError, match=rf"a/1\.{kind}: cannot be decoded"):
        load(tmp_path).image(0)


@pytest.mark.parametrize("content", [b"", b"only text", b"%PDF-1.7"])
def test_a_file_that_is_no_image_is_told_so_whatever_its_name(tmp_path, content):
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"cat\.jpg: not an image: expected one of PNG, JPEG") as caught:
        decoding.read_image(tmp_path / "cat.jpg", "cat.jpg", 3)
    assert "truncated" not in str(caught.value)


def test_an_image_beyond_the_pixel_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    _write_folder(tmp_path, {"train/a/1.png": Image.new("1", (9000, 8000))})
    with pytest.raises(DataError, match=r"1\.png: an image of 9000 x 8000"):
        load(tmp_path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_give_an_image_or_a_data_error(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
    content = bytearray(_encoded(_noise((9, 7)), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 90)))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image = decoding.read_image(content, "here", 3)
    except DataError:
        return
    assert image.mode == "RGB"


# Parquet


def test_parquet_gives_images_labels_and_class_names(tmp_path):
    originals = [_noise((6, 5), seed=i) for i in range(7)]
    _write_parquet(
        tmp_path / "test-00000-of-00001.parquet", [_encoded(i) for i in originals], [0, 1, 2] * 2 + [0], ["x", "y", "z"]
    )
    for images in (load(tmp_path, "test"), load(tmp_path / "test-00000-of-00001.parquet", "whatever")):
        assert (images.split, images.classes) == ("test", ("x", "y", "z"))
        assert images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert images.pixels.shape == (7, 3, 5, 6)
        assert [images.image(i).tobytes() for i in range(7)] == [image.tobytes() for image in originals]


@pytest.mark.parametrize("layout", ["data/train-{i:05d}-of-00002.parquet", "train/{i:04d}.parquet"])
def test_shards_are_read_in_order_in_the_hubs_layouts(tmp_path, layout):
    for i in range(2):
        _write_parquet(tmp_path / layout.format(i=i), [_encoded(_noise((4, 4), seed=i))] * 4, [i] * 4)
    assert load(tmp_path).labels.tolist() == [0] * 4 + [1] * 4
    assert load(tmp_path).classes == ("0", "1")


def test_mixed_sizes_and_modes_in_parquet_are_decoded_on_demand(tmp_path):
    originals = [_noise((6 + i % 2, 5), "L" if i < 4 else "RGB", seed=i) for i in range(8)]
    for shard in range(2):
        part = originals[4 * shard : 4 * shard + 4]
        _write_parquet(tmp_path / f"train-{shard:05d}-of-00002.parquet", [_encoded(i) for i in part], [0, 1, 0, 1])
    images = load(tmp_path)
    assert (images.pixels, images.channels) == (None, 3)
    for i in (7, 0, 3, 4, 6, 2):
        assert images.image(i).tobytes() == originals[i].convert("RGB").tobytes()
    assert images.subset([6, 1], "some").image(0).tobytes() == originals[6].tobytes()


def test_damaged_parquet_names_file_and_row(tmp_path):
    good = [_encoded(_noise((16, 16), seed=i)) for i in range(5)]
    file = tmp_path / "train-00000-of-00001.parquet"

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=rf"train-00000-of-00001\.parquet{match}"):
            load(tmp_path)

    _write_parquet(file, [*good[:4], good[4][:-40]], [0] * 5)
    refused(" row 4: cannot be decoded")
    _write_parquet(file, [*good[:3], None, good[4]], [0] * 5)
    refused(" row 3: no image bytes")
    _write_parquet(file, good, [0, 1, None, 0, 0])
    refused(" row 2: label None")
    _write_parquet(file, good, [0, 1, 0, 0, 2], ["x", "y"])
    refused(": row 4 has label 2, expected 0 to 1")
    _write_parquet(file, good, [0, 1, 0, 0, -1])
    refused(": row 4 has label -1")
    content = _write_parquet(file, good, [0] * 5).read_bytes()
    for length in (0, 3, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(": cannot be read as parquet")


def test_missing_splits_and_shards_are_named(tmp_path):
    _write_parquet(tmp_path / "train-00000-of-00002.parquet", [_encoded(_noise((4, 4)))], [0])
    with pytest.raises(DataError, match=r"no split 'test'(.|\n)*train"):
        load(tmp_path, "test")
    with pytest.raises(DataError, match="shard 00001 of 00002"):
        load(tmp_path)


def test_cifar10_with_other_classes_is_refused(tmp_path):
    _write_parquet(tmp_path / "cifar10" / "train-00000-of-00001.parquet", [_encoded(_noise((32, 32)))], [0], ["a", "b"])
    with pytest.raises(DataError, match=r"2 classes .*expected 10"):
        load("cifar10", root=tmp_path)


def test_parquet_without_the_columns_says_what_it_has(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no image column, expected image or img; found text"):
        load(tmp_path)


@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_parquet_gives_images_or_a_data_error(tmp_path, flips):
    file = tmp_path / "train.parquet"
    content = bytearray(_write_parquet(file, [_encoded(_noise((4, 4)))] * 4, [0, 1] * 2, ["x", "y"]).read_bytes())
    for place, value in flips:
        content[int(place * len(content))] = value
    file.write_bytes(content)
    try:
        images = load(file)
    except DataError:
        return
    assert len(images) <= 4


# IDX and npz


def test_damaged_idx_files_are_named(tmp_path):
    folder = _write_mnist(tmp_path / "mnist")
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    whole = images.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            load("mnist", root=tmp_path)

    for content in (whole[:-9], whole[:5], b"", b"no gzip at all"):
        images.write_bytes(content)
        refused(r"train-images-idx3-ubyte\.gz")
    raw = gzip.decompress(whole)
    for content, match in [
        (raw[:-1], "fewer bytes than the 48"),
        (raw + b"\0", "more bytes than the 48"),
        (raw[:10], "not an IDX file"),
        (b"\0\0\x0d\x03" + raw[4:], "not an IDX file"),
        (raw[:4] + b"\xff" * 12, "more than 1,073,741,824 bytes"),
    ]:
        images.write_bytes(gzip.compress(content))
        refused(match)
    images.write_bytes(whole)
    _write_idx(labels, np.array([3, 10, 9], np.uint8))
    refused(r"train-labels-idx1-ubyte\.gz: row 1 has label 10, expected 0 to 9")
    _write_idx(labels, np.array([3, 0], np.uint8))
    refused("expected 3 integers")
    labels.unlink()
    refused(r"train-labels-idx1-ubyte\.gz is missing")


def test_damaged_npz_files_are_named(tmp_path):
    file = tmp_path / "mnist.npz"
    good = {"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.array([0, 1, 2], np.uint8)}

    def refused(match: str, split: str = "train") -> None:
        with pytest.raises(DataError, match=rf"mnist\.npz: {match}"):
            load("mnist", split, root=tmp_path)

    np.savez(file, **good)
    assert load("mnist", root=tmp_path).labels.tolist() == [0, 1, 2]
    refused("no array 'x_test'", "test")
    content = file.read_bytes()
    for length in (0, 50, len(content) - 30):
        file.write_bytes(content[:length])
        refused("cannot be read")
    np.savez(file, **{**good, "x_train": np.zeros((3, 4, 4))})
    refused("images are float64")
    np.savez(file, **{**good, "y_train": np.array([0, 1, 12])})
    refused("row 2 has label 12")
    np.savez(file, **{**good, "y_train": np.array([0, 1, {}], object)})  # a pickle
    refused("cannot be read: Object arrays")


# ImageSet


def _set(pixels: torch.Tensor, labels: list[int]) -> ImageSet:
    return ImageSet("toy", "train", ("a", "b", "c"), torch.tensor(labels), pixels)


def _random(count: int, channels: int = 3) -> torch.Tensor:
    shape = (count, channels, 4, 5)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_fingerprint_is_the_documented_sha256():
    pixels = _random(2)
    expected = hashlib.sha256()
    for image, label in zip(pixels, [2, 0], strict=True):
        expected.update(struct.pack("<IIIq", 3, 4, 5, label) + bytes(image.flatten().tolist()))
    assert _set(pixels, [2, 0]).fingerprint == f"sha256:{expected.hexdigest()}"


def test_the_fingerprint_sees_pixels_labels_order_and_shape():
    pixels = _random(3)
    changed = pixels.clone()
    changed[1, 2, 3, 4] ^= 1
    sets = [
        _set(pixels, [0, 1, 2]),
        _set(changed, [0, 1, 2]),
        _set(pixels, [0, 1, 1]),
        _set(pixels.flip(0), [2, 1, 0]),
        _set(pixels.transpose(2, 3), [0, 1, 2]),
        _set(pixels.view(3, 3, 5, 4), [0, 1, 2]),
        _set(pixels[:2], [0, 1]),
    ]
    assert len({images.fingerprint for images in sets}) == len(sets)


def test_the_fingerprint_is_one_for_pixels_files_and_parquet(tmp_path):
    resident = _set(_random(3), [0, 1, 2])
    for i, name in enumerate("abc"):
        _write_folder(tmp_path / "folder", {f"train/{name}/1.png": resident.image(i)})
    _write_parquet(tmp_path / "parquet" / "train.parquet", [_encoded(resident.image(i)) for i in range(3)], [0, 1, 2])
    on_demand = ImageSet("toy", "train", resident.classes, resident.labels, read=resident.image, channels=3)
    others = [load(tmp_path / "folder"), load(tmp_path / "parquet"), on_demand]
    assert {images.fingerprint for images in others} == {resident.fingerprint}


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_holds_its_pixels(channels):
    images = _set(_random(2, channels), [0, 1])
    assert images.channels == channels
    assert images.image(1).mode == ("L" if channels == 1 else "RGB")
    assert torch.equal(decoding.to_pixels(images.image(1)), images.pixels[1])
    with pytest.raises(IndexError):
        images.image(2)


def test_a_subset_keeps_its_order():
    images = _set(_random(3), [0, 1, 2])
    part = images.subset([2, 0], "some")
    assert (part.split, part.labels.tolist()) == ("some", [2, 0])
    assert torch.equal(part.pixels, images.pixels[[2, 0]])


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (_random(2), [0], "expected uint8"),
        (_random(2).float(), [0, 1], "expected uint8"),
        (_random(2, 2), [0, 1], "2 channels"),
        (_random(2), [0, 3], "row 1 has label 3, expected 0 to 2"),
        (_random(2)[:0], [], "labels are torch.float32"),
        (None, [0, 1], "neither pixels"),
    ],
)
def test_a_set_that_does_not_fit_together_is_refused(pixels, labels, message):
    with pytest.raises(DataError, match=message):
        _set(pixels, labels)


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match="no images"):
        ImageSet("toy", "train", ("a",), torch.zeros(0, dtype=torch.int64), _random(2)[:0])


# Splits and statistics


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.data())
@settings(max_examples=60, deadline=None)
def test_a_stratified_choice_is_exact_and_proportional(labels, data):
    count = data.draw(st.integers(1, len(labels) - 1))
    rest, chosen = stratified_split(torch.tensor(labels), count, "x")
    assert sorted([*rest.tolist(), *chosen.tolist()]) == list(range(len(labels)))
    assert len(chosen) == count
    for label in set(labels):
        share = labels.count(label) * count / len(labels)
        assert abs(sum(labels[index] == label for index in chosen) - share) < 1


def test_hold_out_depends_on_its_seed_alone():
    images = _set(_random(30), [0, 1, 2] * 10)
    rest, held = hold_out(images, 6, seed=1)
    assert (len(rest), len(held), rest.split, held.split) == (24, 6, "train", "validation")
    torch.manual_seed(5)
    assert hold_out(images, 6, seed=1)[1].fingerprint == held.fingerprint
    assert hold_out(images, 6, seed=2)[1].fingerprint != held.fingerprint
    with pytest.raises(DataError, match="30 of 30"):
        hold_out(images, 30, seed=1)


def test_mean_and_std_are_torchs():
    pixels = _random(50)
    mean, std = mean_and_std(pixels)
    values = pixels.double() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), abs=1e-12)


# Class names and the package


def test_class_names_are_torchvisions():
    datasets = pytest.importorskip("torchvision.datasets")
    assert class_names("fashion_mnist") == tuple(datasets.FashionMNIST.classes)
    assert [int(name[0]) for name in datasets.MNIST.classes] == [int(name) for name in class_names("mnist")]
    with pytest.raises(UnknownNameError, match="cifar10"):
        class_names("cifar")


def test_imagenets_class_names_are_torchvisions_in_its_order():
    meta = pytest.importorskip("torchvision.models._meta")
    assert class_names("imagenet-1k") == tuple(meta._IMAGENET_CATEGORIES)


def test_imagenets_synsets_are_timms_in_its_order():
    info = pytest.importorskip("timm.data")
    folder = Path(info.__file__).with_name("_info")
    assert list(class_synsets()) == (folder / "imagenet_synsets.txt").read_text().split()
    lemmas = dict(line.split("\t") for line in (folder / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    pairs = zip(class_synsets(), class_names("imagenet-1k"), strict=True)
    differing = [name for synset, name in pairs if name.lower().split(" (")[0] not in lemmas[synset].lower()]
    assert len(differing) < 40, differing  # torchvision has shortened or corrected some, by hand


# From the label map that TensorFlow's Inception graph of 2015 ships: ILSVRC2012_ID by WordNet id.
DEVKIT = {
    "n07697313": 993, "n07697537": 885, "n07711569": 734, "n07714571": 736, "n07714990": 737, "n07715103": 738,
    "n07716358": 739, "n07716906": 740, "n07717410": 741, "n07717556": 742, "n07718472": 743, "n07718747": 744,
    "n07720875": 735, "n07730033": 745, "n07734744": 746, "n07742313": 318, "n07745940": 229, "n07747607": 319,
    "n07749582": 320, "n07753113": 321, "n02119789": 1, "n02100735": 2, "n01440764": 449, "n03255030": 1000,
}  # fmt: skip


def test_imagenets_other_order_is_that_of_the_development_kit():
    synsets = class_synsets("imagenet-1k-devkit")
    assert sorted(synsets) == list(class_synsets())
    assert {synset: synsets.index(synset) + 1 for synset in DEVKIT} == DEVKIT
    names = dict(zip(class_synsets(), class_names("imagenet-1k"), strict=True))
    assert class_names("imagenet-1k-devkit") == tuple(names[synset] for synset in synsets)
    with pytest.raises(UnknownNameError, match=r"WordNet ids .cifar10."):
        class_synsets("cifar10")


def test_imagenets_class_names_are_at_hand_without_timm_and_torchvision(monkeypatch):
    for module in ("timm", "timm.data", "torchvision"):
        monkeypatch.setitem(sys.modules, module, None)
    names = class_names("imagenet-1k")
    assert (len(names), len(set(names)), names[0], names[207], names[999]) == (
        1000,
        1000,
        "tench",
        "golden retriever",
        "toilet tissue",
    )


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install"):
        load("digits")


# What unfolds


def test_a_flipped_bit_in_a_label_is_refused_where_nothing_names_the_classes(tmp_path):
    images = [_encoded(_noise((4, 4), seed=i)) for i in range(4)]
    file = _write_parquet(tmp_path / "train.parquet", images, [0, 1, 2, 1 << 30])
    with pytest.raises(DataError, match=r"row 3 has label 1073741824, expected 0 to 3(.|\n)*ClassLabel"):
        load(file)
    _write_parquet(tmp_path / "train.parquet", images, [0, 3, 1, 3])
    assert load(file).classes == ("0", "1", "2", "3")


def test_parquet_that_repeats_a_large_value_is_refused_before_it_is_all_unfolded(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"img": pa.array([bytes(100_000)] * 500, pa.binary()), "label": pa.array([0] * 500)})
    file = tmp_path / "train.parquet"
    parquet.write_table(table, file, compression="zstd")
    assert file.stat().st_size < 2000
    monkeypatch.setenv("ZOO_MAX_DATA_BYTES", "20000000")
    with pytest.raises(DataError, match=r"row group 0: decompresses to more than 20,000,000 bytes(.|\n)*ZOO_MAX_DATA"):
        load(file)


def test_a_gzipped_archive_that_unfolds_to_too_much_is_refused(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "caltech101.tar.gz", "w:gz") as tar:
        for number in range(20):
            member = tarfile.TarInfo(f"ant/{number}.png")
            member.size = 1_000_000
            tar.addfile(member, io.BytesIO(bytes(1_000_000)))
    monkeypatch.setenv("ZOO_MAX_DATA_BYTES", "5000000")
    with pytest.raises(DataError, match=r"caltech101\.tar\.gz: decompresses to more than 5,000,000 bytes"):
        load("caltech101", root=tmp_path)


def test_an_image_that_would_be_huge_once_resized_is_refused():
    preprocess = Preprocess(input_size=(3, 32, 32))
    with pytest.raises(DataError, match=r"image of 1 x 5000000: resized to one of \d+ x \d+(.|\n)*ZOO_MAX_PIXELS"):
        zoo.data.Transform(preprocess)(Image.new("RGB", (1, 5_000_000)))


def test_a_setting_raises_or_lowers_what_may_be_decoded(tmp_path, monkeypatch):
    folder = _write_folder(tmp_path, {"train/a/1.png": _noise((20, 20))})
    monkeypatch.setenv("ZOO_MAX_PIXELS", "399")
    with pytest.raises(DataError, match=r"1\.png: an image of 20 x 20; more than the limit of 399 pixels"):
        load(folder)
    monkeypatch.setenv("ZOO_MAX_PIXELS", "400")
    assert len(load(folder)) == 1
    monkeypatch.setenv("ZOO_MAX_PIXELS", "many")
    with pytest.raises(SpecError, match="ZOO_MAX_PIXELS is 'many', which is not a whole number"):
        load(folder)


def test_the_setting_lifts_pillows_limit_too(tmp_path, monkeypatch):
    """Pillow warns beyond its limit and refuses beyond twice as many: set small, as such images take long."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for side in (40, 50):
        folder = _write_folder(tmp_path / str(side), {"train/a/1.png": _noise((side, side))})
        with pytest.raises(DataError, match=rf"1\.png: Image size \({side**2} pixels\) exceeds limit of") as caught:
            load(folder)
        assert caught.value.hint == "To decode larger images, set ZOO_MAX_PIXELS."
    monkeypatch.setenv("ZOO_MAX_PIXELS", "2500")
    assert load(folder).pixels.shape == (1, 3, 50, 50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as programs do that trust all images
    assert len(load(folder)) == 1


def test_compressed_shards_are_refused(tmp_path):
    pytest.importorskip("webdataset")
    (tmp_path / "a.tar").write_bytes(gzip.compress(bytes(10_000)))
    stream = zoo.data.from_shards(tmp_path, {"a.tar": 1}, classes=["x"])
    with pytest.raises(DataError, match=r"a\.tar: is compressed"):
        list(stream.samples(0))


def test_a_small_archive_does_not_fill_the_memory(tmp_path: Path) -> None:
    """80 MB of zeros in 80 kB, as images or beside them; with the limit stated, they are what they are."""
    import tarfile

    from zoo.data.readers import caltech101

    for name in ("101_ObjectCategories/a/1.jpg", "101_ObjectCategories/notes.txt"):
        with tarfile.open(tmp_path / "caltech101.tar.gz", "w:gz") as tar, open("/dev/zero", "rb") as zeros:
            member = tarfile.TarInfo(name)
            member.size = 80_000_000 if name.endswith("txt") else 60_000_000
            for number in range(1 if name.endswith("txt") else 2):
                member.name = name.replace("1.jpg", f"{number}.jpg")
                tar.addfile(member, zeros)
        with pytest.raises(DataError, match="the limit for a file of"):
            caltech101.read(tmp_path, "caltech101", "train")


def test_a_small_parquet_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from zoo.data.readers.parquet import Table

    value = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 3000, "int32"), pyarrow.array([bytes(100_000)]))
    file = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table({"image": value, "label": [0] * 3000}), file, compression="zstd")
    assert file.stat().st_size < 10_000
    with pytest.raises(DataError, match="the limit for a file of"):
        Table.open(file).read(0)
