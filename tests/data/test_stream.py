"""Streams of shards: nothing lost, nothing twice, the same order again, entered midway, from anywhere."""

import gc
import io
import json
import logging
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.hub_server import HubServer
from support.ranks import OneOf
from torch import Tensor, nn

import zoo
from zoo.data import Augmentation, ImageSet, ImageStream, ResizedCrop, load, open_stream, write_shards
from zoo.data.readers import huggingface
from zoo.data.readers.webdataset import from_shards, index_shards
from zoo.errors import DataError, MissingExtraError, RecipeError, TrainingError
from zoo.spec import Preprocess
from zoo.system.distributed import ALONE, Processes
from zoo.training import Recipe, Run, split, train
from zoo.training.inputs import Batches, StreamedBatches, shuffled
from zoo.training.randomness import generator_at
from zoo.training.run import Silent

CPU = torch.device("cpu")
PLAIN = Recipe(batch_size=50)
VARIED = Recipe(batch_size=50, augment=Augmentation(resized_crop=ResizedCrop(), pad_crop=1, flip="alternate"), seed=3)


def as_they_are(images: ImageSet | ImageStream, side: int) -> Preprocess:
    """Returns the preprocessing that leaves pixels as they are, in [0, 1]."""
    zeros, ones = (0.0,) * images.channels, (1.0,) * images.channels
    return Preprocess(input_size=(images.channels, side, side), crop_pct=1.0, mean=zeros, std=ones)


@pytest.fixture(scope="module")
def pictures() -> ImageSet:
    """600 real images, no two the same: of CIFAR-10 where it is at hand, else of the digits."""
    if os.environ.get("ZOO_DATA"):
        return load("cifar10", "test").subset(range(600), "train")
    every = load("digits", "train")
    assert every.pixels is not None
    first = {pixels.numpy().tobytes(): index for index, pixels in reversed(list(enumerate(every.pixels)))}
    return every.subset(sorted(first.values())[:600], "train")


@pytest.fixture(scope="module")
def folder(pictures: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine shards, of 70 images each but for the last, which has 40."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(pictures, folder, per_shard=70)
    return folder


@pytest.fixture
def stream(folder: Path) -> ImageStream:
    return opened(folder)


def opened(address: Path | str, split: str = "train") -> ImageStream:
    found = open_stream(address, split)
    assert found is not None
    return found


def streamed(stream: ImageStream, recipe: Recipe = PLAIN, processes: Processes = ALONE) -> StreamedBatches:
    assert isinstance(stream, ImageStream)
    side = 32 if stream.channels == 3 else 8
    return StreamedBatches(stream, recipe, as_they_are(stream, side), CPU, processes)


def read(batches: Any, epoch: int = 0, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(batches.epoch(epoch, start))


def contents(batches: list[tuple[Tensor, Tensor]]) -> list[tuple[bytes, int]]:
    """Pixels and label of each image of unvaried ``batches``."""
    return [
        ((pixels * 255).round().to(torch.uint8).numpy().tobytes(), int(label))
        for images, labels in batches
        for pixels, label in zip(images, labels, strict=True)
    ]


def contents_of(images: ImageSet) -> list[tuple[bytes, int]]:
    assert images.pixels is not None
    return [(pixels.numpy().tobytes(), int(label)) for pixels, label in zip(images.pixels, images.labels, strict=True)]


def assert_equal(left: list[tuple[Tensor, Tensor]], right: list[tuple[Tensor, Tensor]]) -> None:
    assert len(left) == len(right)
    for (images, labels), (others, answers) in zip(left, right, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, answers)


# ---- order --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("count", [1, 3, 16, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 7))])
def test_every_image_comes_once_an_epoch_whatever_the_number_of_processes(
    stream: ImageStream, pictures: ImageSet, count: int
) -> None:
    parts = [read(streamed(stream, PLAIN, OneOf(rank, count))) for rank in range(count)]
    assert {len(part) for part in parts} == {12}
    assert sorted(contents(list(chain(*parts)))) == sorted(contents_of(pictures))


@pytest.mark.slow
def test_whole_batches_make_an_epoch_and_other_images_sit_out_the_next(stream: ImageStream) -> None:
    recipe = Recipe(batch_size=64)
    seen = [
        [content for rank in range(3) for content in contents(read(streamed(stream, recipe, OneOf(rank, 3)), epoch))]
        for epoch in (0, 1)
    ]
    assert [len(epoch) for epoch in seen] == [576, 576]
    assert [len(set(epoch)) for epoch in seen] == [576, 576]
    assert set(seen[0]) != set(seen[1])


@pytest.mark.slow
def test_the_order_follows_from_seed_and_epoch_alone(folder: Path) -> None:
    first, second = (read(streamed(opened(folder), VARIED), 1) for _ in range(2))
    assert_equal(first, second)
    orders = [contents(read(streamed(opened(folder), Recipe(batch_size=50, seed=seed)), epoch)) for seed, epoch in
              [(0, 0), (0, 1), (1, 0)]]  # fmt: skip
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 16))])
def test_as_many_processes_as_divide_the_readers_make_the_batches_of_one(stream: ImageStream, count: int) -> None:
    parts = [read(streamed(stream, VARIED, OneOf(rank, count))) for rank in range(count)]
    together = [
        (torch.cat([images for images, _ in step]), torch.cat([labels for _, labels in step]))
        for step in zip(*parts, strict=True)
    ]
    assert_equal(together, read(streamed(stream, VARIED)))


