"""Images that a user names: files, folders of them, and addresses."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from zoo import hub, names
from zoo.data.image_file import SUFFIXES, check_bytes, read_image
from zoo.errors import DataError, HubError

T = TypeVar("T")


def expand(images: Iterable[T]) -> list[T | Path]:
    """Returns ``images`` with the image files in and below a folder, in natural order, in its place.

    Raises :class:`DataError` for a folder without any.
    """
    expanded: list[T | Path] = []
    for image in images:
        if not isinstance(image, str | Path) or is_address(image) or not Path(image).is_dir():
            expanded.append(image)
            continue
        files = [file for file in Path(image).rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not files:
            raise DataError(f"{image} is a folder without images: expected files such as x.jpg or x.png.")
        expanded += sorted(files, key=lambda file: names.natural(str(file)))
    return expanded


def is_address(image: str | Path) -> bool:
    """Returns whether ``image`` is fetched from the web."""
    return str(image).startswith(("http://", "https://"))


def read(image: str | Path, channels: int) -> Image.Image:
    """Decodes a file, or what an address serves, as :func:`zoo.data.image_file.read_image` does."""
    return read_image(_fetch(str(image)) if is_address(image) else Path(image), str(image), channels)


def _fetch(address: str) -> bytes:
    """Returns what ``address`` serves; raises :class:`DataError`, or :class:`OfflineError`."""
    from zoo.hub import web
    from zoo.hub.download import PassingError

    shown = web.without_user(address)
    hub.require_network(shown)
    content = bytearray()
    try:
        with web.get(address) as answer:
            stream = web.stream_of(answer, 0)
            while part := stream.read(1 << 20):
                content += part
                check_bytes(len(content), shown)
    except (HubError, PassingError) as error:
        raise DataError(f"{shown}: {getattr(error, 'message', error)}.") from None
    return bytes(content)
