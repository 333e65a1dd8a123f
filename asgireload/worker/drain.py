"""Drain a worker: take nothing new, finish what is open, cut what is left at the deadline.

The order matters. Accepting stops first, so that a connection that still waits in the kernel's queue is accepted by
a worker that stays. Then the drain notice is set, so that a request that came just before sees it at once. Then
every connection ends, or moves to a handover target; see `http1.connection`, `websocket.connection` and
`worker.handover`.
"""

import asyncio
import logging
import time

import msgspec

from asgireload.draining import DrainReason
from asgireload.http.live import Live
from asgireload.http.server import Server
from asgireload.ipc.scoreboard import Field
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.handover import Handover

_logger = logging.getLogger("asgireload.error")

CUT_GRACE = 1.0
"""Seconds for connections that are cut to flush their last bytes."""
CUT_MOMENT = 0.4
"""Seconds of CUT_GRACE from the disconnect message, which the application receives, to its cancellation."""


class DrainResult(msgspec.Struct, frozen=True):
    """How many connections and exchanges a drain has ended, and in which way."""

    exchanges_cut: int
    websockets_closed: int
    handed_over: int
    """Connections that continue in another worker."""
    came_back: int
    """Connections that were offered to another worker and not taken."""
    streams_moved: int = 0
    """Of the connections handed over, those in the middle of an event stream."""
    streams_ended: int = 0
    """Event streams that were ended between two events."""


async def drain(
    server: Server,
    acceptor: Acceptor,
    handover: Handover,
    reason: DrainReason,
    timeout: float,
) -> DrainResult:
    """Drain; return when no connection is left, at the latest after `timeout` seconds.

    When `timeout` is 2 * CUT_GRACE or less, the drain may take CUT_GRACE longer. The caller must have stopped the
    acceptor.
    """
    live = server.live
    websockets = live.record.values[Field.WEBSOCKETS]
    cut_before = live.record.values[Field.CUT_TOTAL]
    server.drain.notice.begin(reason, time.monotonic() + timeout)
    # Connections that get their connection object from now on see the notice and begin to drain by themselves.
    handover.begin_drain()
    # The last CUT_GRACE of the time is for connections that are cut to flush their last bytes.
    patience = timeout - CUT_GRACE if timeout > 2 * CUT_GRACE else timeout
    try:
        async with asyncio.timeout(patience):
            await acceptor.wait_adopted(server.settings.drain_grace)
            await handover.wait_idle()
    except TimeoutError:
        acceptor.abandon()
        # Offers are settled first, so that no connection is cut here that the other worker serves.
        handover.withdraw()
        await _cut(live)
    handover.withdraw()
    return DrainResult(
        exchanges_cut=live.record.values[Field.CUT_TOTAL] - cut_before,
        websockets_closed=max(websockets - server.drain.websockets_moved, 0),
        handed_over=handover.handed_over,
        came_back=handover.came_back,
        streams_moved=server.drain.streams_moved,
        streams_ended=server.drain.streams_ended,
    )


async def _cut(live: Live) -> None:
    for connection in list(live.connections):
        connection.cut()
    try:
        async with asyncio.timeout(CUT_GRACE):
            try:
                async with asyncio.timeout(CUT_MOMENT):
                    await live.wait_idle()
            except TimeoutError:
                live.cancel_background()
            await live.wait_idle()
    except TimeoutError:
        for connection in list(live.connections):
            connection.abort()
        # If the loop was blocked until now, applications have not yet got their CancelledError.
        live.cancel_background()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def log_drain(result: DrainResult) -> None:
    """Log what became of the connections."""
    if result.exchanges_cut:
        _logger.warning(
            "Cut %d exchanges that were still open at the deadline of the drain (drain_timeout)",
            result.exchanges_cut,
        )
    said = [
        f"{count} {what}"
        for count, what in (
            (result.handed_over, "connections handed over"),
            (result.streams_moved, "of them with an event stream"),
            (result.came_back, "connections not taken by the new worker"),
            (result.streams_ended, "event streams ended"),
        )
        if count
    ]
    if said:
        _logger.info("Drained: %s", ", ".join(said))
