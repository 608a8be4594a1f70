"""A folder of photographs in one command: from trained weights to the images that the network gets wrong."""

import csv
import json
import os
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner, Result

from zoo.cli import cli

pytest.importorskip("timm", reason="needs zoo-vision[train]")

CLASSES = ("accordion", "ant", "barrel", "bass", "beaver", "butterfly")
COUNTS = {"train": 24, "val": 8, "test": 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photographs of each of six classes. Those of the split test cannot be read."""
    archive = Path(os.environ.get("ZOO_DATA", "")) / "caltech101_h140.tar"
    if not archive.is_file():
        pytest.skip("ZOO_DATA has no caltech101_h140.tar")
    folder = tmp_path_factory.mktemp("data") / "photos"
    taken: Counter[str] = Counter()
    splits = [split for split, count in COUNTS.items() for _ in range(count)]
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.parent.name not in CLASSES or taken[path.parent.name] == len(splits):
                continue
            split = splits[taken[path.parent.name]]
            taken[path.parent.name] += 1
            file = folder / split / path.parent.name / path.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tar.extractfile(member).read() if split != "test" else b"never opened")
    assert set(taken.values()) == {len(splits)}
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", "resnet20", "--init", "resnet20.c10", "--data", str(photos)]
    words += ["--set", "epochs=6", "--set", "lr=0.02"]
    answer = CliRunner().invoke(cli, [*words, "-o", str(output), "--device", "cpu"], prog_name="zoo")
    assert answer.exit_code == 0, answer.stderr
    return output, answer


def table(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.mark.slow
def test_the_confusion_matrix_counts_every_validation_image_as_the_log_does(trained: tuple[Path, Result]) -> None:
    titles, *rows = table(trained[0] / "confusion.csv")
    assert titles == ["true", *CLASSES]
    assert [row[0] for row in rows] == [*CLASSES]
    counts = [[int(number) for number in row[1:]] for row in rows]
    assert [sum(row) for row in counts] == [COUNTS["val"]] * len(CLASSES)
    right = sum(counts[number][number] for number in range(len(CLASSES)))
    log = [json.loads(line) for line in (trained[0] / "log.jsonl").read_text().splitlines()]
    assert 100 * right / 48 == pytest.approx(max(row["val_top1"] for row in log))
    assert right > 2 * 48 / 6, "no better than chance"


def test_the_mistakes_are_validation_images_with_the_most_certain_first(
    trained: tuple[Path, Result], photos: Path
) -> None:
    titles, *rows = table(trained[0] / "mistakes.csv")
    assert titles == ["file", "true", "predicted", "probability"]
    confusion = [row[1:] for row in table(trained[0] / "confusion.csv")[1:]]
    wrong = Counter((true, predicted) for _, true, predicted, _ in rows)
    expected = {
        (true, predicted): int(confusion[i][j])
        for i, true in enumerate(CLASSES)
        for j, predicted in enumerate(CLASSES)
        if i != j and int(confusion[i][j])
    }
    assert wrong == expected
    for file, true, _, _ in rows:
        assert Path(file).parent == photos / "val" / true
        assert Path(file).is_file()
    probabilities = [float(row[3]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(1 / len(CLASSES) <= probability <= 1 for probability in probabilities)


def test_the_matrix_and_the_worst_mistakes_are_printed(trained: tuple[Path, Result]) -> None:
    output, answer = trained
    assert answer.stdout.strip() == str(output / "model.safetensors")
    _, *rows = table(output / "mistakes.csv")
    assert f"{len(rows)} of 48 validation images are wrong" in answer.stderr
    assert rows[0][0] in answer.stderr
    for name, *counts in table(output / "confusion.csv")[1:]:
        assert [name, *counts] in [line.split() for line in answer.stderr.splitlines()]
    assert "--data" in answer.stderr.splitlines()[-1], "how to score it comes last"
