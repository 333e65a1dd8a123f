"""Has a client left while its socket is not read?

The loop sees a departure only on a socket that it reads. It does not read one at end of file, where the
client may still wait for its answer, nor one with bytes behind the request in hand. A client that has left
and one that has only closed its sending side look the same until something is sent: the kernel of the first
answers with a reset, at once, or to a probe when it has forgotten the connection (tcp_fin_timeout, a minute).
So both are looked for here, at growing intervals.
"""

import asyncio
import socket
from collections.abc import Callable

from asgireload.net.probing import has_hung_up, is_gone, probe_when_quiet

FIRST_LOOK = 0.02
"""Seconds; a reset on a local network is there by then."""
LAST_LOOK = 5.0
"""Longest time between two looks."""
PROBE_SECONDS = 15
"""Between two probes of the kernel to a client that is sent nothing."""


class DisconnectWatch:
    """Calls `on_hang_up` once when the peer of `sock` has closed its sending side, if that is not known
    yet, and `on_gone` once when it has reset the connection. `cancel` ends the watch."""

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
        """Something was sent: the answer may be here soon."""
        self._interval = FIRST_LOOK
        self._timer.cancel()
        self._timer = self._loop.call_later(self._interval, self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if is_gone(self._sock):
            self._on_gone()
            return
        self._interval = min(2 * self._interval, LAST_LOOK)
        self._timer = self._loop.call_later(self._interval, self._look)
        if self._on_hang_up is not None and has_hung_up(self._sock):
            on_hang_up, self._on_hang_up = self._on_hang_up, None
            on_hang_up()  # may hurry
