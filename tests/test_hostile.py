"""Whatever a manifest, a file, a name, a hub or a damaged cache may hold: a ZooError or the right answer.

Each property is tried on dozens of cases, and on ten thousand by ``make test-slow``; every case within
seconds and all of them within a bounded memory.
"""

import hashlib
import json
import os
import shutil
import socketserver
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zoo import hub, names, registry
from zoo.errors import ManifestError, UnknownNameError, ZooError
from zoo.hub import cache, download
from zoo.loading import safetensors_file
from zoo.manifest import Weights, parse, render
from zoo.registry import listing

settings.register_profile(
    "quick",
    max_examples=60,
    deadline=timedelta(seconds=30),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=10_000)
MEGABYTES = 50
"""What a case may add to the peak memory of the process."""

profiles = pytest.mark.parametrize(
    "profile", ["quick", pytest.param("thorough", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)


def hold_for_all(profile: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *known: Any) -> None:
    """Runs ``check`` on the ``known`` cases and on as many drawn ones as the profile has."""
    added = 0.0

    def test(case: Any) -> None:
        nonlocal added
        before = peak()
        check(case)
        added = max(added, peak() - before)

    for case in known:
        test = example(case)(test)
    settings.get_profile(profile)(given(strategy)(test))()
    assert added < MEGABYTES


def peak() -> float:
    """Returns the largest resident size so far, MB."""
    resource = pytest.importorskip("resource", reason="needs a system that counts memory")
    scale = 1 if sys.platform == "darwin" else 1024
    size: float = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
    return size


TEXTS = st.text(max_size=40) | st.text(alphabet="ab0_./\\-*?[]!{}:\n\0\u202e%~", max_size=40)
HUGE = st.integers() | st.sampled_from([-1, 0, 1, 2**31, 2**53, 2**63, 2**64, 10**30, 10**300])
JSON = st.recursive(
    st.none() | st.booleans() | HUGE | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


# ---- manifests -------------------------------------------------------------------------------------------------

ENTRY = """\
[resnet18.tag]
file = "model.safetensors"
repo = "timm/resnet18.tag"
revision = "0123456789012345678901234567890123456789"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
size = 44
license = { code = "MIT", weights = "MIT" }
num_classes = 10
preprocess = { input_size = [3, 32, 32], crop_pct = 1.0, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
args = { shortcut = "A" }

[resnet18.tag.scores."cifar10/test"]
n = 10
top1 = 70.0
source = "someone"

[resnet18.tag.probe]
logits = [[0.5, 1.5]]
tolerance = { float32 = 0.001 }
"""
FIELDS = [*Weights.__struct_fields__, "no_such_field"]


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "[]" if value is None else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def pieces() -> st.SearchStrategy[str]:
    """Returns a valid manifest of which pieces were replaced."""
    cut = st.tuples(st.integers(0, len(ENTRY)), st.integers(0, 60), TEXTS | JSON.map(toml))

    def replaced(cuts: list[tuple[int, int, str]]) -> str:
        text = ENTRY
        for start, length, piece in cuts:
            text = text[:start] + piece + text[start + length :]
        return text

    return st.lists(cut, min_size=1, max_size=3).map(replaced)


def fields() -> st.SearchStrategy[str]:
    """Returns a valid manifest with other values."""
    valid = tomllib.loads(ENTRY)["resnet18"]["tag"]

    def written(changes: dict[str, Any]) -> str:
        table = valid | changes
        return "[resnet18.tag]\n" + "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in table.items())

    return st.dictionaries(st.sampled_from(FIELDS), JSON | st.lists(JSON), min_size=1, max_size=3).map(written)


def check_manifest(text: str) -> None:
    try:
        entries = parse(text)
    except ManifestError:
        return
    for entry in entries:
        (again,) = parse(render(entry))
        assert msgspec.json.encode(again) == msgspec.json.encode(entry)  # NaN is not itself
        assert entry.sha256 or not entry.pinned
        assert not entry.path.startswith("/")
        assert ".." not in entry.path.split("/")


@profiles
def test_a_manifest_is_read_or_refused(profile: str) -> None:
    deep = ["a = " + "[" * 5000 + "]" * 5000, "a = " + "{b=" * 5000, "[" + "a." * 50_000 + "b]", "a." * 50_000 + "b=1"]
    deep += ["x = {" + "'a' . " * 50_000 + "b=1}", "a" * 1_000_000, '"' * 100_000, "[a.b]\nsize = 1e999"]
    hold_for_all(profile, TEXTS | pieces() | fields(), check_manifest, ENTRY, ENTRY * 2, *deep)


# ---- safetensors -------------------------------------------------------------------------------------------------

DTYPES = st.sampled_from(["F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "f32", "", "X"])
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": DTYPES | JSON,
        "shape": st.lists(HUGE | st.integers(0, 4), max_size=5) | JSON,
        "data_offsets": st.lists(st.integers(0, 64) | HUGE, min_size=2, max_size=2) | JSON,
        "more": JSON,
    },
)
METADATA = st.dictionaries(TEXTS | st.just("zoo"), TEXTS | JSON.map(json.dumps) | JSON, max_size=3)
HEADERS = st.dictionaries(TEXTS, TENSORS | JSON, max_size=4) | st.fixed_dictionaries(
    {"a": TENSORS, "__metadata__": METADATA | JSON}
)


def safetensors_files() -> st.SearchStrategy[bytes]:
    def packed(header: bytes, lie: int, body: bytes) -> bytes:
        return min(max(0, len(header) + lie), 2**64 - 1).to_bytes(8, "little") + header + body

    headers = HEADERS.map(lambda header: json.dumps(header).encode()) | st.binary(max_size=100)
    lies = st.sampled_from([0, 0, 0, 0, 1, -1, 2**20, 2**40, 2**63])
    whole = b'<\0\0\0\0\0\0\0{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}      0123'
    damaged = st.tuples(st.integers(0, len(whole)), st.integers(0, 9), st.binary(max_size=9)).map(
        lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
    )
    return st.builds(packed, headers, lies, st.binary(max_size=64)) | damaged | st.binary(max_size=100)


@profiles
def test_a_safetensors_file_is_read_or_refused(profile: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.safetensors"

    def check(content: bytes) -> None:
        file.unlink(missing_ok=True)  # what was mapped from it must stay as it was
        file.write_bytes(content)
        try:
            assert isinstance(safetensors_file.metadata(file), dict)
            tensors = safetensors_file.read(file)
            assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= len(content)
        except ZooError as error:
            assert str(file) in str(error)  # noqa: PT017  # reading may succeed as well

    nested = b"[" * 100_000
    hold_for_all(profile, safetensors_files(), check, len(nested).to_bytes(8, "little") + nested)


# ---- names -------------------------------------------------------------------------------------------------------

KNOWN = ["resnet20", "resnet20.c10", "resnet152.tv_in1k", "resnet/resnet20", "timm/resnet18", "resnet20.*"]
NAMES = TEXTS | st.text(max_size=400) | st.builds("".join, st.lists(st.sampled_from(KNOWN) | TEXTS, max_size=3))


def check_name(text: str) -> None:
    with suppress(UnknownNameError):
        assert str(names.parse(text)) == text
    assert names.is_part(names.as_part(text))
    names.natural(text)
    with suppress(ZooError):
        registry.current().find(text)
    if "/" not in text:  # that would read a collection
        assert all(isinstance(name, str) for name in listing.list_models(text))


@profiles
def test_a_name_or_pattern_is_found_or_refused(profile: str) -> None:
    hold_for_all(profile, NAMES, check_name, *KNOWN, "9" * 10_000, "*a" * 40 + "b", "[" * 1000, "[!]-]" * 50)


# ---- hubs --------------------------------------------------------------------------------------------------------

CONTENT = hashlib.shake_256(b"hostile").digest(20_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NUMBERS = st.sampled_from(
    ["0", "1", "20000", "19999", "20001", "-1", "9" * 30, "1e3", "", "0x10", "²", " 20000 ", "1,2"]
)
STATUSES = st.sampled_from([200, 200, 200, 206, 206, 416, 301, 302, 307, 401, 403, 404, 429, 500, 503, 100, 204, 304])
SPANS = st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS | st.just("*")) | TEXTS | NUMBERS
PLACES = st.sampled_from(["/", "/again", "", "?", "#", "//", "//[", "http://[", "data:,x", "\x7f", "é"]) | st.builds(
    "{}://127.0.0.1:{}/".format, st.sampled_from(["http", "https", "ftp", "file"]), st.sampled_from(["9", "99999", "x"])
)
HEADER_LINES = st.one_of(
    st.tuples(st.just("Content-Length"), NUMBERS),
    st.tuples(st.just("Content-Range"), SPANS),
    st.tuples(st.just("Location"), PLACES | TEXTS.map(lambda text: f"/{text}")),
    st.tuples(st.sampled_from(["ETag", "X-Linked-Etag"]), TEXTS | st.sampled_from([f'"{SHA256}"', f'"{"0" * 64}"'])),
    st.tuples(st.sampled_from(["X-Linked-Size", "Retry-After"]), NUMBERS | TEXTS),
    st.tuples(st.just("X-Error-Code"), st.sampled_from(["RepoNotFound", "EntryNotFound", "GatedRepo", ""]) | TEXTS),
    st.tuples(st.just("X-Repo-Commit"), TEXTS | st.just("0" * 40)),
    st.tuples(st.just("Transfer-Encoding"), st.sampled_from(["chunked", "gzip", "identity", ""])),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "br"])),
    st.tuples(TEXTS, TEXTS),
)
BODIES = st.one_of(
    st.just(CONTENT),
    st.integers(0, len(CONTENT)).map(lambda end: CONTENT[:end]),
    st.integers(0, len(CONTENT)).map(lambda start: CONTENT[start:]),
    st.just(b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)),
    st.sampled_from([CONTENT + b"more", b"ffffffffffffffffff\r\n", b"-1\r\n", b"5\r\nabc", b"\0" * 300_000]),
    st.binary(max_size=50),
)


