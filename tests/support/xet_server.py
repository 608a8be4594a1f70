"""A Xet store for tests: the content-addressed server to which huggingface_hub uploads large files with hf-xet.

Derived from the published description of the protocol (huggingface.co/docs/xet) and the client's source; never
compared with the public service. It has the first version of the API, to which the client falls back. Grants for
uploads, streamed answers to shards, deduplication with files of others and the second reconstruction API are missing.

A file arrives as chunks, packed into xorbs; a shard says which chunks of which xorbs make up which file. The store puts
the file together, checks its sha256, and gives it to the hub.
"""

import hashlib
import re
import struct
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from support.hub_handlers import Handler
from support.hub_server import HubServer

TOKEN = "xet-token"
END = "f" * 64
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30
SHARD_HEADER, ENTRY, CHUNK_HEADER = 48, 48, 8


@dataclass(frozen=True)
class Term:
    """The chunks from ``first`` up to ``last`` of a xorb, ``length`` bytes when unpacked."""

    xorb: str
    first: int
    last: int
    length: int


@dataclass
class XetStore:
    """What was uploaded: xorbs by hash, files by hash, and the hash of a file by its sha256."""

    xorbs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, list[Term]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def headers(self, hub: HubServer, name: str, revision: str, sha256: str) -> dict[str, str]:
        """Returns what the hub adds to a redirect to a file that lies here."""
        if sha256 not in self.hashes:
            return {}
        route = f"{hub.url}/api/models/{name}/xet-read-token/{revision}"
        return {
            "X_Xet_Hash": self.hashes[sha256],
            "X_Xet_Refresh_Route": route,
            "Link": f'<{route}>; rel="xet-auth", <{self.url}/v1/reconstructions>; rel="xet-reconstruction-info"',
        }

    def access(self) -> dict[str, Any]:
        """Returns the answer to a request for a token."""
        return {"accessToken": TOKEN, "exp": int(time.time()) + 3600, "casUrl": self.url}

    def take(self, shard: bytes) -> list[bytes]:
        """Reads a shard; returns the files that it describes."""
        return [self._file(*described) for described in read_shard(shard)]

    def _file(self, file_hash: str, terms: list[Term], sha256: str) -> bytes:
        content = b"".join(b"".join(self._chunks(term)) for term in terms)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"the chunks have another sha256 than {sha256}")
        self.files[file_hash] = terms
        self.hashes[hashlib.sha256(content).hexdigest()] = file_hash
        return content

    def _chunks(self, term: Term) -> list[bytes]:
        chunks = [unpacked(scheme, packed) for _, scheme, packed in read_xorb(self.xorbs[term.xorb])]
        return chunks[term.first : term.last]

    def reconstruction(self, file_hash: str, start: int, end: int) -> dict[str, Any] | None:
        """Returns which chunks make up bytes ``start`` to ``end`` of a file, and where to read them; None if there
        are none.
        """
        terms, at, offset = [], 0, 0
        for term in self.files[file_hash]:
            if at < end and at + term.length > start:
                offset = offset if terms else start - at
                terms.append(term)
            at += term.length
        if not terms:
            return None
        info: dict[str, list[dict[str, Any]]] = {}
        for term in terms:
            places = [place for place, _, _ in read_xorb(self.xorbs[term.xorb])]
            span = {"start": places[term.first][0], "end": places[term.last - 1][1] - 1}
            chunks = {"start": term.first, "end": term.last}
            url = f"{self.url}/xorbs/{term.xorb}?X-Amz-Signature=secret"
            info.setdefault(term.xorb, []).append({"range": chunks, "url": url, "url_range": span})
        rows = [
            {"hash": term.xorb, "unpacked_length": term.length, "range": {"start": term.first, "end": term.last}}
            for term in terms
        ]
        return {"offset_into_first_range": offset, "terms": rows, "fetch_info": info}


