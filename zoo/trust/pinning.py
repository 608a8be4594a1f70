"""Pins entries: writes commit, size and sha256 from their hub into the manifest.

The hub's present state is written into the manifest once; from then on the file is verified by its sha256.
"""

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from zoo import hub, manifest
from zoo.errors import HubError, IntegrityError, ManifestError, MissingExtraError, ZooError
from zoo.hub import address, huggingface, web
from zoo.hub.download import PassingError, time_limit, too_long
from zoo.manifest import Weights
from zoo.registry import Found, resource
from zoo.system import storage

if TYPE_CHECKING:
    from zoo.hub.download import Progress

_PREFIX_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def is_complete(entry: Weights) -> bool:
    """Returns whether everything is pinned."""
    return bool(entry.sha256 and entry.size and (entry.revision or entry.hub != "hf"))


def resolve(entry: Weights, *, download: bool = False, progress: "Progress | None" = None) -> Weights:
    """Returns ``entry`` with commit, size and sha256 from its own hub.

    The Hugging Face Hub provides all three. A web server provides the size, and the file name may contain the beginning
    of the sha256. Such an entry stays unpinned, unless ``download`` fetches and hashes it. Raises
    :class:`IntegrityError` if the hub's file differs from the entry, :class:`HubError` if the hub provides no hash.
    """
    if entry.hub == "hf":
        asked = _ask_hugging_face(entry)
        if not (asked.sha256 or download):
            raise HubError(
                f"{huggingface.host()} provides no sha256 for {entry.path}, because it is not stored as a large file.",
                hint=f"zoo manifest pin {entry.name} --download fetches and hashes it.",
            )
    elif download:
        asked = entry
    else:
        asked = _ask_website(entry)
    if download and not (asked.sha256 and asked.size):
        asked = _hash(asked, progress)
    return asked


def manifest_of(match: Found) -> Path:
    """Returns the manifest of ``match.weights``, or else the plugin's first, to which it would be added."""
    assert match.weights is not None
    files = [resource(text) for text in match.plugin.weights]
    for file in files:
        if any(entry.name == match.weights.name for entry in manifest.read(file)):
            return file
    if not files:
        raise ManifestError(f"Plugin {match.plugin.name!r} has no manifest.", hint="Set one with --manifest FILE.")
    return files[0]


def write(entry: Weights, file: Path) -> None:
    """Writes the pinned values of ``entry`` into its table in the manifest ``file``, and nothing else.

    A new entry is added at the end. Raises :class:`MissingExtraError` without tomlkit, StorageError if the file cannot
    be written.
    """
    with storage.alone(file):
        _write(entry, file)


def _write(entry: Weights, file: Path) -> None:
    before = manifest.read(file) if file.exists() else ()
    if any(other.name == entry.name for other in before):
        after = tuple(entry if other.name == entry.name else other for other in before)
        text = _edited(entry, file)
    else:
        after = (*before, entry)
        text = (file.read_bytes().decode().rstrip() + "\n\n" if file.exists() else "") + manifest.render(entry)
    if manifest.parse(text, str(file)) != after:  # never leave a manifest that says something else than was meant
        raise ManifestError(f"{file}: [{entry.name}] cannot be edited in place.", hint="Write it as a separate table.")
    storage.replace(file, text.encode())


def _edited(entry: Weights, file: Path) -> str:
    try:
        import tomlkit
    except ImportError:
        raise MissingExtraError.of("zoo manifest pin", "tomlkit", "zoo-vision[pin]") from None
    before = file.read_bytes().decode()
    document: Any = tomlkit.parse(before)
    table = document[entry.arch][entry.tag]
    for key in ("pinned", "sha256_prefix"):
        if entry.sha256 and key in table:
            del table[key]
    for key in ("revision", "sha256", "sha256_prefix", "size"):
        if (value := getattr(entry, key)) and table.get(key) != value:
            table[key] = value
    text = tomlkit.dumps(document)
    return re.sub(r"(?<!\r)\n", "\r\n", text) if "\r\n" in before else text


def _ask_hugging_face(entry: Weights) -> Weights:
    hub.require_network(f"{entry.name} cannot be pinned")
    commit, rows = at_commit(entry.repo, entry.revision, [entry.file])
    row, host = rows.get(entry.file), huggingface.host()
    if row is None:
        raise HubError(f"{host} has no file {entry.file} in {entry.repo} at {commit}")
    sha256 = row.lfs.sha256 if row.lfs else ""
    _agree(entry, sha256, row.size, host)
    return _with(entry, revision=commit, sha256=sha256 or entry.sha256, size=row.size)


