"""Answer a client that speaks plain HTTP on a TLS port.

The first byte distinguishes them: a TLS handshake record begins with 22 (RFC 8446 section 5.1), an HTTP request
with a letter. A user who typed http: for https: gets an answer that explains the mistake.
"""

import asyncio
from typing import cast

from asgireload.http1.lingering_close import LingeringClose
from asgireload.http1.writer import frame_error

TLS_HANDSHAKE = 0x16


def is_http(first: int) -> bool:
    """Return whether a connection whose first byte is `first` looks like HTTP: methods begin with a letter."""
    return chr(first).isascii() and chr(first).isalpha()


class PlainAnswer(asyncio.Protocol):
    """Answers every request with 400, and closes the connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lingering: LingeringClose | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        stream.write(frame_error(400, "This port speaks TLS: use https\n"))
        self._lingering = LingeringClose(stream, self._loop)
        self._lingering.begin()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering.drop(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
