"""One server, two clients: what Zoo and huggingface_hub bring where things go wrong, and S3 likewise."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from support.hub_entries import (
    COMMIT,
    CONTENT,
    FILE,
    FLIPPED_SHA256,
    REPO,
    SHA256,
    arrived,
    entry,
    flipped,
    parts,
    quarantined,
    start_fetch,
)
from support.hub_server import HubServer

from zoo import hub
from zoo.errors import HubError, IntegrityError
from zoo.hub import cache
from zoo.hub.parts import Part

FAULTS: dict[str, dict[str, Any]] = {
    "cut": {"after": 300_000},
    "slow": {"seconds": 0.01},
    "hang": {"after": 300_000, "seconds": 1.0},
    "silent": {"seconds": 1.0},
    "500": {},
    "503": {},
    "429": {},
}
"""Faults that pass: whoever asks again gets all of it."""


def by_client(server: HubServer, file: str = FILE, **arguments: Any) -> bytes:
    """Returns what the real client makes of a request, in its own cache."""
    from huggingface_hub import hf_hub_download

    arguments = {"token": False, "cache_dir": os.environ["HF_HUB_CACHE"], "endpoint": server.url, **arguments}
    return Path(hf_hub_download(REPO, file, **arguments)).read_bytes()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_that_passes_costs_no_more_than_asking_again(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject(kind, SHA256, **FAULTS[kind])
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    assert sum(request.sent for request in hub_server.bodies()) == len(CONTENT), "nothing is sent twice"
    assert [fault.times for fault in hub_server.faults] == [0], "it went wrong as it should"
    assert parts() == quarantined() == []


@pytest.mark.parametrize("kind", ["none", "cut", "slow", "500"])
def test_the_real_client_gets_the_same_bytes_from_the_same_server(hub_server: HubServer, kind: str) -> None:
    """Those faults for which it asks again: the server is no easier on Zoo than on the client it was made for."""
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    if kind != "none":
        hub_server.inject(kind, SHA256, **FAULTS[kind])
    try:
        theirs = by_client(hub_server, revision=commit)
    except OSError:
        assert kind == "500", "its releases differ in whether they ask again after a server's error"
        theirs = by_client(hub_server, revision=commit)
    os.environ["HF_HUB_CACHE"] += "-other"
    assert hub.fetch(entry(revision=commit)).read_bytes() == theirs == CONTENT


def test_the_pinned_commit_is_served_when_main_has_moved_on(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.commit(REPO, {FILE: b"other"})
    assert by_client(hub_server, revision=commit) == CONTENT
    assert by_client(hub_server) == b"other"
    os.environ["HF_HUB_CACHE"] += "-other"
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    (cache.find(entry()) or Path()).unlink()
    with pytest.raises(IntegrityError, match="nothing was read"):
        hub.fetch(entry(revision=""))  # main


def test_a_private_repository_opens_to_its_owners_token_alone(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    commit = hub_server.commit(REPO, {FILE: CONTENT}, private=True)
    for token in (False, "token-of-bob"):
        with pytest.raises(RepositoryNotFoundError):
            by_client(hub_server, revision=commit, token=token)
        monkeypatch.setenv("HF_TOKEN", token or "")
        with pytest.raises(HubError, match="or it is private"):
            hub.fetch(entry(revision=commit))
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    assert by_client(hub_server, revision=commit, token="token-of-alice") == CONTENT


def test_a_stale_token_closes_a_public_repository_to_the_client_and_not_to_zoo(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    commit = hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(HfHubHTTPError):
        by_client(hub_server, revision=commit, token="expired")
    monkeypatch.setenv("HF_TOKEN", "expired")
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    assert not [request for request in hub_server.requests if request.origin == "content" and request.authorization]


@pytest.mark.parametrize(("kind", "said"), [("flip", FLIPPED_SHA256), ("size", "has 1,000,004 bytes")])
def test_wrong_bytes_are_refused_each_time_and_then_the_right_ones_are_taken(
    hub_server: HubServer, kind: str, said: str
) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject(kind, SHA256, times=2)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=said):
            hub.fetch(entry(revision=commit))
        assert cache.find(entry()) is None
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT


def test_a_part_is_continued_through_the_redirect_and_with_the_token(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT}, private=True)
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    with Part(SHA256) as part:
        part.write(CONTENT[:700_000])
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    (body,) = hub_server.bodies()
    assert (body.origin, body.range, body.sent) == ("content", "bytes=700000-", 300_000)


# ---- a bucket --------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(s3_server: str) -> str:
    """The address of a hub in a bucket that holds FILE."""
    put(CONTENT)
    return "s3://weights/hub"


def put(content: bytes) -> None:
    import s3fs

    system = s3fs.S3FileSystem(skip_instance_cache=True)
    if not system.exists("weights"):
        system.mkdir("weights")
    system.pipe(f"weights/hub/{REPO}/{FILE}", content)


def record(server: str, action: str, method: str = "POST") -> str:
    with urlopen(Request(f"{server}/moto-api/recorder/{action}", method=method)) as answer:
        text: str = answer.read().decode()
    return text


def test_a_part_is_continued_by_a_ranged_read_of_the_bucket(
    bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the server records there
    with Part(SHA256) as part:
        part.write(CONTENT[:700_000])
    record(s3_server, "reset-recording")
    record(s3_server, "start-recording")
    try:
        assert hub.fetch(entry(hub=bucket)).read_bytes() == CONTENT
    finally:
        record(s3_server, "stop-recording")
    asked = [json.loads(line) for line in record(s3_server, "download-recording", "GET").splitlines()]
    ranges = [{name.lower(): value for name, value in row["headers"].items()}.get("range") for row in asked]
    assert [span.partition("-")[0] for span in ranges if span] == ["bytes=700000"]


@pytest.mark.slow
def test_a_killed_fetch_from_a_bucket_is_continued_by_the_next_process(bucket: str) -> None:
    content = hashlib.shake_256(b"long").digest(1_000_000) * 80
    put(content)
    weights = entry(hub=bucket, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    with start_fetch(weights) as process:
        while arrived(weights.sha256) <= 1_000_000:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    here = arrived(weights.sha256)
    assert cache.find(weights) is None
    reports: list[int] = []
    file = hub.fetch(weights, progress=lambda done, _: reports.append(done))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == weights.sha256
    assert reports[0] == here > 1_000_000
    assert parts() == []


@pytest.mark.slow
def test_wrong_bytes_in_a_bucket_are_refused(bucket: str, tmp_path: Path) -> None:
    put(flipped(CONTENT))
    with pytest.raises(IntegrityError, match=FLIPPED_SHA256):
        hub.fetch(entry(hub=bucket))
    assert quarantined() == [f"expected-{SHA256}-got-{FLIPPED_SHA256}"]
    put(CONTENT[:-1])
    with pytest.raises(IntegrityError, match="has 999,999 bytes, expected 1,000,000"):
        hub.fetch(entry(hub=bucket))
    put(CONTENT)
    assert hub.fetch(entry(hub=bucket)).read_bytes() == CONTENT


@pytest.mark.slow
def test_a_bucket_that_is_not_there_or_refuses_is_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="has no such file"):
        hub.fetch(entry(hub="s3://nobody/hub"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(HubError, match=r"denies access .*check the credentials in the environment"):
        hub.fetch(entry(hub=bucket, revision=COMMIT))
