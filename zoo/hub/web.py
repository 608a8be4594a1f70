"""HTTP for hubs: range requests, few redirects, credentials only for their own origin.

The standard library's client, because a fetch must cost no more than the copy it is: a body is read
in pieces as large as they arrive, at twice the rate of the client that huggingface_hub brings, whose
import name moreover differs between its releases. What no such client has is added here: a deadline over
all that is read, whether status, headers, chunk sizes or trailers (:mod:`zoo.hub.deadline`). Proxies and
certificates come from the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from zoo.errors import HubError
from zoo.hub.download import PassingError, Stream, time_limit

if TYPE_CHECKING:
    from zoo.hub.deadline import Response

_REDIRECTS = 5
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}


class Headers(Protocol):
    """Headers of any client, found by their names whatever the case."""

    def get(self, name: str, /) -> str | None: ...


class Answer(NamedTuple):
    """A response whose body is not yet read; ``said`` holds the headers of all hops, with lower-case names.

    ``is_elsewhere`` says whether it comes from another origin than was asked.
    """

    status: int
    said: dict[str, str]
    body: "Response"
    is_elsewhere: bool = False


@contextmanager
def get(url: str, *, start: int = 0, authorization: str = "") -> Iterator[Answer]:
    """Requests ``url`` from byte ``start`` on and follows redirects.

    ``authorization`` is sent only to the origin of ``url``. Raises :class:`PassingError` for temporary failures,
    HubError for permanent ones.
    """
    origin, said = _origin_of(url), dict[str, str]()
    for _ in range(_REDIRECTS + 1):
        headers = {"User-Agent": "zoo-vision", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if authorization and _origin_of(url) == origin:
            headers["Authorization"] = authorization
        response = _open(url, headers)
        if response.status == 416 and start:
            _, size = _content_range(response.headers.get("Content-Range", ""))
            if size != start:  # our part does not match the server's file
                response.close()
                start = 0
                continue
        said.update((name.lower(), value) for name, value in response.headers.items())
        if response.status not in (301, 302, 303, 307, 308):
            with response:
                yield Answer(response.status, said, response, _origin_of(url) != origin)
            return
        response.close()
        url = _redirected(url, response.headers.get("Location", ""))
    raise HubError(f"redirects more than {_REDIRECTS} times")


def stream_of(answer: Answer, start: int) -> Stream:
    """Returns the stream of a response to a request from byte ``start`` on; raises as :func:`get` does."""
    status, headers = answer.status, answer.body.headers
    if status == 200:
        size = _number(headers.get("Content-Length", ""))
        has_end = (headers.get("Content-Length") or "").isdigit() or answer.body.chunked is True
        is_page = (headers.get("Content-Type") or "").lower().startswith(("text/html", "application/xhtml"))
        return Stream(_reader(answer.body), 0, size, has_end=has_end, is_page=is_page)
    first, size = _content_range(headers.get("Content-Range", ""))
    if status == 206:
        return Stream(_reader(answer.body), first, size)
    if status == 416 and size == start:  # we hold all of it
        return Stream(lambda _: b"", start, size)
    phrase = plain(f"returned {status} {answer.body.reason}")
    if status in _MAY_PASS:
        raise PassingError(phrase, wait=wait_of(headers))
    reason = explanation(headers)
    raise HubError(f"{phrase}: {reason}" if reason else phrase)


def wait_of(headers: Headers) -> float:
    """Returns the seconds to wait that a response asks for, in RateLimit or Retry-After; 0 if it does not say."""
    from email.utils import parsedate_to_datetime

    used_up = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})", headers.get("RateLimit") or "")
    if used_up:
        return float(used_up[1])
    text = headers.get("Retry-After") or ""
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):  # it is not a date, but seconds
        return _number(text)


def explanation(headers: Headers) -> str:
    """Returns what a hub says about an error, as one line of bounded length."""
    return plain(headers.get("X-Error-Message") or "")


def _open(url: str, headers: dict[str, str]) -> "Response":
    import ssl
    from http.client import HTTPException, InvalidURL
    from urllib.error import URLError

    from zoo.hub import deadline

    limit = time_limit()
    try:
        response = deadline.open(url, headers, limit)
    except (ValueError, InvalidURL):  # whose message may quote a header, and so a token
        raise HubError("is not a valid address") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise HubError(f"has no valid certificate: {reason.verify_message}") from None
        if isinstance(reason, TimeoutError):
            raise PassingError(f"did not respond within {limit:g} s", cost=2) from None
        raise PassingError(f"cannot be reached: {plain(str(reason))}", cost=2) from None
    if response is None:
        raise HubError("is not a valid address")
    return response


def _reader(body: "Response") -> Callable[[int], bytes]:
    from http.client import HTTPException

    limit = time_limit()

    def read(count: int) -> bytes:
        try:
            body.allow(limit)
            return body.read1(count)
        except TimeoutError:
            raise PassingError(f"sent nothing for {limit:g} s", cost=2) from None
        except (OSError, HTTPException) as error:
            raise PassingError(f"the connection was lost: {type(error).__name__}") from None

    return read


def without_user(text: str) -> str:
    """Returns ``text``, an address or a sentence with addresses, without users and passwords."""
    return re.sub(r"//[^/\s]*@", "//", text)


def plain(text: str) -> str:
    """Returns what a server says as one line of bounded length, without users, passwords and control characters."""
    line = " ".join(without_user(text).split())[:300]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def basic(address: str) -> str:
    """Returns the authorization header for the user and password in ``address``; empty if there are none."""
    from base64 import b64encode

    user = re.match(r"\w+://([^/]*)@", address)
    return f"Basic {b64encode(unquote(user[1]).encode()).decode()}" if user else ""


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError:
        raise HubError("redirects to an invalid address") from None
    scheme = _origin_of(target)[0]
    if scheme not in ("http", "https"):
        raise HubError(f"redirects to {scheme}:, which is not followed")
    if scheme == "http" and _origin_of(url)[0] == "https":
        raise HubError("redirects from https to http, which is not followed")
    if _is_local(target) and not _is_local(url):
        raise HubError("redirects to this machine or its link, which is not followed")
    return target


def _is_local(url: str) -> bool:
    """Returns whether ``url`` is of this machine, or of its own link, where clouds offer credentials.

    Names are looked up, except those that a proxy looks up.
    """
    import socket
    from ipaddress import IPv6Address, ip_address
    from urllib.request import getproxies, proxy_bypass

    scheme, host, _ = _origin_of(url)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    has_proxy = scheme in getproxies() and not proxy_bypass(host)
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST if has_proxy else 0)
        places = [ip_address(str(row[4][0]).partition("%")[0]) for row in rows]
    except (OSError, ValueError):  # there is no such host, as the request will say
        return False
    places = [(place.ipv4_mapped if isinstance(place, IPv6Address) else None) or place for place in places]
    return any(place.is_loopback or place.is_link_local or place.is_unspecified for place in places)


def _origin_of(url: str) -> tuple[str, str, int | None]:
    """Returns scheme, host and port."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise HubError("is not a valid address") from None


def _content_range(text: str) -> tuple[int, int]:
    """Turns ``bytes 5-9/10`` into (5, 10); the first byte and the size, 0 if they are not given."""
    span, _, size = text.removeprefix("bytes").strip().partition("/")
    return _number(span.partition("-")[0]), _number(size)


def _number(text: str) -> int:
    """Returns a header's value as a number, 0 if it is not a plausible one."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0
