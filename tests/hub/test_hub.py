"""Fetching: real servers, real processes, real faults; only the bytes of the manifest are ever kept."""

import base64
import errno
import functools
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support import specimen
from support.hub_entries import (
    COMMIT,
    CONTENT,
    FILE,
    FLIPPED_SHA256,
    REPO,
    SHA256,
    arrived,
    directory,
    entry,
    flipped,
    parts,
    quarantined,
    start_fetch,
    unpinned,
)
from support.hub_server import HubServer

from zoo import hub
from zoo.errors import HubError, IntegrityError, MissingExtraError, OfflineError, UnpinnedError
from zoo.hub import cache, download, web
from zoo.hub.parts import Part
from zoo.manifest import Weights
from zoo.trust import pinning
from zoo_publish import destination


def output_of(process: "subprocess.Popen[str]") -> str:
    with process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output.strip()


# ---- every kind of source ----------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_directory_is_a_hub_by_its_path_or_address(tmp_path: Path, form: Callable[[Path], str]) -> None:
    file = hub.fetch(entry(hub=form(Path(directory(tmp_path / "a hub")))))
    assert file.read_bytes() == CONTENT
    assert file.is_relative_to(cache.root())
    assert parts() == []


def test_a_plugins_package_is_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = specimen.install(tmp_path, monkeypatch, more={FILE: CONTENT})
    assert hub.fetch(entry(hub=f"embedded:{package}", repo="")).read_bytes() == CONTENT


@pytest.mark.parametrize("package", ["no_such_package", "", ".", "a b", "os", "__main__", "json.no_such_package"])
def test_a_package_that_is_not_installed_is_no_hub(package: str) -> None:
    with pytest.raises(HubError, match="No source served"):
        hub.fetch(entry(hub=f"embedded:{package}"))


