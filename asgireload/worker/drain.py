"""Drain a worker: take nothing new, finish what is open, cut what is left at the deadline.

The order matters. Accepting stops first, so that a connection which still waits in the queue is taken by
a worker that stays. Then the notice is set, so that a request that slipped in sees it at once. Then every
connection ends in its own way, or moves to the worker that follows; `http.connection`,
`websocket.connection` and `worker.handover` say how.
"""

import asyncio
import time

import msgspec

from asgireload.draining import DrainReason
from asgireload.http.live import Live
from asgireload.http.server import Server
from asgireload.ipc.scoreboard import Field
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.handover import Handover

CUT_GRACE = 1.0
"""Seconds for connections that are cut to flush their last bytes."""
CUT_MOMENT = 0.4
"""Of these, seconds from telling applications that their client gets no more until they are cancelled."""


class DrainResult(msgspec.Struct, frozen=True):
    exchanges_cut: int
    websockets_closed: int
    handed_over: int
    """Connections that went on in another worker."""
    came_back: int
    """Offers of a connection that were not taken."""
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
    """Return when no connection is left, at the latest after `timeout` seconds, or CUT_GRACE later when
    that is short.

    The acceptor has been stopped by the caller.
    """
    live = server.live
    websockets = live.record.values[Field.WEBSOCKETS]
    cut_before = live.record.values[Field.CUT_TOTAL]
    server.drain.notice.begin(reason, time.monotonic() + timeout)
    # Those that get their connection object from now on see the notice and do this by themselves.
    handover.begin_drain()
    # The last second of the time is for the connections that are cut to say so.
    patience = timeout - CUT_GRACE if timeout > 2 * CUT_GRACE else timeout
    try:
        async with asyncio.timeout(patience):
            await acceptor.wait_adopted(server.settings.drain_grace)
            await handover.wait_idle()
    except TimeoutError:
        acceptor.abandon()
        # What is on its way is decided first, so that nothing is cut here that is served there.
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
        # Where the loop was blocked until now, applications have yet to see that they are cancelled.
        live.cancel_background()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