@pytest.mark.first(2)
@pytest.mark.parametrize("processes", [ALONE, OneOf(1, 3)])
@pytest.mark.parametrize("start", [1, 7, 11])
def test_an_epoch_entered_midway_goes_on_bit_by_bit(stream: ImageStream, processes: Processes, start: int) -> None:
    batches = streamed(stream, VARIED, processes)
    assert_equal(read(batches, 2, start), read(batches, 2)[start:])


def test_entering_midway_decodes_nothing_that_is_passed_and_opens_no_shard_that_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    shards: set[int] = set()
    decode, samples = ImageStream.decode, ImageStream.samples
    monkeypatch.setattr(
        ImageStream, "decode", lambda self, shard, sample: [decoded.append(sample.key), decode(self, shard, sample)][1]
    )
    monkeypatch.setattr(
        ImageStream, "samples", lambda self, shard, *span: [shards.add(shard), samples(self, shard, *span)][1]
    )
    one_by_one = replace(opened(folder), buffer=1, readers=1)
    read(streamed(one_by_one), start=10)
    assert len(decoded) == len(set(decoded)) == 100
    assert len(shards) <= 3


def test_another_number_of_processes_goes_on_midway_with_as_many_steps(stream: ImageStream) -> None:
    parts = [read(streamed(stream, VARIED, OneOf(rank, 3)), 0, 5) for rank in range(3)]
    assert [len(part) for part in parts] == [7, 7, 7]
    assert [sum(len(part[step][1]) for part in parts) for step in range(7)] == [50] * 7


def test_more_processes_than_images_of_a_batch_are_refused(stream: ImageStream) -> None:
    with pytest.raises(RecipeError, match="cannot be divided among 64 processes"):
        streamed(stream, PLAIN, OneOf(0, 64))


@pytest.mark.parametrize(("count", "buffer"), [(0, 5), (1, 5), (100, 1), (100, 7), (100, 100), (100, 1000)])
def test_a_buffer_lets_each_image_out_once_and_none_before_it_is_in(count: int, buffer: int) -> None:
    order = list(shuffled(count, buffer, generator_at(0)))
    assert sorted(order) == list(range(count))
    assert all(image < place + buffer for place, image in enumerate(order))
    if buffer == 1:
        assert order == list(range(count))


def test_a_buffer_as_large_as_the_set_makes_any_order_as_often_as_another() -> None:
    counts: dict[tuple[int, ...], int] = {}
    generator = generator_at(0)
    for _ in range(6000):
        order = tuple(shuffled(3, 3, generator))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5  # chi-square, 5 degrees, p = 0.001


# ---- the format -----------------------------------------------------------------------------------


LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""For webdataset's own reader, whose files are closed when they are collected."""


