"""What the Hugging Face Hub answers today, from the local server: closed repositories, limits, signed addresses."""

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from support.hub_entries import CONTENT, FILE, REPO, SHA256, entry, unpinned
from support.hub_repositories import Gate
from support.hub_server import HubServer

import zoo
from zoo import hub
from zoo.errors import HubError, IntegrityError
from zoo.hub import cache
from zoo.trust import pinning

LIMITED = {"RateLimit": '"resolvers";r=0;t=1', "RateLimit-Policy": '"fixed window";"resolvers";q=5000;w=300'}


@pytest.fixture
def commit(hub_server: HubServer) -> str:
    """The commit of a repository that holds FILE."""
    return hub_server.commit(REPO, {FILE: CONTENT})


@pytest.fixture(autouse=True)
def _no_token_leaves_the_hub(hub_server: HubServer) -> Iterator[None]:
    yield
    elsewhere = [asked for asked in hub_server.requests if asked.origin != "hub"]
    assert [asked.path for asked in elsewhere if asked.authorization] == []


# ---- closed repositories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", r"accept the terms of alice/tiny at http://\S+/alice/tiny .*log in: hf auth login, or set HF_TOKEN"),
        ("token-of-bob", r"requires approval for alice/tiny \(it says: .* not authorized.\); ask for it at http"),
        ("expired", r"rejects your token \(log in again: hf auth login\), and without one requires that you accept"),
    ],
)
def test_a_gated_repository_says_what_to_do(
    hub_server: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch, token: str, says: str
) -> None:
    hub_server.repos[REPO].gate = Gate()
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=says) as caught:
        hub.fetch(entry(revision=commit))
    assert "token-of" not in str(caught.value)


