"""A checkpoint at an address, verified by the hash in its name or from the caller."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from zoo import hub
from zoo.errors import SpecError, WeightsError
from zoo.hub.download import Progress
from zoo.manifest import Weights
from zoo.trust import first_use, lock


class Source(NamedTuple):
    """A local file with its name and address."""

    path: Path
    name: str
    address: str = ""


def is_address(text: str) -> bool:
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def fetch(address: str, *, sha256: str = "", progress: Progress | None = None) -> Source:
    """The checkpoint at ``address``, through the cache; its sha256 is pinned on first use.

    torchvision's names end in the first digits of the file's sha256, ``resnet18-f37072fd.pth``; another
    needs ``sha256``, whole or its beginning. Raises :class:`SpecError` if neither says what to expect,
    :class:`IntegrityError` if the bytes differ.
    """
    parts = urlsplit(address)
    folder, _, name = unquote(parts.path).rpartition("/")
    said = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    prefix = sha256.lower() or (said[1] if said else "")
    if not re.fullmatch("[0-9a-f]{8,64}", prefix):
        raise SpecError(
            f"The sha256 of {name or address!r} is unknown.",
            hint="Use --sha256 HEX (8 digits or more), or a name that contains it, such as resnet18-f37072fd.pth.",
        )
    entry = Weights(
        file=name,
        arch="checkpoint",
        tag=prefix,
        hub=f"{parts.scheme}://{parts.netloc}{folder}",
        sha256=prefix if len(prefix) == 64 else "",
        sha256_prefix="" if len(prefix) == 64 else prefix,
        pinned=len(prefix) == 64,
    )
    if parts.query:
        raise WeightsError(f"{name} has a query in its address: download it by other means, then convert the file.")
    held = None if entry.sha256 else first_use.pins().get(entry.name)
    if held and held.source == hub.name_of(entry.hub):  # another address may have other bytes that begin alike
        entry = lock.pinned(entry, held)
    if entry.sha256:
        path = hub.fetch(entry, source=entry.hub, progress=progress)
    else:
        received = hub.fetch_unpinned(entry, source=entry.hub, progress=progress)
        first_use.pin(entry.name, received)
        path = received.path
    public = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return Source(path, name, public)
