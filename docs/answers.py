"""Stores the answers of every embedded weight: ``python docs/answers.py [--from DIR] [NAME...]``.

Writes weights_manifest/answers.parquet, which ships with Zoo: docs/scores.md says what it holds. Weights whose hash is
there already are not evaluated again. DIR has files NAME.safetensors that ``zoo evaluate NAME --outputs`` wrote, or
files NAME/seedN.safetensors of several trainings, by ``zoo publish --outputs``. Needs the data sets (``ZOO_DATA``).
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow
from pyarrow import parquet

import zoo
from zoo import registry
from zoo.evaluation import answers
from zoo.evaluation.answers import Contents, Published
from zoo.evaluation.outputs import StoredOutputs
from zoo.manifest import Weights

FILE = Path(__file__).parents[1] / "weights_manifest" / "answers.parquet"
SCHEMA = pyarrow.schema(
    [
        ("weights", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("data", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("image", pyarrow.int32()),
        ("label", pyarrow.uint8()),
        ("class", pyarrow.uint8()),
        ("confidence", pyarrow.float32()),
    ]
)


def embedded() -> list[Weights]:
    """Returns the weights that ship with Zoo, by name."""
    every = [weights for model in registry.current().models() for weights in model.weights]
    return sorted((one for one in every if one.hub.startswith("embedded:")), key=lambda one: one.name)


def evaluate(weights: Weights, where: str) -> StoredOutputs:
    data, _, split = where.rpartition("/")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outputs.safetensors"
        zoo.evaluate(weights.name, data, split, outputs=file)
        return zoo.evaluation.read_outputs(file)


def of_seeds(weights: Weights, where: str, folder: Path) -> dict[int, StoredOutputs]:
    """Returns the outputs of the trainings of the score's spread, by seed; raises unless they are what it states."""
    spread, claim = weights.scores[where].spread, weights.scores[where]
    if spread is None:
        return {}
    stored = {
        seed: zoo.evaluation.read_outputs(folder / weights.name / f"seed{seed}.safetensors") for seed in spread.seeds
    }
    for (seed, outputs), top1 in zip(stored.items(), spread.top1, strict=True):
        report = outputs.about.report
        if report.fingerprint != claim.fingerprint or abs(report.top1 - top1) > 0.001:
            raise SystemExit(f"{weights.name}, seed {seed}: expected {top1} on {claim.fingerprint}, got {report}.")
    return stored


def rows(name: str, weights: Weights, where: str, stored: StoredOutputs) -> pyarrow.Table:
    """Returns the answers in ``stored``, in the order of the images; raises unless they are what the claim is about."""
    claim, report = weights.scores[where], stored.about.report
    got = (stored.about.sha256, report.fingerprint, report.correct)
    expected = (weights.sha256, claim.fingerprint, claim.correct)
    if name == weights.name and got != expected:
        raise SystemExit(f"{weights.name}: expected hash, images and count {expected}, got {got}.")
    is_in = np.ones(claim.n + len(claim.without), dtype=bool)
    is_in[list(claim.without)] = False
    predicted, confidence = stored.outputs.ranked[:, 0], None
    if stored.outputs.logits is not None:
        probabilities = stored.outputs.logits.double().softmax(dim=1)
        confidence = probabilities.gather(1, predicted[:, None])[:, 0].numpy().round(4)
    columns: dict[str, Any] = {
        "weights": [name] * claim.n,
        "data": [where] * claim.n,
        "image": is_in.nonzero()[0],
        "label": stored.labels.numpy(),
        "class": predicted.numpy(),
        "confidence": [None] * claim.n if confidence is None else confidence,
    }
    return pyarrow.table(columns, schema=SCHEMA)


def write(file: Path, tables: list[pyarrow.Table], contents: Contents) -> None:
    """Writes a row group for each of ``tables``."""
    schema = SCHEMA.with_metadata({answers.KEY: msgspec.json.encode(contents)})
    with parquet.ParquetWriter(
        file, schema, compression="zstd", compression_level=19,
        use_dictionary=["weights", "data", "confidence"],
        column_encoding={"image": "DELTA_BINARY_PACKED", "label": "PLAIN", "class": "PLAIN"},
    ) as writer:  # fmt: skip
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=len(table))


def main(folder: Path | None, names: list[str]) -> None:
    there: dict[str, tuple[Published, pyarrow.Table, tuple[str, ...]]] = {}
    if FILE.exists():
        with parquet.ParquetFile(FILE) as file:
            contents = answers.contents()
            for row, about in enumerate(contents.weights):
                there[about.name] = (about, file.read_row_group(row).cast(SCHEMA), contents.classes[about.data])
    every = embedded()
    for weights in every:
        if names and weights.name not in names:
            continue
        if weights.name in there and there[weights.name][0].sha256 == weights.sha256:
            continue
        (where,) = weights.scores
        trainings = {} if folder is None else of_seeds(weights, where, folder)
        stored = {f"{weights.name}/seed{seed}": outputs for seed, outputs in trainings.items()}
        if trainings:
            stored[weights.name] = next(one for one in trainings.values() if one.about.sha256 == weights.sha256)
        elif folder is not None:
            stored[weights.name] = zoo.evaluation.read_outputs(folder / f"{weights.name}.safetensors")
        else:
            stored[weights.name] = evaluate(weights, where)
        for name, outputs in stored.items():
            about = Published(name, outputs.about.sha256, where, outputs.about.report.fingerprint)
            there[name] = (about, rows(name, weights, where, outputs), outputs.about.classes)
            print(f"{name}: {outputs.about.report.correct:,} of {outputs.about.report.n:,}", flush=True)
    ships = [weights.name for weights in every]
    kept = [there[name] for name in sorted(there) if name.partition("/")[0] in ships]
    classes = {about.data: names for about, _, names in kept}
    write(FILE, [table for _, table, _ in kept], Contents(1, tuple(about for about, _, _ in kept), classes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="NAME")
    told = parser.parse_args()
    main(told.folder, told.names)