@pytest.mark.parametrize("package", ["installed", "installed.within"])
def test_a_package_is_not_imported_for_the_files_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    directory(tmp_path / "installed")
    directory(tmp_path / "installed" / "within")
    for file in (tmp_path / "installed", tmp_path / "installed" / "within"):
        (file / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    assert hub.fetch(entry(hub=f"embedded:{package}")).read_bytes() == CONTENT
    assert not (tmp_path / "ran").exists()
    assert "installed" not in sys.modules


def test_a_hugging_face_hub_serves_the_pinned_commit_through_its_content_origin(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.commit(REPO, {FILE: b"what main holds by now"})
    assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT
    assert [(request.origin, request.status) for request in hub_server.requests] == [("hub", 302), ("content", 200)]
    assert f"/{REPO}/resolve/{commit}/{FILE}" == hub_server.requests[0].path


def test_a_hugging_face_hub_serves_small_files_itself(hub_server: HubServer) -> None:
    content = b"small"
    hub_server.commit(REPO, {"nested folder/a.txt": content})
    weights = entry(file="nested folder/a.txt", sha256=hashlib.sha256(content).hexdigest(), size=5)
    assert hub.fetch(weights).read_bytes() == content


def test_a_bucket_without_s3fs_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = import_module("fsspec.registry")  # fsspec.registry itself is the mapping
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match="needs s3fs") as caught:
        hub.fetch(entry(hub="s3://weights"))
    assert caught.value.hint == "pip install 'zoo-vision[s3]'"


@pytest.mark.parametrize("address", ["nonsense://x", "http://", "http://[", "http://h:port/", "s3:", "file://", "\0"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    with pytest.raises(HubError, match="No source served"):
        hub.fetch(entry(hub=address))


def test_an_https_hub_is_believed_only_with_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    with HubServer(tmp_path / "server", certificate=certificate) as server:
        commit = server.commit(REPO, {FILE: CONTENT})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(HubError, match="no valid certificate"):
            hub.fetch(entry(revision=commit))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert hub.fetch(entry(revision=commit)).read_bytes() == CONTENT


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography, which moto brings")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = built.add_extension(names, critical=False).sign(key, hashes.SHA256())
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own, on upload
def test_the_real_client_agrees_with_the_server_that_these_tests_use(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi, constants, hf_hub_download

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks the older protocol, git-lfs's
    api = HfApi(endpoint=hub_server.url, token="token-of-alice")
    api.create_repo(REPO, private=True)
    (tmp_path / FILE).write_bytes(CONTENT)
    (tmp_path / "README.md").write_bytes(b"# Tiny")
    commit = api.upload_folder(repo_id=REPO, folder_path=tmp_path, allow_patterns=["*.safetensors", "*.md"]).oid
    assert {item.path for item in api.list_repo_tree(REPO)} == {".gitattributes", FILE, "README.md"}
    download = functools.partial(hf_hub_download, REPO, endpoint=hub_server.url, token="token-of-alice")
    assert Path(download(FILE, revision=commit)).read_bytes() == CONTENT
    assert Path(download("README.md")).read_bytes() == b"# Tiny"


# ---- sources in order, none of them trusted ------------------------------------------------------


def test_a_source_that_is_named_is_used_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = directory(tmp_path / "good")
    monkeypatch.setenv("ZOO_HUB", good)
    with pytest.raises(HubError) as caught:
        hub.fetch(entry(hub=good), source=str(tmp_path / "empty"))
    assert good not in str(caught.value)
    assert hub.fetch(entry(hub=str(tmp_path / "empty")), source=good).read_bytes() == CONTENT


def test_a_flipped_byte_is_refused_and_quarantined_and_the_next_source_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HUB", directory(tmp_path / "bad", flipped(CONTENT)))
    file = hub.fetch(entry(hub=directory(tmp_path / "good")))
    assert file.read_bytes() == CONTENT
    assert quarantined() == [f"expected-{SHA256}-got-{FLIPPED_SHA256}"]
    assert (cache.root() / "quarantine" / quarantined()[0]).read_bytes() == flipped(CONTENT)


def test_when_no_source_is_left_the_error_names_each_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_server: HubServer
) -> None:
    bad = directory(tmp_path / "bad", flipped(CONTENT))
    monkeypatch.setenv("ZOO_HUB", f"{bad},{tmp_path / 'empty'}")
    with pytest.raises(IntegrityError) as caught:
        hub.fetch(entry())
    message = str(caught.value)
    assert f"{bad}: has sha256 {FLIPPED_SHA256}, expected {SHA256}" in message
    assert f"{tmp_path / 'empty'}: {REPO}/{FILE} cannot be opened: No such file or directory" in message
    assert f"{hub_server.url}: has no repository {REPO}" in message
    assert caught.value.exit_code == 1
    assert cache.find(entry()) is None


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    weights = entry(hub=directory(tmp_path / "hub"))
    hub.fetch(weights).write_bytes(flipped(CONTENT))
    assert hub.fetch(weights).read_bytes() == CONTENT
    assert quarantined() == [f"expected-{SHA256}-got-{FLIPPED_SHA256}"]


def test_a_file_that_was_damaged_in_the_cache_is_not_used_when_no_source_is_left(tmp_path: Path) -> None:
    weights = entry(hub=directory(tmp_path / "hub"))
    hub.fetch(weights).write_bytes(flipped(CONTENT))
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(IntegrityError, match=FLIPPED_SHA256):
        hub.fetch(weights)
    assert cache.find(weights) is None


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_of_another_size_is_refused_unread(hub_server: HubServer, size: int) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(IntegrityError, match=f"has 1,000,000 bytes, expected {size:,}"):
        hub.fetch(entry(size=size))
    assert cache.find(entry(size=size)) is None


def test_a_stream_is_read_no_further_than_the_file_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        name = "endless"
        is_local = True

        def open(self, weights: Weights, start: int) -> Any:
            from contextlib import nullcontext

            return nullcontext(download.Stream(lambda count: b"x" * count, 0, 0))

    with pytest.raises(IntegrityError, match="sent more than the 1,000,000 bytes expected"):
        download.receive(Endless(), entry())
    assert parts() == []
    monkeypatch.setattr(download, "LARGEST", 5_000_000)
    with pytest.raises(IntegrityError, match="sent more than the 5,000,000 bytes expected"):
        download.receive(Endless(), entry(size=0))


def test_a_pipe_in_a_directory_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    os.mkfifo(tmp_path / REPO / FILE)
    with pytest.raises(HubError, match="not a regular file"):
        hub.fetch(entry(hub=str(tmp_path)))


# ---- connections that fail -------------------------------------------------------------------------


def test_a_digest_is_that_of_the_whole_file_however_it_arrived(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("cut", SHA256, after=300_000)
    digest = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
    with Part(SHA256) as part:
        part.write(CONTENT[:10])
    assert hub.fetch(entry(digest=digest)).read_bytes() == CONTENT
    assert [request.range for request in hub_server.bodies()] == ["bytes=10-", "bytes=300010-"]


def test_a_digest_that_disagrees_with_the_sha256_is_an_error(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(IntegrityError, match=rf"has md5:[0-9a-f]{{32}}, expected md5:0{{32}} \(sha256 {SHA256}\)"):
        hub.fetch(entry(digest=f"md5:{'0' * 32}"))
    assert cache.find(entry()) is None


def test_a_mirror_is_asked_first_if_a_strong_digest_determines_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HUB", directory(tmp_path / "mirror"))
    origin = directory(tmp_path / "origin")
    for algorithm, first in (("sha384", "mirror"), ("sha1", "origin")):
        digest = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
        received = hub.fetch_unpinned(unpinned(hub=origin, digest=digest))
        assert received.source == str(tmp_path / first)


def test_a_connection_may_be_cut_as_often_as_it_takes_while_the_file_grows(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("cut", SHA256, times=6, after=2 * cache.CHUNK)
    assert hub.fetch(entry()).read_bytes() == CONTENT
    assert len(hub_server.bodies()) == 7


def test_a_connection_that_is_always_cut_is_given_up(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("cut", SHA256, times=100, after=1000)
    with pytest.raises(HubError, match="lost after 3,000 of 1,000,000 bytes"):
        hub.fetch(entry())
    assert len(hub_server.bodies()) == 3


def test_mirrors_that_err_lie_and_hang_give_way_to_a_good_one_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    with (
        HubServer(tmp_path / "1") as erring,
        HubServer(tmp_path / "2") as lying,
        HubServer(tmp_path / "3") as hanging,
        HubServer(tmp_path / "4") as longer,
        HubServer(tmp_path / "5") as silent,
        HubServer(tmp_path / "6") as good,
        caplog.at_level(logging.INFO, "zoo.hub"),
    ):
        servers = (erring, lying, longer, hanging, silent, good)
        for server in servers:
            server.commit(REPO, {FILE: CONTENT})
        erring.inject("500", times=100)
        lying.inject("flip", times=100)
        hanging.inject("hang", times=100, after=1000, seconds=1.0)
        silent.inject("silent", times=100, seconds=1.0)
        longer.inject("size", times=100)
        monkeypatch.setenv("ZOO_HUB", ",".join(server.mirror_url for server in servers))
        assert hub.fetch(entry(hub=str(tmp_path / "empty"))).read_bytes() == CONTENT
    assert quarantined() == [f"expected-{SHA256}-got-{FLIPPED_SHA256}"]
    assert [request.range for request in good.bodies()] == ["bytes=2000-"]  # what the hanging one sent is kept
    assert caplog.messages == [
        f"tiny.c10: {erring.mirror_url}: returned 500 Internal Server Error",
        f"tiny.c10: {lying.mirror_url}: has sha256 {FLIPPED_SHA256}, expected {SHA256}; moved to "
        f"{cache.root() / 'quarantine' / quarantined()[0]}",
        f"tiny.c10: {longer.mirror_url}: has 1,000,004 bytes, expected 1,000,000; nothing was read",
        f"tiny.c10: {hanging.mirror_url}: sent nothing for 0.2 s",
        f"tiny.c10: {silent.mirror_url}: did not respond within 0.2 s",
    ]


def test_a_hub_that_is_down_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, hub_server: HubServer) -> None:
    hub_server.__exit__()
    with pytest.raises(HubError, match=f"{hub_server.url}: cannot be reached"):
        hub.fetch(entry())


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_a_time_limit_that_is_none_is_an_error(
    monkeypatch: pytest.MonkeyPatch, hub_server: HubServer, text: str
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", text)
    with pytest.raises(HubError, match="expected a positive number of seconds"):
        hub.fetch(entry())


def test_a_killed_fetch_is_continued_by_the_next_process(hub_server: HubServer) -> None:
    content = hashlib.shake_256(b"long").digest(3_000_000)
    commit = hub_server.commit(REPO, {FILE: content})
    weights = entry(sha256=hashlib.sha256(content).hexdigest(), size=len(content), revision=commit)
    hub_server.inject("slow", weights.sha256, seconds=0.02)
    process = start_fetch(weights)
    while arrived(weights.sha256) <= 1_000_000:
        time.sleep(0.01)
    process.kill()
    output, _ = process.communicate()
    assert output == ""
    assert cache.find(weights) is None
    assert hub.fetch(weights).read_bytes() == content
    first, second = hub_server.bodies()
    assert second.range.startswith("bytes=")
    assert int(second.range.removeprefix("bytes=").removesuffix("-")) > 1_000_000
    assert first.sent + second.sent < 1.5 * len(content)
    assert parts() == []


def test_a_fetch_that_was_killed_before_the_last_step_needs_no_source(tmp_path: Path) -> None:
    with Part(SHA256) as part:
        part.write(CONTENT)
    assert hub.fetch(entry(hub=str(tmp_path / "gone"))).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT + b"more", flipped(CONTENT)[:700_000], flipped(CONTENT), b"junk"])
@pytest.mark.parametrize("size", [0, len(CONTENT)])
def test_a_part_with_other_bytes_is_fetched_again_from_the_start(hub_server: HubServer, left: bytes, size: int) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    with Part(SHA256) as part:
        part.write(left)
    assert hub.fetch(entry(size=size)).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.hub_server.Handler.send_file", _without_ranges)
    hub_server.commit(REPO, {FILE: CONTENT})
    with Part(SHA256) as part:
        part.write(CONTENT[:700_000])
    assert hub.fetch(entry()).read_bytes() == CONTENT


def _without_ranges(handler: Any, content: bytes, path: str, **_: str) -> None:
    handler.answer(200, bytes(content))


def test_concurrent_processes_make_one_download(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("slow", SHA256, seconds=0.03)
    processes = [start_fetch(entry(revision=commit)) for _ in range(8)]
    files = {output_of(process) for process in processes}
    assert files == {str(cache.find(entry()))}
    assert [request.sent for request in hub_server.bodies()] == [len(CONTENT)]


# ---- tokens -------------------------------------------------------------------------------------------


def test_a_token_goes_to_the_hub_and_never_to_the_content_origin(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT}, private=True)
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    assert hub.fetch(entry()).read_bytes() == CONTENT
    sent = [(request.origin, request.authorization) for request in hub_server.requests]
    assert sent == [("hub", "Bearer token-of-alice"), ("content", "")]


def test_a_token_does_not_go_to_a_mirror(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    monkeypatch.setenv("ZOO_HUB", hub_server.mirror_url)
    hub.fetch(entry())
    assert [request.authorization for request in hub_server.requests] == [""]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", f"has no repository {REPO}, or it is private"),
        ("token-of-bob", f"has no repository {REPO}, or it is private"),
        ("expired", r"rejects your token \(log in again: hf auth login\), and without one has no repository"),
    ],
)
def test_a_private_repository_without_the_right_token_says_so_and_shows_no_token(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, token: str, reason: str
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT}, private=True)
    monkeypatch.setenv("HF_TOKEN", token)
    with caplog.at_level(logging.DEBUG), pytest.raises(HubError, match=reason) as caught:
        hub.fetch(entry())
    assert not token or token not in str(caught.value) + caplog.text


def test_a_password_in_an_address_goes_to_its_server_and_is_never_shown(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = hub_server.mirror_url.replace("://", "://user:secret%40%2f@")  # as RFC 3986 has it
    with pytest.raises(HubError, match="returned 404") as caught:
        hub.fetch(entry(hub=address))
    assert hub_server.requests[0].authorization == "Basic " + base64.b64encode(b"user:secret@/").decode()
    assert "secret" not in str(caught.value)


def test_a_password_in_the_endpoint_goes_to_it_and_is_never_shown(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url.replace("://", "://me:secret@"))
    with pytest.raises(HubError, match="401 Unauthorized") as caught:  # the server knows tokens alone
        hub.fetch(entry())
    assert "secret" not in str(caught.value)
    (request,) = hub_server.requests
    assert request.authorization == "Basic " + base64.b64encode(b"me:secret").decode()
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    place = destination.parse("hf://alice/tiny", "tiny.c10")
    monkeypatch.setenv("HF_TOKEN", "token-of-alice")
    for act in (lambda: pinning.resolve(unpinned()), place.held):
        with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9") as caught:
            act()
        assert "secret" not in str(caught.value)


def test_what_a_hugging_face_hub_refuses_is_explained(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {"other.safetensors": CONTENT})
    with pytest.raises(HubError, match=f"has no file {FILE} in {REPO} at {commit}"):
        hub.fetch(entry(revision=commit))
    with pytest.raises(HubError, match=f"has no revision {COMMIT} of {REPO}"):
        hub.fetch(entry(revision=COMMIT))
    with pytest.raises(HubError, match="needs a repository of the form owner/name"):
        hub.fetch(entry(repo=""))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "redirects to file:, which is not followed"),
        ("ftp://127.0.0.1/x", "redirects to ftp:, which is not followed"),
        ("/alice/tiny/resolve/main/model.safetensors", "redirects more than 5 times"),
        ("http://[", "redirects to an invalid address"),
    ],
)
def test_redirects_are_few_and_stay_on_the_web(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, location: str, reason: str
) -> None:
    def redirect(handler: Any, **_: str) -> None:
        handler.answer(302, Location=location)

    monkeypatch.setattr("support.hub_server.Hub.resolve", redirect)
    with pytest.raises(HubError, match=reason):
        hub.fetch(entry())


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1", "127.1", "localhost", "a.localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"],
)
def test_a_public_host_does_not_redirect_to_this_machine_or_its_link(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public host is reached through a proxy, which answers for it."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://{target}:{server.server_port}/credentials")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        with pytest.raises(HubError, match="redirects to this machine or its link, which is not followed"):
            hub.fetch(entry(), source="http://models.example.org")
        server.shutdown()
    assert [path.partition(".org")[0] for path in asked] == ["http://models.example"]