class Cas(Handler):
    """The origin of the store; every request but those to signed addresses needs the token."""

    store: XetStore

    def route(self) -> None:
        content, path = self.body(), urlsplit(self.path).path
        if match := re.fullmatch(r"/xorbs/(\w+)", path):
            return self.send_file(self.store.xorbs[match[1]], self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, message="the token of the hub is not that of the store")
        if match := re.fullmatch(r"/v1/xorbs/default/(\w+)", path):
            is_new = match[1] not in self.store.xorbs
            self.store.xorbs[match[1]] = content
            return self.answer(200, {"was_inserted": is_new})
        if path == "/v1/shards":
            try:
                for file in self.store.take(content):
                    self.hub.keep(".safetensors", file)
            except (KeyError, ValueError) as error:
                return self.refuse(400, message=str(error))
            return self.answer(200, {"result": 1})
        if match := re.fullmatch(r"/v1/reconstructions/(\w+)", path):
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(span[1]), int(span[2]) + 1) if span else (0, 1 << 62)
            found = self.store.reconstruction(match[1], start, end)
            return self.answer(200, found) if found else self.refuse(416)
        return self.refuse(404)  # chunks of others, and later versions of the protocol, which are optional

    do_GET = do_POST = do_PUT = route  # noqa: N815


# ---- formats ---------------------------------------------------------------------------------------------------


def text_of(raw: bytes) -> str:
    """Returns a hash as the protocol writes it: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_shard(shard: bytes) -> list[tuple[str, list[Term], str]]:
    """Returns the files of a shard: hash, terms, and sha256, empty if it is not given."""
    at, found = SHARD_HEADER, []

    def following() -> tuple[str, tuple[int, ...]]:
        nonlocal at
        entry = shard[at : at + ENTRY]
        at += ENTRY
        return text_of(entry[:32]), struct.unpack("<4I", entry[32:])

    while (header := following())[0] != END:
        file_hash, (flags, count, _, _) = header
        terms = []
        for _ in range(count):
            xorb, (_, length, first, last) = following()
            terms.append(Term(xorb, first, last, length))
        for _ in range(count if flags & HAS_VERIFICATION else 0):
            following()
        found.append((file_hash, terms, following()[0] if flags & HAS_METADATA else ""))
    return found


def read_xorb(xorb: bytes) -> list[tuple[tuple[int, int], int, bytes]]:
    """Returns the chunks of a xorb: place in it, compression scheme, bytes."""
    at, found = 0, []
    while at + CHUNK_HEADER <= len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        length, scheme = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4]
        end = at + CHUNK_HEADER + length
        found.append(((at, end), scheme, xorb[at + CHUNK_HEADER : end]))
        at = end
    return found


def unpacked(scheme: int, packed: bytes) -> bytes:
    """Returns a chunk: stored, in LZ4, or in LZ4 with every fourth byte side by side."""
    if scheme == 0:
        return packed
    content = lz4_frame(packed)
    if scheme == 1:
        return content
    whole, at = bytearray(len(content)), 0
    for lane in range(4):
        count = len(range(lane, len(content), 4))
        whole[lane::4] = content[at : at + count]
        at += count
    return bytes(whole)


def lz4_frame(frame: bytes) -> bytes:
    """Returns the content of an LZ4 frame."""
    flags, at = frame[4], 7 + (8 if frame[4] & 8 else 0)
    content = bytearray()
    while size := int.from_bytes(frame[at : at + 4], "little"):
        at += 4
        length = size & 0x7FFFFFFF
        block = frame[at : at + length]
        if size >> 31:
            content += block
        else:
            lz4_block(block, content)
        at += length + (4 if flags & 16 else 0)
    return bytes(content)


def lz4_block(block: bytes, content: bytearray) -> None:
    """Appends the content of an LZ4 block, which may refer to what is before it."""
    at = 0

    def extended(length: int) -> int:
        nonlocal at
        more = 255 if length == 15 else 0
        while more == 255:
            more = block[at]
            at += 1
            length += more
        return length

    while at < len(block):
        token = block[at]
        at += 1
        literals = extended(token >> 4)
        content += block[at : at + literals]
        at += literals
        if at >= len(block):  # the last sequence has literals only
            return
        back = int.from_bytes(block[at : at + 2], "little")
        at += 2
        start = len(content) - back
        length = extended(token & 15) + 4
        pattern = bytes(content[start : start + length])
        content += (pattern * (length // len(pattern) + 1))[:length]