@LEAVES_FILES_OPEN
def test_webdataset_reads_what_is_written(folder: Path, pictures: ImageSet) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs zoo-vision[stream]")
    files = sorted(map(str, folder.glob("*.tar")))
    assert len(files) == 9
    rows = webdataset.WebDataset(files, shardshuffle=False).decode("pilrgb").to_tuple("png", "cls")
    mode = "RGB" if pictures.channels == 3 else "L"
    read = sorted((_bytes(image.convert(mode)), label) for image, label in rows)
    assert read == sorted(contents_of(pictures))
    del rows
    gc.collect()


@LEAVES_FILES_OPEN
def test_timm_reads_what_is_written(folder: Path, pictures: ImageSet) -> None:
    timm_data = pytest.importorskip("timm.data", reason="needs zoo-vision[train]")
    reader = timm_data.create_dataset("wds/", root=str(folder), split="train", num_samples=None, is_training=False)
    labels = [label for _, label in reader]
    assert len(reader) == 600
    assert sorted(labels) == sorted(pictures.labels.tolist())
    del reader
    gc.collect()


def test_the_same_images_give_the_same_shards(folder: Path, pictures: ImageSet, tmp_path: Path) -> None:
    write_shards(pictures, tmp_path, per_shard=70)
    for file in sorted(folder.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert opened(tmp_path).fingerprint == opened(folder).fingerprint


def test_files_go_into_shards_as_they_are(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs zoo-vision[data]")
    from pyarrow.parquet import write_table

    files = {0: _jpeg(0, side=20), 1: _jpeg(1, side=12)}
    for label, content in files.items():
        (tmp_path / "images" / "train" / str(label)).mkdir(parents=True)
        (tmp_path / "images" / "train" / str(label) / "x.jpg").write_bytes(content)
    (tmp_path / "rows").mkdir()
    rows = {"image": [{"bytes": content, "path": None} for content in files.values()], "label": [*files]}
    write_table(pyarrow.table(rows), tmp_path / "rows" / "train.parquet")
    write_shards(load(tmp_path / "images").subset([1, 0], "train"), tmp_path / "from_files")
    write_shards(load(tmp_path / "rows"), tmp_path / "from_rows")
    write_shards(load(tmp_path / "from_rows"), tmp_path / "from_shards")
    for name in ("from_files", "from_rows", "from_shards"):
        stream = opened(tmp_path / name)
        assert {sample.label: sample.encoded for sample in stream.samples(0)} == files
        assert stream.classes == ("0", "1")


def test_splits_of_one_set_share_a_folder_and_others_are_refused(tmp_path: Path) -> None:
    digits = load("digits", "test")
    write_shards(digits, tmp_path)
    write_shards(load("digits", "train"), tmp_path)
    assert [len(opened(tmp_path, split)) for split in ("train", "test")] == [1437, 360]
    with pytest.raises(DataError, match="already contains the split 'test'"):
        write_shards(digits, tmp_path)
    other = ImageSet("others", "more", digits.classes, digits.labels, digits.pixels)
    with pytest.raises(DataError, match=r"holds 'digits' with 10 classes.*got 'others'"):
        write_shards(other, tmp_path)


def test_scoring_on_shards_is_scoring_on_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load("digits", "test")
    write_shards(digits, tmp_path, per_shard=100)
    held = load(tmp_path, "test")
    assert held.fingerprint == digits.fingerprint
    monkeypatch.setattr("zoo.data.stream.MAX_RESIDENT_BYTES", 1000)
    assert load(tmp_path, "test").fingerprint == digits.fingerprint
    model = zoo.create("resnet20.digits")
    reports = [zoo.evaluate(model, images) for images in (digits, held)]
    assert reports[0].correct == reports[1].correct


def test_shards_that_others_wrote_are_counted(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs zoo-vision[stream]")
    for name, count in [("train-0000", 3), ("train-0001", 2), ("val-0000", 4)]:
        with webdataset.TarWriter(str(tmp_path / f"birds-{name}.tar")) as tar:
            for index in range(count):
                tar.write({"__key__": f"{index:05d}", "jpg": _jpeg(index), "cls": index % 2, "json": {"a": 1}})
    with pytest.raises(DataError, match=r"(?s)_info\.json.*cannot be counted.*index_shards"):
        opened(tmp_path, "birds-train")
    index_shards(tmp_path)
    with pytest.raises(DataError, match=r"(?s)no class names found.*classes\.txt"):
        opened(tmp_path, "birds-train")
    (tmp_path / "classes.txt").write_text("crow\njay\n")
    stream = opened(tmp_path, "birds-train")
    assert (len(stream), stream.classes, stream.channels) == (5, ("crow", "jay"), 3)
    assert len(opened(tmp_path, "birds-val")) == 4
    with pytest.raises(DataError, match=r"(?s)no split 'test'.*birds-train, birds-val"):
        opened(tmp_path, "test")


def test_a_folder_named_as_timm_publishes_it_is_the_well_known_set(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs zoo-vision[train]")
    stream = from_shards(_shards(tmp_path / "imagenet-1k-wds", [("a", {"jpg": _jpeg(0), "cls": b"7"})]), {"x.tar": 1},
                         classes=["x"])  # fmt: skip
    assert stream.name == "imagenet-1k"
    info = {"splits": {"train": {"name": "train", "num_samples": 1, "filenames": ["x.tar"], "shard_lengths": [1]}}}
    (tmp_path / "imagenet-1k-wds" / "info.json").write_text(json.dumps(info))
    assert len(opened(tmp_path / "imagenet-1k-wds").classes) == 1000


# ---- what is wrong with a shard --------------------------------------------------------------------


def _bytes(image: Image.Image) -> bytes:
    """Returns an image, C H W."""
    from zoo.data.image_file import to_pixels

    return to_pixels(image).contiguous().numpy().tobytes()


def _jpeg(seed: int, side: int = 12) -> bytes:
    pixels = torch.randint(256, (side, side, 3), dtype=torch.uint8, generator=generator_at(seed))
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG")
    return file.getvalue()


def _shards(folder: Path, rows: list[tuple[str, dict[str, bytes]]]) -> Path:
    """Returns ``folder`` with one shard ``x.tar`` of these keys and parts."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "x.tar", "w") as tar:
        for key, parts in rows:
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


GOOD = {"jpg": _jpeg(0), "cls": b"1"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"jpg": GOOD["jpg"]}, r"x\.tar: 00000001 has jpg; expected one image .* and cls"),
        ({"cls": b"1"}, r"x\.tar: 00000001 has cls; expected one image"),
        ({**GOOD, "png": b""}, r"x\.tar: 00000001 has jpg, cls, png; expected one image"),
        ({**GOOD, "cls": b"jay"}, r"x\.tar: 00000001\.cls holds 'jay', expected a label"),
        ({**GOOD, "cls": b"2"}, r"x\.tar: 00000001 has label 2, expected 0 to 1"),
        ({**GOOD, "cls": b"-1"}, r"x\.tar: 00000001 has label -1, expected 0 to 1"),
        ({**GOOD, "jpg": GOOD["jpg"][:300]}, r"x\.tar: 00000001: cannot be decoded"),
        ({**GOOD, "jpg": b"no image"}, r"x\.tar: 00000001: not an image"),
    ],
)
def test_a_bad_sample_stops_training_naming_shard_and_key(
    tmp_path: Path, parts: dict[str, bytes], message: str
) -> None:
    _shards(tmp_path, [("00000000", GOOD), ("00000001", parts), ("00000002", GOOD)])
    with pytest.raises(DataError, match=message):
        read(streamed(from_shards(tmp_path, {"x.tar": 3}, classes=["crow", "jay"]), Recipe(batch_size=1)))


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    _shards(tmp_path, [("a", GOOD), ("b", GOOD), ("b", GOOD)])
    with pytest.raises(DataError, match=r"x\.tar: cannot be read after a: b\.jpg: duplicate file name"):
        list(from_shards(tmp_path, {"x.tar": 3}, classes=["crow", "jay"]).samples(0))


def test_members_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    _shards(tmp_path, [("README", {"txt": b"birds"}), ("a", {**GOOD, "json": b"{}"}), ("birds/b", GOOD)])
    stream = from_shards(tmp_path, {"x.tar": 2}, classes=["crow", "jay"])
    assert [sample.key for sample in stream.samples(0)] == ["a", "birds/b"]


def _cut(size: int) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[:size])


@pytest.mark.first(3)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut(-11500), r"train-000002\.tar: cannot be read after \d+: unexpected end of data"),
        (_cut(700), r"train-000002\.tar: cannot be read: unexpected end of data"),
        (_cut(0), r"train-000002\.tar: cannot be read: empty file"),
        (lambda file: file.write_bytes(os.urandom(20000)), r"train-000002\.tar: cannot be read: "),
        (lambda file: file.unlink(), r"train-000002\.tar: .* cannot be opened: No such file"),
        (lambda file: file.write_bytes(b"".join(_members(file)[:20])), r"train-000002\.tar: 10 images, expected 70"),
        (
            lambda file: file.write_bytes((file.parent / "train-000001.tar").read_bytes()[:-10240] + file.read_bytes()),
            r"train-000002\.tar: (more than the 70 images|cannot be read)",
        ),
    ],
)
def test_a_damaged_shard_stops_training_naming_it(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    from shutil import copytree

    copytree(folder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "train-000002.tar")
    with pytest.raises(DataError, match=message):
        read(streamed(opened(tmp_path)))


def _members(file: Path) -> list[bytes]:
    """Returns the blocks of each member of a tar file, header and content."""
    content = file.read_bytes()
    with tarfile.open(file) as tar:
        starts = [member.offset for member in tar.getmembers()]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("[1, 2]", r"_info\.json is invalid"),
        ('{"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": [-1]}}}', r"_info\.json is invalid: .*>= 0"),
        ('{"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": []}}}', "1 shards of 'train', 0 lengths"),
        ('{"splits": {"train": {"filenames": [], "shard_lengths": []}}, "classes": ["a"]}', "no images"),
        ('{"splits": {"train": {"filenames": ["../a.tar"], "shard_lengths": [1]}}, "classes": ["a"]}', "stay inside"),
        ('{"splits": {"train": {"filenames": ["/a.tar"], "shard_lengths": [1]}}, "classes": ["a"]}', "stay inside"),
        ('{"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": [1]}}, "classes": ["a"], "channels": 2}',
         "2 channels"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused(tmp_path: Path, info: str, message: str) -> None:
    (tmp_path / "_info.json").write_text(info)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_without_webdataset_the_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(MissingExtraError, match=r"(?s)needs webdataset.*zoo-vision\[stream\]"):
        read(streamed(opened(folder)))


# ---- from elsewhere ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_web_server_serves_shards_and_cut_connections_are_taken_up_where_they_broke(
    folder: Path, stream: ImageStream, hub_server: HubServer
) -> None:
    hub_server.commit("alice/shards", {file.name: file.read_bytes() for file in folder.iterdir()})
    address = f"{hub_server.mirror_url}/alice/shards"
    hub_server.inject("cut", "train-000003.tar", after=30_000)
    remote = opened(address)
    assert remote.name == stream.name
    assert_equal(read(streamed(remote, VARIED)), read(streamed(stream, VARIED)))
    assert "bytes=30000-" in [request.range for request in hub_server.requests]
    with pytest.raises(DataError, match=r"elsewhere/_info\.json: returned 404"):
        opened(f"{hub_server.mirror_url}/alice/elsewhere")


def test_offline_no_address_is_asked(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(DataError, match="network access is disabled"):
        opened(f"{hub_server.mirror_url}/alice/shards")
    assert hub_server.requests == []


def test_offline_a_hugging_face_data_set_is_not_asked_for_and_a_folder_still_read(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert sum(shard.size for shard in opened(f"hf:{parquet}").shards) == 600
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(DataError, match=r"hf:uoft-cs/cifar10: network access is disabled \(ZOO_OFFLINE=1\)"):
        opened("hf:uoft-cs/cifar10")


@pytest.mark.slow
def test_a_bucket_serves_shards(folder: Path, stream: ImageStream, s3_server: str) -> None:
    import s3fs

    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("birds")
    system.put(f"{folder}/", "birds/shards/", recursive=True)
    assert_equal(read(streamed(opened("s3://birds/shards"), VARIED)), read(streamed(stream, VARIED)))


@pytest.fixture(scope="module")
def parquet(pictures: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures as a dataset of the hub's kind: four parquet files and the names of the classes."""
    datasets = pytest.importorskip("datasets", reason="needs zoo-vision[stream]")
    folder = tmp_path_factory.mktemp("hub") / "birds"
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(pictures.classes)))
    folder.mkdir()
    for number, part in enumerate(torch.arange(600).chunk(4)):
        rows = {"image": [pictures.image(index) for index in part], "label": pictures.labels[part].tolist()}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / f"train-{number:05d}-of-00004.parquet", batch_size=50)
    return folder


@pytest.mark.slow
def test_a_dataset_is_streamed_from_its_parquet_files(parquet: Path, pictures: ImageSet) -> None:
    stream = opened(f"hf:{parquet}")
    assert (stream.name, stream.classes, stream.channels) == ("birds", pictures.classes, pictures.channels)
    assert [shard.size for shard in stream.shards] == [150] * 4
    parts = [read(streamed(stream, PLAIN, OneOf(rank, 3))) for rank in range(3)]
    assert sorted(contents(list(chain(*parts)))) == sorted(contents_of(pictures))
    batches = streamed(stream, VARIED)
    assert_equal(read(batches, 1, 7), read(batches, 1)[7:])
    assert load(f"hf:{parquet}", "train").fingerprint == pictures.fingerprint


@pytest.mark.slow
def test_a_dataset_that_does_not_say_its_counts_is_counted(parquet: Path, caplog: pytest.LogCaptureFixture) -> None:
    import datasets

    files = sorted(map(str, parquet.glob("*.parquet")))
    dataset = datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    with caplog.at_level(logging.WARNING, logger="zoo.data"):
        counted = zoo.data.from_huggingface(dataset, name="birds")
    assert "read once to count them" in caplog.text
    assert_equal(read(streamed(counted, VARIED)), read(streamed(opened(f"hf:{parquet}"), VARIED)))
    with pytest.raises(DataError, match="3 counts and 4 names, but 4 shards"):
        zoo.data.from_huggingface(dataset, name="birds", counts=[200] * 3)
    wrong = zoo.data.from_huggingface(dataset, name="birds", counts=[151] * 4)
    with pytest.raises(DataError, match=r"shard [0-3]: 150 images, expected 151"):
        read(streamed(wrong))


def test_what_is_wrong_with_a_dataset_is_said(parquet: Path, tmp_path: Path) -> None:
    import datasets

    with pytest.raises(DataError, match=r"hf:.*nowhere.*"):
        opened(f"hf:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"hf:.*birds: .*nosuch"):
        opened(f"hf:{parquet}", "nosuch")
    rows: dict[str, list[Any]] = {"image": [Image.new("RGB", (8, 8))] * 4, "label": [0, 1, 2, 3]}
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    unnamed = datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset()
    with pytest.raises(DataError, match=r"(?s)the column 'label' has no class names.*classes="):
        zoo.data.from_huggingface(unnamed, name="birds")
    named = zoo.data.from_huggingface(unnamed, name="birds", classes=["a", "b"], channels=3)
    with pytest.raises(DataError, match="row 2 has label 2, expected 0 to 1"):
        list(named.samples(0))
    with pytest.raises(DataError, match="no label column, expected label"):
        zoo.data.from_huggingface(unnamed.rename_column("label", "kind"), name="birds", classes=["a"])
    (tmp_path / "cut").mkdir()
    for file in parquet.iterdir():
        content = file.read_bytes()
        if "00002" in file.name:
            middle = len(content) // 2
            content = content[: middle - 4000] + bytes(8000) + content[middle + 4000 :]
        (tmp_path / "cut" / file.name).write_bytes(content)
    with pytest.raises(DataError, match=r"shard 2, row \d+ cannot be read|train-00002.*not (an|a readable) image"):
        read(streamed(opened(f"hf:{tmp_path / 'cut'}")))


def test_rows_may_name_files_of_their_own_set_and_no_others(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "set").mkdir()
    inside, outside = tmp_path / "set" / "a.png", tmp_path / "secret.png"
    for file in (inside, outside):
        Image.new("RGB", (8, 8)).save(file)

    def stream(path: str, root: str) -> ImageStream:
        features = datasets.Features(image=datasets.Image(decode=False), label=datasets.ClassLabel(names=["x"]))
        rows = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": path}], "label": [0]}, features=features)
        return zoo.data.from_huggingface(rows.to_iterable_dataset(), name="birds", channels=3, root=root)

    (found,) = stream(str(inside), str(tmp_path / "set")).samples(0)
    assert found.encoded == inside.read_bytes()
    paths = [str(outside), f"{tmp_path}/set/../secret.png", "http://localhost:1/a.png", f"file://{inside}"]
    for path, root in [*((path, str(tmp_path / "set")) for path in paths), (str(inside), "")]:
        with pytest.raises(DataError, match="a file outside of"):
            list(stream(path, root).samples(0))


@pytest.mark.parametrize(
    ("path", "is_inside"),
    [
        ("hf://datasets/someone/birds@0f/train/a.png", True),
        ("zip://a.png::hf://datasets/someone/birds@0f/train.zip", True),
        ("hf://datasets/someone/birds2/a.png", False),
        ("zip://a.png::/etc/passwd", False),
        ("hf://datasets/someone/birds/../../other/a.png", False),
    ],
)
def test_a_file_of_the_hub_lies_in_its_set_by_its_address(path: str, is_inside: bool) -> None:
    assert huggingface._lies_in(path, "hf://datasets/someone/birds") is is_inside


# ---- windows of random size ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (32, 32), (10, 200), (200, 10), (1, 1), (3, 64)])
@pytest.mark.parametrize("ranges", [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.6), (1.0, 1.0)), ((1.0, 1.0), (2.0, 3.0))])
def test_windows_are_those_of_torchvision(size: tuple[int, int], ranges: Any) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="needs zoo-vision[data]")
    from zoo.data.augment import draw_window

    image = Image.new("L", size)
    for seed in range(20):
        torch.manual_seed(seed)
        top, left, height, width = transforms.RandomResizedCrop.get_params(image, list(ranges[0]), list(ranges[1]))
        generator = torch.Generator().manual_seed(seed)
        got = draw_window(ResizedCrop(*ranges), image.height, image.width, generator)
        assert got == (left, top, left + width, top + height)