def answered(status: int, lines: list[tuple[str, str]], body: bytes, tail: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Anything\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
    return head.encode("utf-8", "replace") + tail + body


ANSWERS = st.builds(
    answered, STATUSES, st.lists(HEADER_LINES, max_size=5), BODIES, st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b""])
) | st.binary(max_size=200)


class Hostile(socketserver.ThreadingTCPServer):
    """Answers each connection with the next of ``answers``, in turn, whatever was asked, and hangs up."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    answers: list[bytes]
    asked = 0

    def answer(self) -> bytes:
        self.asked += 1
        return self.answers[self.asked % len(self.answers)]


class Handler(socketserver.BaseRequestHandler):
    server: Hostile

    def handle(self) -> None:
        with suppress(OSError):
            self.request.settimeout(5)
            asked = b""
            while b"\r\n\r\n" not in asked and (piece := self.request.recv(1 << 16)):
                asked += piece
            self.request.sendall(self.server.answer())


@pytest.fixture
def fast_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache in memory where there is such a place: ten thousand syncs of a disk take an hour."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        monkeypatch.setenv("ZOO_CACHE", f"{folder}/zoo")
        monkeypatch.setattr(cache, "_CLOCK_TICK", 0.0)
        yield


@pytest.fixture
def hostile(fast_cache: None) -> Iterator[Hostile]:
    with Hostile(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@profiles
@pytest.mark.parametrize("kind", ["hf", "web"])
def test_what_a_hub_answers_gives_the_right_bytes_or_an_error(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch, profile: str, kind: str
) -> None:
    address = f"http://127.0.0.1:{hostile.server_address[1]}"
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setenv("ZOO_TIMEOUT", "0.9")  # a hub that asks for a second's rest does not get it
    monkeypatch.setenv("HF_ENDPOINT", address)
    place = "hf" if kind == "hf" else address
    entries = [
        Weights(file="m.safetensors", repo="a/b", arch="a", tag="b", hub=place, sha256=SHA256, size=size)
        for size in (0, len(CONTENT))
    ]

    def check(case: tuple[list[bytes], int]) -> None:
        hostile.answers = case[0]
        shutil.rmtree(cache.root(), ignore_errors=True)
        with suppress(ZooError):
            assert hub.fetch(entries[case[1]]).read_bytes() == CONTENT
        stored = cache.root() / "files"
        kept = [file for file in stored.iterdir() if file.suffix == ".safetensors"] if stored.exists() else []
        assert all(file.read_bytes() == CONTENT for file in kept)

    good = answered(200, [("Content-Length", "20000")], CONTENT, b"\r\n")
    again = answered(206, [("Content-Range", "bytes 0-19999/20000")], CONTENT, b"\r\n")
    endless = answered(200, [("X", "y" * 60)] * 5000, CONTENT, b"\r\n")
    known = [([answer], size_known) for answer in (good, again, endless, b"") for size_known in (0, 1)]
    hold_for_all(profile, st.tuples(st.lists(ANSWERS, min_size=1, max_size=3), st.integers(0, 1)), check, *known)


@profiles
def test_an_unpinned_file_is_kept_whole_or_not_at_all(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """Nobody knows the right bytes here; those that are kept are still named by their own hash."""
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setenv("ZOO_TIMEOUT", "0.9")
    address = f"http://127.0.0.1:{hostile.server_address[1]}"
    entry = Weights(file="m.safetensors", repo="a/b", arch="a", tag="b", hub=address, pinned=False)

    def check(answers: list[bytes]) -> None:
        hostile.answers = answers
        shutil.rmtree(cache.root(), ignore_errors=True)
        with suppress(ZooError):
            file = hub.fetch_unpinned(entry).path
            assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()

    hold_for_all(profile, st.lists(ANSWERS, min_size=1, max_size=2), check)


# ---- addresses and entries ---------------------------------------------------------------------------------------

PARTS = TEXTS | st.sampled_from(["~", "~root", "a" * 300, "a" * 5000, ".", "..", "/", "C:\\", "%2e%2e", "\ud800", "🦓"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
ADDRESSES = PATHS | st.builds("{}://{}".format, TEXTS | st.sampled_from(["file", "http", "s3", "zip", "memory"]), PATHS)


@profiles
def test_an_entry_and_a_mirror_of_any_text_are_used_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    drawn_files, used = [], []

    def check(drawn: tuple[dict[str, str], str]) -> None:
        fields, mirror = drawn
        drawn_files.append(fields["file"])
        with suppress(ValueError, OSError):  # what no environment can hold
            os.environ["ZOO_HUB"] = mirror
        try:
            entry = msgspec.convert({"sha256": SHA256, "arch": "a", "tag": "b", **fields}, Weights)
        except msgspec.ValidationError:
            return
        used.append(entry.path)
        with suppress(ZooError):
            hub.fetch(entry)
        assert cache.find(entry) is None

    monkeypatch.setenv("ZOO_HUB", "")
    files = PATHS | st.sampled_from(["a", "b c/é.bin", "~/c.safetensors", "d." + "x" * 300])
    entries = st.fixed_dictionaries({"file": files}, optional={"repo": PATHS, "hub": ADDRESSES})
    hold_for_all(
        profile, st.tuples(entries, ADDRESSES), check, ({"file": "a"}, "~nobody_at_all"), ({"file": "a"}, "file://[")
    )
    assert len(used) > len(drawn_files) / 10, "most entries were refused before they were used"


# ---- what lies in caches -----------------------------------------------------------------------------------------


@profiles
def test_what_lies_in_the_caches_is_believed_only_by_its_bytes(
    monkeypatch: pytest.MonkeyPatch, fast_cache: None, profile: str
) -> None:
    """Any bytes as stamps, parts, and as the refs and blobs of Hugging Face's cache."""
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    pinned = Weights(file="m.safetensors", repo="a/b", arch="a", tag="b", sha256=SHA256)
    unpinned = Weights(file="m.safetensors", repo="a/b", arch="a", tag="b", pinned=False)
    theirs = Path(os.environ["HF_HUB_CACHE"]) / "models--a--b"
    places = {
        "file": cache.root() / "files" / f"{SHA256}.safetensors",
        "stamp": cache.root() / "files" / f"{SHA256}.safetensors.stamp",
        "part": cache.root() / "parts" / f"{SHA256}.part",
        "ref": theirs / "refs" / "main",
        "blob": theirs / "blobs" / SHA256,
        "snapshot": theirs / "snapshots" / ("0" * 40) / "m.safetensors",
    }

    def check(contents: dict[str, bytes]) -> None:
        for folder in (cache.root(), theirs):
            shutil.rmtree(folder, ignore_errors=True)
        for place, content in contents.items():
            places[place].parent.mkdir(parents=True, exist_ok=True)
            places[place].write_bytes(content)
        for entry in (pinned, unpinned):
            cache.find(entry)
            with suppress(ZooError):
                cache.verify(entry)
            with suppress(ZooError):
                file = hub.fetch(entry) if entry is pinned else hub.fetch_unpinned(entry).path
                got = hashlib.sha256(file.read_bytes()).hexdigest()
                assert got == file.stem
                assert entry is unpinned or got == SHA256

    values = st.just(CONTENT) | st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())
    about = {"sha256": TEXTS | st.just(SHA256), "name": TEXTS, "size": HUGE, "source": TEXTS, "revision": TEXTS}
    about |= {"mtime_ns": HUGE, "ctime_ns": HUGE, "inode": HUGE}
    values |= st.fixed_dictionaries({}, optional=about).map(lambda value: json.dumps(value).encode())
    values |= st.just(b"0" * 40)
    hold_for_all(profile, st.dictionaries(st.sampled_from([*places]), values, max_size=5), check, {"blob": CONTENT})
