"""Attestations: what somebody measured of weights, as a signed in-toto statement.

https://github.com/in-toto/attestation. The subject is the weights file with its sha256, the predicate a
:class:`Measurement`. All attestations of a file are lines of another file beside it, ``<file>.intoto.jsonl``.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import SignatureError
from zoo.manifest import Count, Score, Weights
from zoo.manifest.interval import wilson
from zoo.registry import Found, Listed
from zoo.spec import Preprocess
from zoo.trust import dsse
from zoo.trust.dsse import Envelope
from zoo.trust.lock import full_name

SUFFIX = ".intoto.jsonl"
LARGEST = 1 << 20
"""Bytes of all attestations of a file: room for hundreds."""

KIND = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:zoo-vision:score:v1"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The predicate: ``correct`` of ``n`` images of a split were classified correctly.

    ``weights`` is the name that was measured, ``args`` its arguments, and ``preprocess`` how images were prepared: the
    same file may score otherwise as another network or with another input.
    """

    weights: str
    dataset: str
    split: str
    fingerprint: str
    n: Count
    correct: Count
    preprocess: Preprocess
    args: dict[str, Any]
    command: str
    versions: dict[str, str]
    cpu: str
    device: str
    dtype: str
    measured: datetime

    def __post_init__(self) -> None:
        if not 0 < self.n >= self.correct:
            raise ValueError(f"{self.correct} of {self.n} images cannot be correct")
        if self.measured.tzinfo is None:
            raise ValueError("measured has no time zone")

    @property
    def where(self) -> str:
        return f"{self.dataset}/{self.split}"

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of top-1, in per cent."""
        low, high = wilson(self.correct, self.n)
        return 100 * low, 100 * high

    def __str__(self) -> str:
        return f"{self.where}: {100 * self.correct / self.n:.3f}% ({self.correct:,} of {self.n:,})"


class Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    kind: str
    subject: list[Subject]
    predicate_type: str
    predicate: msgspec.Raw


def sign(measurement: Measurement, weights: Weights, key: Path) -> bytes:
    """A line with the attestation of ``measurement``; raises as :func:`zoo.trust.dsse.sign`."""
    subject = Subject(weights.file.rpartition("/")[2], {"sha256": weights.sha256})
    predicate = msgspec.Raw(msgspec.json.encode(measurement))
    payload = msgspec.json.encode(Statement(STATEMENT, [subject], PREDICATE, predicate))
    return msgspec.json.encode(dsse.sign(payload, KIND, key)) + b"\n"


def read_lines(content: bytes) -> list[Envelope]:
    """The envelopes in ``content``, one per line; other lines are ignored, as the format asks of readers."""
    found = []
    for line in content[:LARGEST].splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Envelope))
        except (msgspec.DecodeError, RecursionError):
            continue
    return found


def measurement_in(envelope: Envelope, found: Found | Listed, weights: Weights) -> Measurement | None:
    """What ``envelope``, whose signature was verified, states about ``weights`` of ``found``.

    None for a statement of another kind. Raises :class:`SignatureError` if it is about other weights, another name,
    other images than the manifest's score, or images that were prepared otherwise.
    """
    if envelope.payloadType != KIND:
        return None
    try:
        statement = msgspec.json.decode(envelope.content, type=Statement)
        if (statement.kind, statement.predicate_type) != (STATEMENT, PREDICATE):
            return None
        measured = msgspec.json.decode(statement.predicate, type=Measurement)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SignatureError(f"it is not a statement about a score: {str(error)[:200]}") from None
    digests = [subject.digest.get("sha256", "") for subject in statement.subject]
    if not weights.sha256 or weights.sha256 not in digests:
        raise SignatureError(f"it is about weights with sha256 {', '.join(digests)[:64] or 'unknown'}")
    if measured.weights != full_name(found, weights.tag):
        raise SignatureError(f"it is about {measured.weights[:200]}")
    claim = weights.scores.get(measured.where)
    if claim is not None and (reason := _other_images(measured, claim)):
        raise SignatureError(reason)
    if measured.preprocess != (weights.preprocess or found.model.preprocess):
        raise SignatureError("it is about images that were prepared in another way than the manifest says")
    if _plain(measured.args) != _plain(weights.args):
        raise SignatureError("it is about a network with other arguments than the manifest says")
    return measured


def confirms(measured: Measurement, claim: Score) -> bool:
    """Whether the claimed top-1 lies within the interval of the measured one."""
    low, high = measured.interval
    return claim.top1 is not None and low <= claim.top1 <= high


def _plain(args: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(args, order="deterministic")


def _other_images(measured: Measurement, claim: Score) -> str:
    if claim.fingerprint and claim.fingerprint != measured.fingerprint:
        return f"it is about other images ({measured.fingerprint[:30]}) than the score ({claim.fingerprint[:30]})"
    return f"it is about {measured.n:,} images, the score about {claim.n:,}" if measured.n != claim.n else ""
