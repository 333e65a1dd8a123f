"""Detects that a client has left while its socket is not read.

The event loop notices a departure only on a socket that it reads. It does not read a socket at end of file, whose
client may still wait for its response, nor a socket with unread bytes after the current request. A client that has
left and a client that has only closed its sending side look the same until something is sent. Then the kernel of a
client that has left answers with a reset: at once, or to a keepalive probe when the kernel has forgotten the
connection (tcp_fin_timeout, a minute). `DisconnectWatch` looks for a close and a reset, at growing intervals.
"""

import asyncio
import socket
from collections.abc import Callable

from asgireload.net.probing import has_hung_up, is_gone, probe_when_quiet

FIRST_LOOK = 0.02
"""Seconds until the first look; a reset on a local network arrives within that time."""
LAST_LOOK = 5.0
"""Most seconds between two looks."""
PROBE_SECONDS = 15
"""Seconds between two keepalive probes that the kernel sends to a client while nothing else is sent."""


class DisconnectWatch:
    """Watches the peer of `sock`, until `cancel` is called.

    `on_hang_up` is called once when the peer has closed its sending side; None: the caller knows of that already.
    `on_gone` is called once when the peer has reset the connection. The socket is not closed.
    """

    __slots__ = ("_interval", "_loop", "_on_gone", "_on_hang_up", "_sock", "_timer")

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_gone: Callable[[], None],
        on_hang_up: Callable[[], None] | None,
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_gone = on_gone
        self._on_hang_up = on_hang_up
        self._interval = FIRST_LOOK
        probe_when_quiet(sock, PROBE_SECONDS)
        self._timer = loop.call_later(self._interval, self._look)

    def hurry(self) -> None:
        """Look again soon: something was sent, and a reset may answer it."""
        self._interval = FIRST_LOOK
        self._timer.cancel()
        self._timer = self._loop.call_later(self._interval, self._look)

    def cancel(self) -> None:
        """End the watch. Neither callback is called after that."""
        self._timer.cancel()

    def _look(self) -> None:
        if is_gone(self._sock):
            self._on_gone()
            return
        self._interval = min(2 * self._interval, LAST_LOOK)
        self._timer = self._loop.call_later(self._interval, self._look)
        if self._on_hang_up is not None and has_hung_up(self._sock):
            on_hang_up, self._on_hang_up = self._on_hang_up, None
            on_hang_up()  # may call `hurry`