def test_a_request_for_access_that_is_pending_is_waited_for(
    hub_server: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.repos[REPO].gate = gate = Gate(pending={"bob"})
    monkeypatch.setenv("HF_TOKEN", "token-of-bob")
    with pytest.raises(HubError, match=r"awaiting a review.*wait for it, then try again"):
        hub.fetch(entry(revision=commit))
    gate.pending, gate.accepted = set(), {"bob"}
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT


def test_a_disabled_repository_is_an_error_of_fetching_and_of_pinning(hub_server: HubServer, commit: str) -> None:
    hub_server.repos[REPO].is_disabled = True
    says = r"has disabled alice/tiny .*use another source"
    with pytest.raises(HubError, match=says):
        hub.fetch(entry(revision=commit))
    with pytest.raises(HubError, match=says):
        pinning.resolve(unpinned())


def test_an_error_without_a_code_is_shown_with_what_the_hub_says(hub_server: HubServer, commit: str) -> None:
    hub_server.inject("403", "/resolve/", headers={"X-Error-Message": "Please\x0baccept " + "x" * 1000})
    with pytest.raises(HubError, match=r"returned 403 Forbidden: .{1,300}\n"):
        hub.fetch(entry(revision=commit))


# ---- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [LIMITED, {"Retry-After": "1"}], ids=["RateLimit", "Retry-After"])
def test_a_limit_that_ends_soon_is_waited_for(hub_server: HubServer, commit: str, headers: dict[str, str]) -> None:
    hub_server.inject("429", "/resolve/", headers=headers)
    start = time.monotonic()
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    assert time.monotonic() - start >= 1


@pytest.mark.parametrize(
    "headers",
    [{"RateLimit": '"api";r=0;t=3600'}, {"Retry-After": "in an hour"}, {"Retry-After": "3600"}],
    ids=["RateLimit", "a date", "seconds"],
)
def test_a_limit_that_lasts_says_when_to_try_again(hub_server: HubServer, commit: str, headers: dict[str, str]) -> None:
    says = r"429.*asks to wait 3,[56]\d\d s, longer than the timeout of 20 s; try again after 20\d\d-.*ZOO_TIMEOUT=3"
    if headers.get("Retry-After") == "in an hour":
        headers = {"Retry-After": formatdate(time.time() + 3600, usegmt=True)}
    hub_server.inject("429", "/resolve/", headers=headers)
    with pytest.raises(HubError, match=says):
        hub.fetch(entry(revision=commit))
    hub_server.inject("429", "/api/", headers=headers)
    with pytest.raises(HubError, match=says):
        pinning.resolve(unpinned())


def test_pinning_waits_for_a_limit_that_ends_soon(hub_server: HubServer, commit: str) -> None:
    hub_server.inject("429", f"/api/models/{REPO}", headers=LIMITED)
    assert pinning.resolve(unpinned()).sha256 == SHA256
    hub_server.inject("429", "/paths-info/", headers=LIMITED)
    assert pinning.resolve(unpinned()).revision == commit


def test_a_limit_of_the_window_that_is_not_used_up_does_not_delay(hub_server: HubServer, commit: str) -> None:
    hub_server.inject("503", "/resolve/", headers={"RateLimit": '"resolvers";r=12;t=3600'})
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT


def test_a_cached_file_that_is_pinned_needs_no_request(
    hub_server: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hub.fetch(entry(revision=commit))
    hub_server.requests.clear()
    hub_server.inject("429", "", times=1000, headers={"RateLimit": '"api";r=0;t=3600'})
    assert hub.fetch(entry(revision=commit)) == hub.fetch(entry(revision=commit)) == file
    assert hub_server.requests == []


def test_a_name_that_was_pinned_on_first_use_needs_no_request_either(hub_server: HubServer) -> None:
    hub_server.commit("timm/test_resnet.r160_in1k", {FILE: CONTENT})
    file = zoo.fetch("timm/test_resnet.r160_in1k")
    assert hub_server.requests
    hub_server.requests.clear()
    hub_server.inject("429", "", times=1000, headers={"RateLimit": '"api";r=0;t=3600'})
    assert zoo.fetch("timm/test_resnet.r160_in1k") == file
    assert hub_server.requests == []


# ---- addresses -------------------------------------------------------------------------------------------------


def test_a_signed_address_that_expired_is_asked_for_again_and_the_file_continued(
    hub_server: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    hub_server.inject("cut", SHA256, after=600_000)
    expired = []

    def expire(done: int, _: int) -> None:
        if done == 600_000 and not expired:
            expired.append(done)
            hub_server.expire()
            hub_server.inject("403", f"/{SHA256}?")  # and the next one at once

    assert hub.fetch(entry(revision=commit), progress=expire).read_bytes() == CONTENT
    answers = [(asked.origin, asked.status, asked.range) for asked in hub_server.requests]
    assert answers == [
        ("hub", 302, ""),
        ("content", 200, ""),
        ("hub", 302, "bytes=600000-"),
        ("content", 403, "bytes=600000-"),
        ("hub", 302, "bytes=600000-"),
        ("content", 206, "bytes=600000-"),
    ]


def test_signed_addresses_that_never_work_are_given_up_without_showing_them(hub_server: HubServer, commit: str) -> None:
    hub_server.inject("403", f"/{SHA256}?", times=100)
    with pytest.raises(HubError, match=r"redirects to an address that has expired \(403 Forbidden\)") as caught:
        hub.fetch(entry(revision=commit))
    assert "secret" not in str(caught.value)
    assert len(hub_server.requests) == 6, "three attempts"


def test_a_renamed_repository_is_found_under_its_old_name(
    hub_server: HubServer, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    hub_server.repos[REPO].is_private = True
    hub_server.renamed["alice/old"] = REPO
    assert pinning.resolve(unpinned(repo="alice/old")).sha256 == SHA256
    hub_server.requests.clear()
    assert hub.fetch(entry(repo="alice/old", revision=commit)).read_bytes() == CONTENT
    assert [asked.status for asked in hub_server.requests] == [307, 302, 200]
    assert hub_server.requests[1].authorization == "Bearer token-of-alice"


def test_what_a_renamed_repository_serves_must_still_be_the_pinned_file(hub_server: HubServer, commit: str) -> None:
    hub_server.renamed["alice/old"] = "alice/other"
    hub_server.commit("alice/other", {FILE: b"other"})
    with pytest.raises(IntegrityError, match="nothing was read"):
        hub.fetch(entry(repo="alice/old"))
    assert cache.find(entry()) is None
