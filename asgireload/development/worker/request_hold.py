"""Hold new requests back while newer code is on its way, so that no answer is out of date.

Connections that wait to be accepted are left to the worker of the new code, and so are kept ones: they begin
no request, and are handed over when this worker drains. When the new code takes too long, or cannot be had,
this worker goes on, and says with each response that it is stale.
"""

import asyncio
import logging

from asgireload.http1.wire import Http1Wire
from asgireload.worker.acceptor import Acceptor

_logger = logging.getLogger("asgireload.error")


class RequestHold:
    """The switch of one worker. `end()` it when the worker drains."""

    def __init__(self, wire: Http1Wire, acceptor: Acceptor) -> None:
        self._loop = wire.server.clock.loop
        self._live = wire.server.live
        self._wire = wire
        self._acceptor = acceptor
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    def hold(self, timeout: float) -> None:
        """Begin no request for at most `timeout` seconds. Another call changes nothing."""
        if self._live.is_held or self._has_ended:
            return
        self._live.is_held = True
        self._acceptor.stop()
        _logger.debug("New requests wait for newer code, at most %g s", timeout)
        for connection in list(self._live.connections):
            connection.hold()
        self._timer = self._loop.call_later(timeout, self.release)

    def release(self) -> None:
        """Go on, as stale code."""
        if not self._live.is_held or self._has_ended:
            return
        self._cancel_timer()
        self._live.is_held = False
        self._wire.mark_stale()
        self._acceptor.start()
        for connection in list(self._live.connections):
            connection.release()

    def end(self, *, is_stale: bool) -> None:
        """The worker drains.

        `is_stale`: another one has newer code. Then what is held goes there, and what cannot go is answered
        here as stale.
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
