"""Witnesses: who measured weights again, by which key, and whether they confirm what the manifest claims."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import msgspec

from zoo.errors import SignatureError, ZooError
from zoo.hub import companion
from zoo.manifest import Weights
from zoo.registry import Found, Listed
from zoo.trust import attestation, dsse
from zoo.trust.attestation import Measurement
from zoo.trust.dsse import Envelope, PublicKey

CONFIRMS, DISAGREES, NO_CLAIM, REJECTED, UNKNOWN = "confirms", "disagrees", "no claim", "rejected", "unknown key"


class Attested(msgspec.Struct, frozen=True):
    """An attestation: the ``hub`` that has it, the ``witness`` whose key signed it, and the ``verdict``.

    The witness is empty for a key that the policy does not name; ``reason`` says why an attestation is rejected.
    """

    hub: str
    keyid: str
    witness: str
    verdict: str
    measured: Measurement | None = None
    reason: str = ""

    @property
    def words(self) -> str:
        """Who states what, without the hub."""
        who = self.witness or f"key {self.keyid[:12]}"
        if self.verdict == UNKNOWN:
            return f"{who}: not a witness of the policy, not verified"
        if self.measured is None:
            return f"{who}: rejected: {self.reason}"
        verdict = {CONFIRMS: "confirms the score", DISAGREES: "disagrees with the score"}.get(
            self.verdict, "the manifest claims no such score"
        )
        return f"{who}: {self.measured}, {verdict}, {self.measured.measured:%Y-%m-%d}"

    def __str__(self) -> str:
        return f"{self.words} ({self.hub})"


def of(found: Found | Listed, weights: Weights, witnesses: Mapping[str, Path], *, ask: bool = False) -> list[Attested]:
    """The attestations of ``weights`` on all hubs; of each witness the latest for each split.

    ``witnesses`` are the files of public keys. Hubs that need a network are asked if ``ask``. Raises
    :class:`SignatureError` if a key cannot be read, MissingExtraError without cryptography.
    """
    bundles = companion.read(weights, attestation.SUFFIX, attestation.LARGEST, ask=ask)
    if not bundles:
        return []
    keys = {name: dsse.public_key(file) for name, file in witnesses.items()}
    seen: set[str] = set()
    every = []
    for hub, content in bundles.items():
        for envelope in attestation.read_lines(content):
            if repr(envelope) not in seen:  # a copy on another hub
                seen.add(repr(envelope))
                every += _judged(envelope, hub, keys, found, weights)
    return _latest(every)


def disagreements(attested: Iterable[Attested]) -> list[str]:
    """Where witnesses measured the same images and got different counts."""
    valid = [one for one in attested if one.measured is not None]
    lines = []
    for one, other in combinations(valid, 2):
        left, right = one.measured, other.measured
        assert left is not None
        assert right is not None
        if (left.where, left.fingerprint) != (right.where, right.fingerprint) or left.correct == right.correct:
            continue
        apart = left.interval[1] < right.interval[0] or right.interval[1] < left.interval[0]
        lines.append(
            f"{one.witness} and {other.witness} disagree on {left.where}: {left.correct:,} and {right.correct:,} of "
            f"{left.n:,}{', intervals do not overlap' if apart else ', within the interval'}"
        )
    return lines


def require(found: Found, weights: Weights, witnesses: Mapping[str, Path], least: int) -> str:
    """The witnesses that confirm a score of ``weights``.

    Two names of one key count as one. Raises :class:`SignatureError` if fewer than ``least`` confirm one of the scores,
    or if one disagrees with the manifest.
    """
    reasons: list[str] = []
    for ask in (False, True):  # what is here may be enough
        try:
            attested = of(found, weights, witnesses, ask=ask)
        except ZooError as error:
            raise SignatureError(error.message, hint=error.hint) from None
        confirmed: dict[str, dict[str, str]] = {}
        for one in attested:
            if one.verdict == CONFIRMS and one.measured is not None:
                confirmed.setdefault(one.measured.where, {})[one.keyid] = one.witness
        against = [one for one in attested if one.verdict == DISAGREES]
        most = max(confirmed.values(), key=len, default={})
        if len(most) >= least and not against:
            return f"confirmed by {' and '.join(sorted(most.values()))}"
        reasons = [str(one) for one in against or attested]
    needed = f"{least} witnesses must confirm a score, {len(most)} do"
    problem = "a witness disagrees with the manifest" if against else needed
    raise SignatureError("\n  ".join([problem, *reasons]))


def _judged(
    envelope: Envelope, hub: str, keys: Mapping[str, PublicKey], found: Found | Listed, weights: Weights
) -> list[Attested]:
    """Nothing for a statement about something else than a score."""
    by = {witness: key for witness, key in keys.items() if _is_signed(envelope, key)}
    if not by:
        hints = {signature.keyid for signature in envelope.signatures}
        forged = [
            Attested(hub, key.id, witness, REJECTED, None, "the signature is not that of its content by this key")
            for witness, key in keys.items()
            if key.id in hints
        ]
        return forged or [Attested(hub, next(iter(hints), ""), "", UNKNOWN)]
    judged = []
    for witness, key in by.items():
        try:
            measured = attestation.measurement_in(envelope, found, weights)
        except SignatureError as error:
            judged.append(Attested(hub, key.id, witness, REJECTED, None, error.message))
            continue
        if measured is not None:
            claim = weights.scores.get(measured.where)
            agrees = claim is not None and attestation.confirms(measured, claim)
            verdict = NO_CLAIM if claim is None or claim.top1 is None else CONFIRMS if agrees else DISAGREES
            judged.append(Attested(hub, key.id, witness, verdict, measured))
    return judged


def _is_signed(envelope: Envelope, key: PublicKey) -> bool:
    try:
        return dsse.is_signed(envelope, key)
    except SignatureError:  # no base64
        return False


def _latest(every: list[Attested]) -> list[Attested]:
    """Without measurements that their witness repeated later."""
    last = {
        (one.witness, one.measured.where): one
        for one in sorted(every, key=lambda one: one.measured.measured.timestamp() if one.measured else 0.0)
        if one.measured is not None
    }
    return [one for one in every if one.measured is None or last[one.witness, one.measured.where] is one]
