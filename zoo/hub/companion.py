"""Small files beside weights on hubs, such as attestations: read as they are, since nobody states their sha256."""

import hashlib
import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from zoo import hub
from zoo.errors import HubError, MissingExtraError
from zoo.hub import cache
from zoo.hub.download import PassingError
from zoo.manifest import Weights
from zoo.system import storage

FOLDER = "companions"


def read(weights: Weights, suffix: str, limit: int, *, ask: bool) -> dict[str, bytes]:
    """The files ``<path of the weights><suffix>`` by the names of the hubs that have one, each up to ``limit`` bytes.

    Hubs on this machine are always read. Others are asked if ``ask``, unless network access is disabled; what they
    answered last is kept in the cache, and used if they are not asked or do not answer.
    """
    found = {}
    for address in dict.fromkeys([weights.hub, *hub.mirrors()]):
        try:
            source = hub.source_at(address)
            is_asked = source.is_local or (ask and not hub.offline_switch())
            content = read_from(address, weights, suffix, limit) if is_asked else b""
            kept = None if source.is_local else _place(source.name, weights, suffix)
        except (HubError, MissingExtraError) as error:
            logging.getLogger("zoo.hub").info("%s: %s: %s", weights.name, address, error.message)
            continue
        if kept is not None:
            content = _keep(content, kept) if content else _kept(kept, limit)
        if content:
            found[source.name] = content
    return found


def read_from(
    address: str, weights: Weights, suffix: str, limit: int, *, revision: str = "", must_answer: bool = False
) -> bytes:
    """The file on the hub at ``address``, there at the commit ``revision``; empty if it does not have one.

    A hub that does not answer counts as one without the file, unless it ``must_answer``: then that is a
    :class:`HubError`.
    """
    unknown = {"sha256": "", "sha256_prefix": "", "digest": "", "size": 0, "pinned": False}
    there = msgspec.structs.replace(weights, file=weights.file + suffix, revision=revision, **unknown)
    content = b""
    try:
        with hub.source_at(address).open(there, 0) as stream:
            while len(content) <= limit and (part := stream.read(limit + 1 - len(content))):
                content += part
    except (HubError, PassingError) as error:
        if must_answer and isinstance(error, PassingError):
            raise HubError(f"{address}: {error}") from None
        logging.getLogger("zoo.hub").info("%s: %s: %s", weights.name, address, error)
        return b""
    return content[:limit]


def _place(name: str, weights: Weights, suffix: str) -> Path:
    key = hashlib.sha256(f"{name}\n{weights.path}{suffix}".encode()).hexdigest()
    return cache.root() / FOLDER / key


def _keep(content: bytes, file: Path) -> bytes:
    with suppress(OSError):  # a cache that cannot be written
        storage.make_folder(file.parent)
        storage.replace(file, content)
    return content


def _kept(file: Path, limit: int) -> bytes:
    try:
        with storage.open_regular(file) as opened:
            return opened.read(limit)
    except OSError:
        return b""
