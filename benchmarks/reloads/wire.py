"""The bytes of our clients: requests as they leave, answers as they come, frames of a WebSocket. Pure."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common.frames import FINAL, MASK

MAX_FRAME = 1 << 20
"""Bytes; an echo has less than a hundred."""
CLOSE, PING, PONG, TEXT = 0x8, 0x9, 0xA, 0x1
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
KEY = base64.b64encode(b"sixteen bytes...").decode()
"""A load needs no secret nonce (RFC 6455 section 4.1)."""


class BrokenAnswer(Exception):  # noqa: N818 - it is the server's, and says so
    """What came is no answer as HTTP or the WebSocket protocol know it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What our clients need of an answer's head."""

    status: int
    length: int | None
    """None: the body comes in chunks, or ends with the connection."""
    is_chunked: bool
    closes: bool
    """The server announced that it will end the connection."""
    version: int | None
    worker: int | None


def request(
    method: str,
    path: str,
    *,
    length: int | None = None,
    closes: bool = False,
    more: Sequence[str] = (),
) -> bytes:
    """Return the head of a request; `more` are further lines of it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "User-Agent: reload-bench"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if closes:
        lines.append("Connection: close")
    lines += more
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def handshake(path: str) -> bytes:
    """Return the opening handshake of a WebSocket."""
    lines = [
        *(f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"),
        *(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_who(text: str) -> tuple[int, int]:
    """Return version and process of the words with which the application names itself."""
    try:
        version, worker = text.split()[:2]
        return int(version), int(worker)
    except ValueError:
        raise BrokenAnswer(f"no version in {text[:40]!r}") from None


def parse_head(raw: bytes) -> Head:
    """Read the head of an answer with its empty line. Raise BrokenAnswer when it is none."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or words[0] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].isdecimal():
        raise BrokenAnswer(f"no status line: {first[:60]!r}")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    length = fields.get("content-length")
    if length is not None and not length.isdecimal():
        raise BrokenAnswer(f"content-length {length[:20]!r}")
    version, worker = parse_who(fields["x-who"]) if "x-who" in fields else (None, None)
    closes = fields.get("connection", "").lower() == "close"
    return Head(
        int(words[1]),
        int(length) if length is not None else None,
        fields.get("transfer-encoding", "").lower() == "chunked",
        closes,
        version,
        worker,
    )


def chunk_size(line: bytes) -> int:
    """Return the size that a chunk's first line tells (RFC 9112 section 7.1). Raise BrokenAnswer."""
    digits = line.removesuffix(b"\r\n").partition(b";")[0].rstrip(b" \t")
    if not CHUNK_SIZE.fullmatch(digits):
        raise BrokenAnswer(f"chunk size {digits[:20]!r}")
    return int(digits, 16)


def next_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take the first whole frame from the buffer: opcode and payload; None while it is not whole.

    Raise BrokenAnswer for what a server may not send, or what no echo of ours is.
    """
    if len(buffer) < 2:
        return None
    first, length = buffer[0], buffer[1]
    if length & 0x80:
        raise BrokenAnswer("the server masks its frames")
    if first & 0x70 or not first & FINAL:
        raise BrokenAnswer(f"first byte {first:#x}: an extension or a fragment, neither agreed")
    start = 2
    if length >= 126:
        extended = 2 if length == 126 else 8
        start += extended
        if len(buffer) < start:
            return None
        length = int.from_bytes(buffer[2:start])
    if length > MAX_FRAME:
        raise BrokenAnswer(f"a frame of {length} bytes")
    if len(buffer) < start + length:
        return None
    payload = bytes(buffer[start : start + length])
    del buffer[: start + length]
    return first & 0x0F, payload


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame as a client sends it. Raise ValueError above 125 bytes: no client of ours needs more."""
    if len(payload) > 125:
        raise ValueError(f"{len(payload)} bytes in one short frame")
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return bytes((FINAL | opcode, 0x80 | len(payload))) + MASK + masked


def close_code(payload: bytes) -> int:
    """Return the code of a close frame; 1005 when it names none (RFC 6455 section 7.1.5)."""
    return int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
