"""The first turn of the loop in the life of a connection that has begun elsewhere: in another worker, or before
the loop had its socket.

A transport begins to read behind `connection_made`, whatever the protocol did in there (uvloop always,
asyncio before Python 3.12), and may deliver bytes before anything scheduled in it runs. `Resuming` stands
in for that long: it keeps what comes, and hands the transport on when pausing means something again.
"""

import asyncio
from collections.abc import Callable
from typing import cast

Begin = Callable[[asyncio.Transport], None]
"""Sets the real protocol, and lets it go on as if it had always been there."""
Lose = Callable[[Exception | None], None]


class Resuming(asyncio.Protocol):
    """For `loop.connect_accepted_socket`. `begin` is called once; where the peer resets before, `lose` is."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, begin: Begin, lose: Lose | None = None
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._lose = lose
        self._transport: asyncio.Transport | None = None
        self._received: list[bytes] = []
        self._has_peer_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop.call_soon(self._hand_on)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)

    def eof_received(self) -> bool:
        self._has_peer_closed = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._lose is not None:
            self._lose(error)

    def _hand_on(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._begin(transport)
        # Asked each time: a WebSocket handshake changes the protocol once more.
        for data in self._received:
            cast("asyncio.Protocol", transport.get_protocol()).data_received(data)
        if self._has_peer_closed:
            if not cast("asyncio.Protocol", transport.get_protocol()).eof_received():
                transport.close()