def at_commit(repo: str, revision: str, files: list[str]) -> tuple[str, dict[str, Any]]:
    """Returns the commit of a repository's ``revision`` (main if empty), and what the hub says about ``files`` there.

    Asks for the commit first, then for the files at that commit, because the branch may move in between. Raises
    :class:`HubError` if there is no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    host = huggingface.host()
    last: Exception | None = None
    for token in (None, False):  # an expired token is rejected even if no token is needed
        api = HfApi(endpoint=huggingface.endpoint(), token=token, library_name="zoo-vision")
        try:
            commit, rows = _stated(api, repo, revision, files)
            break
        except ZooError:
            raise
        except Exception as error:  # the client raises its own errors and those of two HTTP libraries
            last = error
            if not isinstance(error, RepositoryNotFoundError) and _response_of(error)[0] != 401:
                raise HubError(f"{host} returned an error for {repo}: {_first_line(error)}") from None
    else:
        raise HubError(
            f"{host} has no repository {repo}, or denies access to it: {_first_line(last)}",
            hint="Check its name. Set HF_TOKEN if it is private.",
        )
    return commit, {row.path: row for row in rows if hasattr(row, "size")}


def _stated(api: Any, repo: str, revision: str, files: list[str]) -> tuple[str, list[Any]]:
    """Returns the commit of ``repo`` and ``files`` there; waits if the hub asks to, within the time limit."""
    from huggingface_hub.errors import RevisionNotFoundError

    from zoo.hub.deadline import within

    host, limit = huggingface.host(), time_limit()
    end = time.monotonic() + limit
    while True:
        try:
            commit = str(within(limit, partial(api.model_info, repo, revision=revision or None)).sha)
            return commit, within(limit, partial(api.get_paths_info, repo, files, revision=commit))
        except TimeoutError:
            raise HubError(f"{host} did not respond within {limit:g} s") from None
        except RevisionNotFoundError:
            raise HubError(f"{host} has no revision {revision or 'main'} of {repo}") from None
        except Exception as error:
            status, headers = _response_of(error)
            explanation = web.explanation(headers)
            code = headers.get("X-Error-Code") or ""
            if reason := huggingface.closed_because(code, explanation, repo, api.token is not False):
                raise HubError(f"{host} {reason}") from None
            wait = web.wait_of(headers) if status in (429, 503) else 0.0
            if not wait:
                raise
            if time.monotonic() + wait > end:
                raise HubError(f"{host} returned {status} for {repo}, and {too_long(wait, limit)}") from None
        time.sleep(wait)


def _response_of(error: Exception) -> tuple[int, web.Headers]:
    """Status and headers of the response for which the client raised ``error``; 0 and none if there was no response."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", 0), getattr(response, "headers", {})


def _ask_website(entry: Weights) -> Weights:
    place = address.parse(entry.hub)
    if "://" not in entry.hub:
        raise HubError(
            f"{place.name} does not provide hashes.", hint=f"zoo manifest pin {entry.name} --download hashes the file."
        )
    hub.require_network(f"{entry.name} cannot be pinned")
    try:
        with place.open(entry, 0) as stream:  # the body is not read
            size = stream.size
    except (PassingError, HubError) as error:
        raise HubError(f"{place.name}: {getattr(error, 'message', error)}") from None
    named = _PREFIX_IN_NAME.search(entry.file)
    prefix = named[1] if named else ""
    if not (prefix.startswith(entry.sha256_prefix) or entry.sha256_prefix.startswith(prefix)):
        raise IntegrityError(
            f"{entry.file} has sha256 {prefix}... in its name, but the entry has {entry.sha256_prefix}..."
        )
    _agree(entry, "", size, place.name)
    return _with(entry, size=size, sha256_prefix=max(prefix, entry.sha256_prefix, key=len))


def _hash(entry: Weights, progress: "Progress | None") -> Weights:
    """Fetches ``entry``, so that the cache holds the file to which it is pinned."""
    received = hub.fetch_unpinned(entry, source=entry.hub, progress=progress)
    return _with(entry, sha256=received.sha256, size=received.size)


def _with(entry: Weights, **fields: Any) -> Weights:
    """Returns ``entry`` with ``fields``; with a sha256 it is pinned and needs no prefix."""
    is_pinned = bool(fields.get("sha256", entry.sha256))
    return replace(entry, **{**fields, "pinned": is_pinned, **({"sha256_prefix": ""} if is_pinned else {})})


def _agree(entry: Weights, sha256: str, size: int, host: str) -> None:
    """Raises :class:`IntegrityError` if the hub's bytes differ from the entry."""
    wrong = ""
    if sha256 and not sha256.startswith(entry.sha256 or entry.sha256_prefix):
        wrong = f"sha256 {sha256}, the manifest has {entry.sha256 or entry.sha256_prefix + '...'}"
    elif entry.size and size and size != entry.size:
        wrong = f"{size:,} bytes, the manifest has {entry.size:,}"
    if wrong:
        raise IntegrityError(
            f"{entry.name}: {host} has {wrong}.",
            hint="Find out which is right. To use the hub's, remove the value from the manifest.",
        )


def _first_line(error: Exception | None) -> str:
    text = error.message if isinstance(error, ZooError) else str(error)
    return web.plain(next(iter(text.strip().splitlines()), type(error).__name__))