def test_a_window_is_cut_out_and_resized_as_torchvision_does_it() -> None:
    functional = pytest.importorskip("torchvision.transforms.v2.functional", reason="needs zoo-vision[data]")
    from zoo.data.image_file import to_pixels
    from zoo.data.preprocess import Transform

    image = Image.open(io.BytesIO(_jpeg(0, side=90)))
    for name in ("bilinear", "bicubic"):
        preprocess = Preprocess(input_size=(3, 32, 48), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=name)  # type: ignore[arg-type]
        got = Transform(preprocess).pixels(image, (10, 5, 75, 41))
        mode = functional.InterpolationMode(name)
        expected = functional.resized_crop(image, 5, 10, 36, 65, [32, 48], interpolation=mode)
        assert torch.equal(got, to_pixels(expected))


@pytest.mark.parametrize("is_resident", [True, False])
def test_windows_are_drawn_by_seed_epoch_and_image(pictures: ImageSet, is_resident: bool) -> None:
    assert pictures.pixels is not None
    few = pictures.subset(range(40), "train")
    if not is_resident:
        few = ImageSet(few.name, "train", few.classes, few.labels, read=few.image, channels=few.channels)
    side = int(pictures.pixels.shape[-1])
    recipe = Recipe(batch_size=40, augment=Augmentation(resized_crop=ResizedCrop(scale=(0.08, 0.3))))

    def at(epoch: int, rank: int = 0, count: int = 1) -> Tensor:
        images, _ = next(Batches(few, recipe, as_they_are(few, side), CPU, OneOf(rank, count)).epoch(epoch))
        return images

    assert torch.equal(at(0), at(0))
    assert torch.equal(torch.cat([at(0, rank, 2) for rank in (0, 1)]), at(0))
    whole = next(Batches(few, Recipe(batch_size=40), as_they_are(few, side), CPU).epoch(0))[0]
    assert not torch.equal(at(0), whole)
    assert at(0).std(dim=(2, 3)).mean() < whole.std(dim=(2, 3)).mean()  # a part varies less than the whole