def test_a_name_that_means_this_machine_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    places = {"models.example.org": "203.0.113.7", "inside.example.org": "127.0.0.1", "cdn.example.org": "203.0.113.8"}

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        return [(None, None, None, "", (places.get(host, host), 0))]

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    origin = "http://models.example.org/x"
    assert web._redirected(origin, "http://cdn.example.org/y") == "http://cdn.example.org/y"
    with pytest.raises(HubError, match="redirects to this machine"):
        web._redirected(origin, "http://inside.example.org/y")
    assert web._redirected("http://127.0.0.1/x", "http://inside.example.org/y") == "http://inside.example.org/y"


@pytest.mark.parametrize("status", [404, 503])
def test_what_a_server_says_reaches_an_exception_escaped_and_bounded(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.hub.download._PAUSE", 0.0)

    class Rude(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status, "\x1b[2J\x1b]0;owned\x07" + "long" * 1000)
            self.send_header("X-Error-Message", "\x1b[31mred\x9b")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Rude) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with pytest.raises(HubError) as caught:
            hub.fetch(entry(), source=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert caught.value.message.replace("\n", "").isprintable()
    assert r"\x1b[2J" in caught.value.message
    assert len(caught.value.message) < 2000


# ---- Hugging Face's own cache ----------------------------------------------------------------------------


@pytest.fixture
def hugging_face_file(hub_server: HubServer) -> Path:
    """The blob of FILE in the cache of the real client, the server stopped."""
    from huggingface_hub import hf_hub_download

    hub_server.commit(REPO, {FILE: CONTENT})
    # The client read HF_HUB_CACHE when it was imported, perhaps for another test.
    found = hf_hub_download(REPO, FILE, endpoint=hub_server.url, cache_dir=os.environ["HF_HUB_CACHE"], token=False)
    hub_server.requests.clear()
    return Path(found).resolve()


def test_what_hugging_faces_cache_holds_is_not_fetched(hugging_face_file: Path, hub_server: HubServer) -> None:
    with Part(SHA256) as part:
        part.write(CONTENT[:10])
    file = hub.fetch(entry())
    assert file.read_bytes() == CONTENT
    assert parts() == []
    assert file.samefile(hugging_face_file)  # a hard link: no copy, and ours stays when theirs is removed
    assert hub_server.requests == []
    hugging_face_file.unlink()
    assert cache.find(entry()) == file


def test_hugging_faces_cache_on_another_file_system_is_copied(
    hugging_face_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    file = hub.fetch(entry())
    assert file.read_bytes() == CONTENT
    assert not file.samefile(hugging_face_file)


def test_a_damaged_blob_in_hugging_faces_cache_is_left_there_and_not_used(
    hugging_face_file: Path, hub_server: HubServer
) -> None:
    hugging_face_file.write_bytes(flipped(CONTENT))
    assert hub.fetch(entry()).read_bytes() == CONTENT
    assert len(hub_server.bodies()) == 1
    assert hugging_face_file.read_bytes() == flipped(CONTENT)
    assert parts() == []


def test_what_hugging_faces_cache_holds_is_checked_against_a_digest(
    hugging_face_file: Path, hub_server: HubServer
) -> None:
    with pytest.raises(IntegrityError, match=f"expected sha1:{'0' * 40}"):
        hub.fetch_unpinned(unpinned(digest=f"sha1:{'0' * 40}"))
    received = hub.fetch_unpinned(unpinned(digest=f"sha1:{hashlib.sha1(CONTENT).hexdigest()}"))
    assert received.path.samefile(hugging_face_file)


def test_an_unpinned_entry_is_found_in_hugging_faces_cache_by_its_commit(
    hugging_face_file: Path, hub_server: HubServer
) -> None:
    received = hub.fetch_unpinned(unpinned())
    assert received.path.samefile(hugging_face_file)
    assert received.revision == hub_server.repos[REPO].branches["main"]
    assert hub_server.requests == []


# ---- no network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nobody_is_asked_and_local_sources_still_serve(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: str
) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    monkeypatch.setenv(switch, "1")
    monkeypatch.setenv("ZOO_HUB", f"{hub_server.mirror_url},s3://bucket")
    with pytest.raises(OfflineError, match=f"network access is disabled \\({switch}=1\\)") as caught:
        hub.fetch(entry())
    assert "s3://bucket" in str(caught.value)
    assert hub_server.requests == []
    monkeypatch.setenv("ZOO_HUB", f"{hub_server.mirror_url},{directory(tmp_path / 'local')}")
    assert hub.fetch(entry()).read_bytes() == CONTENT


def test_offline_hugging_faces_cache_still_serves(hugging_face_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert hub.fetch(entry()).samefile(hugging_face_file)


# ---- unpinned entries ------------------------------------------------------------------------------------------


def test_an_unpinned_entry_is_refused_with_what_to_do(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(UnpinnedError, match=r"tiny\.c10 is not pinned") as caught:
        hub.fetch(unpinned())
    assert "pins it on first use" in caught.value.hint
    assert hub_server.requests == []


def test_an_unpinned_entry_is_never_taken_from_a_mirror_alone_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, mirror = directory(tmp_path / "own"), directory(tmp_path / "mirror", flipped(CONTENT))
    monkeypatch.setenv("ZOO_HUB", mirror)
    assert hub.fetch_unpinned(unpinned(hub=own)).path.read_bytes() == CONTENT
    elsewhere = unpinned(hub=str(tmp_path / "empty"))
    with pytest.raises(HubError, match=rf"{re.escape(mirror)}: not asked") as caught:
        hub.fetch_unpinned(elsewhere)
    assert "--source ADDRESS" in caught.value.hint
    assert hub.fetch_unpinned(elsewhere, source=mirror).path.read_bytes() == flipped(CONTENT)


def test_what_an_unpinned_entry_was_is_said_and_the_file_kept_by_its_hash(hub_server: HubServer) -> None:
    commit = hub_server.commit(REPO, {FILE: CONTENT})
    received = hub.fetch_unpinned(unpinned())
    assert received == (cache.file_of(entry(), SHA256), SHA256, len(CONTENT), hub_server.url, commit)
    assert cache.find(unpinned()) is None
    assert hub.fetch(entry()) == received.path


def test_a_flipped_byte_of_an_unpinned_entry_is_found_by_what_the_hub_says_of_it(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("flip", SHA256)
    with pytest.raises(IntegrityError, match=f"{FLIPPED_SHA256}, expected {SHA256} according to the source"):
        hub.fetch_unpinned(unpinned())
    assert cache.find(unpinned()) is None


def test_what_arrived_of_an_unpinned_entry_is_not_kept(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("cut", SHA256, times=100, after=1000)
    with pytest.raises(HubError, match="lost after 1,000 of 1,000,000 bytes"):
        hub.fetch_unpinned(unpinned())
    assert parts() == []


@pytest.mark.parametrize(
    ("fields", "reason"), [({"sha256_prefix": "12fca82f"}, "begins with 12fca82f"), ({"size": 7}, "expected 7")]
)
def test_what_the_manifest_knows_of_an_unpinned_entry_is_checked(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    address = directory(tmp_path)
    with pytest.raises(IntegrityError, match=reason):
        hub.fetch_unpinned(unpinned(hub=address, **fields))
    right = unpinned(hub=address, sha256_prefix=SHA256[:8], size=len(CONTENT))
    assert hub.fetch_unpinned(right).path.read_bytes() == CONTENT
    assert cache.find(unpinned(hub=address, **fields)) is None


def test_an_unpinned_entry_that_is_cut_begins_again_since_it_may_have_changed(hub_server: HubServer) -> None:
    hub_server.commit(REPO, {FILE: CONTENT})
    hub_server.inject("cut", SHA256, after=300_000)
    assert hub.fetch_unpinned(unpinned()).path.read_bytes() == CONTENT
    assert [request.range for request in hub_server.bodies()] == ["", ""]


def test_an_unpinned_entry_is_fetched_from_the_source_that_is_named(tmp_path: Path) -> None:
    weights = unpinned(hub=directory(tmp_path / "one"))
    assert hub.fetch_unpinned(weights).path.read_bytes() == CONTENT
    other = directory(tmp_path / "two", flipped(CONTENT))
    assert hub.fetch_unpinned(weights, source=other).path.read_bytes() == flipped(CONTENT)


# ---- the cache's own trouble -----------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with the given options and puts the cache there."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        monkeypatch.setenv("ZOO_CACHE", str(folder))
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_another_program_fills_says_so_and_leaves_the_cache_unharmed(
    tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    folder = mount("size=1500k")
    small = hashlib.shake_256(b"small").digest(100_000)
    first = entry(hub=directory(tmp_path / "small", small), sha256=hashlib.sha256(small).hexdigest(), size=0)
    kept = hub.fetch(first)
    filler = folder / "filler"

    def fill(here: int, _: int) -> None:
        if here > 200_000 and not filler.exists():
            filler.write_bytes(b"x" * 900_000)

    with pytest.raises(HubError, match=r"is full: No space left on device") as caught:
        hub.fetch(entry(hub=directory(tmp_path / "large")), progress=fill)
    assert "ZOO_CACHE" in caught.value.hint
    assert parts() == []
    cache.verify(first, deep=True)
    assert cache.find(first) == kept
    assert cache.find(entry()) is None
    filler.unlink()
    assert hub.fetch(entry(hub=str(tmp_path / "large"))).read_bytes() == CONTENT


def test_a_file_that_cannot_fit_is_not_even_begun(hub_server: HubServer, mount: Callable[[str], Path]) -> None:
    mount("size=600k")
    hub_server.commit(REPO, {FILE: CONTENT})
    with pytest.raises(
        HubError, match=r"is full: tiny\.c10 needs 1,000,000 more bytes, but only [0-9,]+ are"
    ) as caught:
        hub.fetch(entry())
    assert "Free some space there, or set ZOO_CACHE" in caught.value.hint
    assert parts() == []


def test_what_is_here_already_needs_no_space(tmp_path: Path, mount: Callable[[str], Path]) -> None:
    mount("size=1500k")
    with Part(SHA256) as part:
        part.write(CONTENT[:700_000])
    assert hub.fetch(entry(hub=directory(tmp_path / "hub"))).read_bytes() == CONTENT


def test_a_read_only_cache_says_what_is_needed_and_still_serves_what_it_holds(
    tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    folder = mount("size=4m")
    weights = entry(hub=directory(tmp_path / "hub"))
    kept = hub.fetch(weights)
    kept.with_name(kept.name + ".stamp").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert hub.fetch(weights) == kept
    with pytest.raises(HubError, match="cannot be written") as caught:
        hub.fetch(entry(sha256="0" * 64))
    assert "Check the permissions" in caught.value.hint


@pytest.mark.parametrize("where", ["", "files", "parts", "locks"])
def test_a_cache_with_a_file_in_the_way_says_what_is_needed(tmp_path: Path, where: str) -> None:
    obstacle = cache.root() / where
    shutil.rmtree(cache.root())
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_bytes(b"")
    with pytest.raises(HubError, match="does not have the layout of a cache") as caught:
        hub.fetch(entry(hub=directory(tmp_path / "hub")))
    assert "ZOO_CACHE" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_cache_without_write_permission_says_what_is_needed(tmp_path: Path) -> None:
    weights = entry(hub=directory(tmp_path / "hub"))
    hub.fetch(weights).unlink()
    for folder in (cache.root(), *cache.root().iterdir()):
        folder.chmod(0o500)
    is_root = os.geteuid() == 0
    if is_root:  # nothing is forbidden to root
        os.seteuid(65534)
    try:
        with pytest.raises(HubError, match="cannot be written") as caught:
            hub.fetch(weights)
    finally:
        if is_root:
            os.seteuid(0)
        for folder in (cache.root(), *cache.root().iterdir()):
            folder.chmod(0o700)
    assert "Check the permissions" in caught.value.hint


# ---- what it costs ---------------------------------------------------------------------------------------------------


def test_importing_the_hub_imports_no_client() -> None:
    script = (
        "import sys, zoo.hub, zoo.hub.download, zoo.hub.address, zoo.hub.huggingface\n"
        "heavy = {'torch', 'huggingface_hub', 'fsspec', 'requests', 'filelock', 'ssl', 'http.client', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_progress_counts_the_bytes_that_are_here(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    hub.fetch(entry(hub=directory(tmp_path)), progress=lambda *report: reports.append(report))
    assert reports[0] == (0, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert reports == sorted(reports)
