"""The first protocol of a connection that was begun in another worker, or before the loop had its socket.

A transport begins to read after `connection_made`, even if the protocol has called `pause_reading` there (uvloop
always, asyncio before Python 3.12), and may deliver bytes before a callback runs that was scheduled there.
`Resuming` collects these bytes, and passes the transport on in the next turn of the loop, from which on
`pause_reading` works.
"""

import asyncio
from collections.abc import Callable
from typing import cast

Begin = Callable[[asyncio.Transport], None]
"""Sets the protocol that takes over the transport, and resumes the connection in it."""
Lose = Callable[[Exception | None], None]


class Resuming(asyncio.Protocol):
    """A protocol for `loop.connect_accepted_socket`.

    `begin` is called once with the transport. If the connection is lost before, `lose` is called instead.
    """

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
        # The protocol is looked up each time, because a WebSocket handshake changes it again.
        for data in self._received:
            cast("asyncio.Protocol", transport.get_protocol()).data_received(data)
        if self._has_peer_closed:
            if not cast("asyncio.Protocol", transport.get_protocol()).eof_received():
                transport.close()
