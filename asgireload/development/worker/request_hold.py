"""Hold new requests while newer code is loading, so that no response comes from outdated code.

A worker that holds requests accepts no connections, and begins no request on idle keep-alive connections, which are
handed over when it drains. When the new code takes too long or fails to load, the worker serves again, and marks
each response as stale.
"""

import asyncio
import logging

from asgireload.http1.wire import Http1Wire
from asgireload.worker.acceptor import Acceptor

_logger = logging.getLogger("asgireload.error")


class RequestHold:
    """Holds and releases the requests of one worker. Call `end()` when the worker drains."""

    def __init__(self, wire: Http1Wire, acceptor: Acceptor) -> None:
        self._loop = wire.server.clock.loop
        self._live = wire.server.live
        self._wire = wire
        self._acceptor = acceptor
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    def hold(self, timeout: float) -> None:
        """Begin no request for at most `timeout` seconds. Calls while requests are held have no effect."""
        if self._live.is_held or self._has_ended:
            return
        self._live.is_held = True
        self._acceptor.stop()
        _logger.debug("New requests wait for newer code, at most %g s", timeout)
        for connection in list(self._live.connections):
            connection.hold()
        self._timer = self._loop.call_later(timeout, self.release)

    def release(self) -> None:
        """Serve again, and mark responses as stale. Without effect unless requests are held."""
        if not self._live.is_held or self._has_ended:
            return
        self._cancel_timer()
        self._live.is_held = False
        self._wire.mark_stale()
        self._acceptor.start()
        for connection in list(self._live.connections):
            connection.release()

    def end(self, *, is_stale: bool) -> None:
        """End holding because the worker drains.

        `is_stale`: a worker with newer code is ready. Held requests are then handed over to it, and those that
        cannot be handed over are answered here, marked as stale. Otherwise held requests are answered.
        """
        self._cancel_timer()
        if is_stale:
            self.hold(0.0)
            self._cancel_timer()
            self._wire.mark_stale()
        else:
            self._live.is_held = False
            for connection in list(self._live.connections):
                connection.release()
        self._has_ended = True

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
