"""The Hugging Face Hub, or a server that has the same API, and its client's cache."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from zoo.errors import HubError
from zoo.hub import web
from zoo.hub.download import PassingError, Stream
from zoo.manifest import Weights


def endpoint() -> str:
    """Returns HF_ENDPOINT, read in every call, or the public hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def host() -> str:
    """Returns the endpoint without user and password, for messages."""
    return web.without_user(endpoint())


_DISABLED = "Access to this resource is disabled."
"""The message, not the code, by which the hub's own client recognises a disabled repository."""


class HuggingFace(msgspec.Struct, frozen=True):
    """``repo`` at ``revision``, or at main if the entry has none."""

    is_local: bool = False

    @property
    def name(self) -> str:
        return host()

    @contextmanager
    def open(self, weights: Weights, start: int) -> Iterator[Stream]:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", weights.repo):
            raise HubError(f"needs a repository of the form owner/name, not {weights.repo!r}")
        url = f"{host()}/{weights.repo}/resolve/{weights.revision or 'main'}/{quote(weights.file)}"
        token, basic = _token(), web.basic(endpoint())
        with web.get(url, start=start, authorization=f"Bearer {token}" if token else basic) as answer:
            if not (token and answer.status == 401 and not answer.is_elsewhere):
                yield _stream_of(answer, weights, start, bool(token))
                return
        # An expired token is rejected even if no token is needed.
        with web.get(url, start=start, authorization=basic) as answer:
            if answer.status in (401, 403, 404) and not answer.is_elsewhere:
                reason = _reason(answer, weights, False) or "denies access"
                raise HubError(f"rejects your token (log in again: hf auth login), and without one {reason}")
            yield _stream_of(answer, weights, start, False)


def _stream_of(answer: web.Answer, weights: Weights, start: int, has_token: bool) -> Stream:
    if answer.is_elsewhere and answer.status in (401, 403):
        reason = web.plain(answer.body.reason)
        raise PassingError(f"redirects to an address that has expired ({answer.status} {reason})")
    if answer.status in (401, 403, 404) and (reason := _reason(answer, weights, has_token)):
        raise HubError(reason)
    linked = answer.said.get("x-linked-etag", "").strip('"')
    return web.stream_of(answer, start)._replace(
        sha256=linked if re.fullmatch("[0-9a-f]{64}", linked) else "",
        revision=answer.said.get("x-repo-commit", ""),
    )


def _reason(answer: web.Answer, weights: Weights, has_token: bool) -> str:
    """Returns the meaning of the hub's error, or an empty string."""
    code, explanation = answer.body.headers.get("X-Error-Code", ""), web.explanation(answer.body.headers)
    return closed_because(code, explanation, weights.repo, has_token) or {
        "RepoNotFound": f"has no repository {weights.repo}, or it is private and HF_TOKEN has no access to it",
        "RevisionNotFound": f"has no revision {weights.revision or 'main'} of {weights.repo}",
        "EntryNotFound": f"has no file {weights.file} in {weights.repo} at {weights.revision or 'main'}",
    }.get(code, "")


def closed_because(code: str, explanation: str, repo: str, has_token: bool) -> str:
    """Returns why the hub closes a repository that exists, from its error code and message; empty if it does not."""
    quoted = f" (it says: {explanation})" if explanation else ""
    page = f"{host()}/{repo}"
    if code == "GatedRepo" and has_token:
        return f"requires approval for {repo}{quoted}; ask for it at {page}, or wait for it, then try again"
    if code == "GatedRepo":
        return (
            f"requires that you accept the terms of {repo} at {page}{quoted} and log in: hf auth login, or set HF_TOKEN"
        )
    if code == "DisabledRepo" or explanation == _DISABLED:
        return f"has disabled {repo}{quoted}; see {page}, and use another source"
    return ""


def _token() -> str:
    """Returns the user's token as the hub's client finds it; empty if there is none."""
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    from huggingface_hub import get_token

    try:
        return get_token() or ""
    except Exception as error:  # short-lived tokens are fetched, in several ways
        raise HubError(f"needs a token, which could not be obtained: {error}") from None


class Cached(NamedTuple):
    """A file of the client's cache; ``sha256`` is its name, empty if that is not one. ``revision`` is its commit."""

    path: Path
    sha256: str
    revision: str


def find_cached(weights: Weights) -> Cached | None:
    """Returns the file in the cache of huggingface_hub and timm, or None.

    Blobs of large files are named by their sha256, whatever the commit; others are found through the commit. The caller
    must verify the hash.
    """
    folder = cache_root() / folder_of(weights)
    blob = folder / "blobs" / weights.sha256
    try:
        if weights.sha256 and blob.is_file():
            return Cached(blob, weights.sha256, weights.revision)
        commit = weights.revision or (folder / "refs" / "main").read_text().strip()
        if not re.fullmatch("[0-9a-f]{40}", commit):
            return None
        file = folder / "snapshots" / commit / weights.file
        name = Path(os.readlink(file)).name if file.is_symlink() else ""  # the blob may be a link too, to its Xet hash
        return Cached(file.resolve(strict=True), name if re.fullmatch("[0-9a-f]{64}", name) else "", commit)
    except (OSError, ValueError):  # not a path, or not text
        return None


def folder_of(weights: Weights) -> str:
    """Returns the name of a repository's folder in the client's cache."""
    return f"models--{weights.repo.replace('/', '--')}"


def cache_root() -> Path:
    """Returns the same folder as huggingface_hub's, but read in every call and without importing it."""
    if chosen := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expanduser(os.path.expandvars(chosen)))
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{base}/huggingface"
    return Path(os.path.expanduser(os.path.expandvars(home))) / "hub"
