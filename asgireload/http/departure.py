"""Has a client that closed its sending side left altogether?

Both look the same: end of file. A client that still waits for its answer acknowledges what is sent; the
kernel of one that has left answers with a reset, at once if something is sent, else when it has forgotten
the connection (tcp_fin_timeout, a minute). The loop no longer watches a socket at end of file, so the
reset is looked for here, at growing intervals.
"""

import asyncio
import socket
from collections.abc import Callable

from asgireload.net.probing import is_gone, probe_when_quiet

FIRST_LOOK = 0.02
"""Seconds; a reset on a local network is there by then."""
LAST_LOOK = 5.0
"""Longest time between two looks."""
PROBE_SECONDS = 15
"""Between two probes of the kernel to a client that is sent nothing."""


class DepartureWatch:
    """Calls `on_gone` once when the peer of `sock` has reset the connection. `cancel` ends the watch."""

    __slots__ = ("_interval", "_loop", "_on_gone", "_sock", "_timer")

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_gone: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_gone = on_gone
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
        else:
            self._interval = min(2 * self._interval, LAST_LOOK)
            self._timer = self._loop.call_later(self._interval, self._look)
