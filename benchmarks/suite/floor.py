"""What the loop and the kernel alone cost: a protocol on uvloop that writes fixed bytes.

    python -m benchmarks.suite.floor PORT

It does not parse HTTP: each empty line is taken for the end of a request and answered with the same
bytes. A WebSocket handshake is answered, and each frame echoed; unmasking in plain Python makes that a
floor for small messages only. No server in Python on uvloop can be cheaper; that is all it is good for.
"""

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n"
    b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
)
ANSWER = HEAD + b"\r\nHello, world!"
LAST_ANSWER = HEAD + b"connection: close\r\n\r\nHello, world!"
CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key: ([^\r]+)\r\n", re.IGNORECASE)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The constant of RFC 6455 section 1.3."""


def echoed(buffer: bytearray) -> bytes:
    """Take whole masked frames out of `buffer` and return them unmasked (RFC 6455 section 5.2)."""
    parts: list[bytes | bytearray] = []
    while len(buffer) >= 2:
        length, start = buffer[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4]), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10]), 10
        end = start + 4 + length
        if len(buffer) < end:
            break
        mask = bytes(buffer[start : start + 4]) * (length // 4 + 1)
        payload = int.from_bytes(buffer[start + 4 : end]) ^ int.from_bytes(mask[:length])
        parts += (buffer[:1], bytes((buffer[1] & 127,)), buffer[2:start], payload.to_bytes(length))
        del buffer[:end]
    return b"".join(parts)


class Floor(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport
    buffer: bytearray | None = None
    """What is left of a frame; None before a handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        if self.buffer is not None:
            self.buffer += data
            self.transport.write(echoed(self.buffer))
            return
        key = KEY.search(data)
        if key is not None:
            self.buffer = bytearray()
            accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-accept: " + accept + b"\r\n\r\n"
            )
            return
        if CLOSE.search(data) is not None:
            self.transport.write(LAST_ANSWER)
            self.transport.close()
        else:
            self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