def test_a_recipe_may_ask_for_windows() -> None:
    from zoo.training.choice import resolve

    recipe = resolve("x", {"augment": {"resized_crop": {}}}, {"augment.resized_crop.scale": "[0.25, 1.0]"})
    assert recipe.augment.resized_crop == ResizedCrop(scale=(0.25, 1.0), ratio=(3 / 4, 4 / 3))
    with pytest.raises(RecipeError, match=r"0 < low <= high <= 1"):
        resolve("x", {"augment": {"resized_crop": {"scale": [0.5, 0.1]}}})
    with pytest.raises(RecipeError, match=r"no field 'augment.resized_crop.scales'"):
        resolve("x", {"augment": {"resized_crop": {"scales": [0.5, 0.1]}}})


# ---- training --------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(1024, 10),
    )  # fmt: skip


LEARNING = Recipe(epochs=2, batch_size=64, lr=0.05, precision="float32", augment=Augmentation(pad_crop=1), seed=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_shards(load("digits", "train"), folder, per_shard=100)
    return folder


class StopAt(Silent):
    def __init__(self, epoch: int, step: int) -> None:
        self.moment = epoch, step

    def step(self, epoch: int, step: int, loss: float, lr: float) -> None:
        if (epoch, step) == self.moment:
            raise KeyboardInterrupt


def learn(directory: Path, stream: ImageStream, recipe: Recipe = LEARNING, **options: Any) -> nn.Module:
    options.setdefault("display", Silent())
    preprocess = as_they_are(stream, 8)
    run = Run(directory, checkpoint_every=5, **options)
    return train(network(), split(stream, recipe), recipe, run, preprocess=preprocess, device="cpu")


@pytest.mark.slow
def test_a_network_learns_from_a_stream_and_a_break_in_mid_epoch_changes_no_bit(digits: Path, tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole", opened(digits))
    test = load("digits", "test")
    report = zoo.evaluation.evaluate(whole, test, preprocess=as_they_are(test, 8))
    assert report.top1 > 90
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "broken", opened(digits), display=StopAt(2, 13))
    resumed = learn(tmp_path / "broken", opened(digits), resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_run_says_which_shards_it_had_and_is_resumed_with_no_others(digits: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=512, schedule="constant")
    stream = opened(digits)
    learn(tmp_path, stream, recipe)
    said = json.loads((tmp_path / "config.json").read_text())["data"]["train"]
    assert said["fingerprint"] == stream.fingerprint
    assert (said["n"], said["stream"]) == (1437, {"shards": 15, "buffer": 8192, "readers": 16})
    with pytest.raises(TrainingError, match=r"data\.train\.stream\.buffer: the run has 8192, requested 9"):
        learn(tmp_path, replace(stream, buffer=9), recipe, resume=True)
    with pytest.raises(TrainingError, match=r"data\.train\.fingerprint"):
        learn(tmp_path, replace(stream, shards=stream.shards[::-1]), recipe, resume=True)


def test_what_a_stream_cannot_do_is_refused(digits: Path) -> None:
    stream = opened(digits)
    with pytest.raises(RecipeError, match=r"(?s)validation = 10: .* images cannot be held out.*validation=0"):
        split(stream, Recipe(validation=10))
    with pytest.raises(DataError, match=r"(?s)normalize = 'mean' needs images .* in memory.*normalize=model"):
        zoo.training.normalise(network(), split(stream, Recipe()), Recipe(normalize="mean"), as_they_are(stream, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"buffer": 0}, "a buffer of 0"), ({"readers": 0}, "0 readers"), ({"classes": ()}, "no classes")],
)
def test_a_stream_that_cannot_be_is_refused(stream: ImageStream, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(stream, **change)


def zoo_command(*words: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"] if processes else []
    return subprocess.run(
        [sys.executable, "-m", *launcher, "zoo", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.slow
def test_a_damaged_shard_ends_every_process(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs zoo-vision[train]")
    from shutil import copytree

    copytree(digits, tmp_path / "digits")
    _cut(20_000)(tmp_path / "digits" / "train-000007.tar")
    words = ["resnet20", "--data", str(tmp_path / "digits"), "--recipe", "default", "--set", "epochs=1"]
    done = zoo_command("train", *words, "--device", "cpu", "-o", str(tmp_path / "run"), processes=2)
    assert done.returncode == 1
    assert "train-000007.tar: cannot be read after" in done.stderr


@pytest.fixture(autouse=True)
def _no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Readers and decoders end with the epoch, or when it is left."""
    import threading

    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if "ThreadPoolExecutor" in thread.name]
    assert not left
