"""The handovers of one worker: which workers receive its connections, and which workers it receives some from.

`worker.sender` hands connections over to one worker and `worker.receiver` takes them over from one; both work in
slices.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from asgireload.http.live import LiveConnection
from asgireload.http.server import Server
from asgireload.ipc.parcels import Parcel
from asgireload.ipc.passage import Passage
from asgireload.ipc.scoreboard import Field
from asgireload.worker.gc_pause import GcPause
from asgireload.worker.receiver import HandoverReceiver
from asgireload.worker.sender import SLICE_SECONDS, HandoverSender, ignore
from asgireload.worker.spread import Spread


class Handover:
    """All handovers of one worker, to its handover targets and from workers that drain.

    While the worker serves, it only receives. While it drains, it receives only if it has a handover target.
    `resume` returns the factory of a protocol that continues the connection in a parcel. `on_spent` is called once
    with the number of each handover target that takes nothing more, so that the supervisor can name another.
    """

    def __init__(
        self,
        server: Server,
        resume: Callable[[Parcel], Callable[[], asyncio.BaseProtocol]],
        on_spent: Callable[[int], None] = ignore,
    ) -> None:
        self._loop = loop = server.clock.loop
        self._live = server.live
        self._drain = server.drain
        self._resume = resume
        self._on_spent = on_spent
        self._senders: list[HandoverSender] = []
        self._spread: Spread | None = None
        """The present handover targets; None if there are none."""
        self._receivers: set[HandoverReceiver] = set()
        self._is_over = False
        self._gc_pause = GcPause(loop, self._running)

    def _running(self) -> int:
        values = self._live.record.values
        return values[Field.EXCHANGES] + values[Field.WEBSOCKETS]

    # From others.

    def receive(self, sock: socket.socket) -> None:
        """Take over connections that come through `sock`, and own `sock`."""
        if self._is_over or (self._drain.notice and self._drain.successor is None):
            sock.close()  # the other worker sees end of file
            return
        self._receivers.add(
            HandoverReceiver(
                self._loop,
                Passage(sock),
                self._resume,
                self._accepts,
                self._gc_pause.note,
                self._receivers.discard,
            )
        )

    def _accepts(self) -> bool:
        if self._drain.notice and self._drain.successor is None:
            return False
        return self._live.has_space(sum(receiver.pending for receiver in self._receivers))

    # To others.

    def hand_to(self, sock: socket.socket, number: int = 0, *, beside: bool = False) -> None:
        """Make worker `number`, at the other end of `sock`, a handover target, and own `sock`.

        The worker replaces the handover targets that were named before; with `beside` it shares the connections
        with them.
        """
        if self._is_over:
            sock.close()
            return
        former = self._spread.senders if beside and self._spread is not None else []
        sender = HandoverSender(
            self._loop,
            Passage(sock),
            self._successor_gone,
            self._count,
            self._successor_full,
            number,
        )
        self._senders.append(sender)
        self._follow([*(each for each in former if not each.is_spent), sender])
        if self._drain.notice:
            self.begin_drain()

    def _follow(self, senders: list[HandoverSender]) -> None:
        if self._spread is not None:
            self._spread.retire()
        self._spread = Spread(senders) if senders else None
        self._drain.successor = self._spread
        self._drain.awaits_successor = self._spread is None

    def begin_drain(self) -> None:
        """Call `begin_drain` on every connection, in slices. May be called again. The drain notice must be set."""
        if self._drain.successor is None:
            for receiver in list(self._receivers):
                receiver.close()
        self._drain_some(list(self._live.connections))

    def _drain_some(self, connections: list[LiveConnection]) -> None:
        until = time.monotonic() + SLICE_SECONDS
        known = self._live.connections
        while connections:
            connection = connections.pop()
            if connection in known:
                connection.begin_drain()
            if time.monotonic() >= until:
                self._loop.call_soon(self._drain_some, connections)
                return

    def _count(self) -> None:
        self._live.record.values[Field.HANDED_OVER_TOTAL] += 1

    def _successor_full(self, sender: HandoverSender) -> None:
        if not self._is_following(sender):
            return
        self._on_spent(sender.number)
        assert self._spread is not None
        others = [each for each in self._spread.senders if not each.is_spent]
        if others:
            self._follow(others)
            self._begin_anew()

    def _successor_gone(self, sender: HandoverSender) -> None:
        if not self._is_following(sender):
            return
        if not sender.is_full:
            self._on_spent(sender.number)
        assert self._spread is not None
        others = [each for each in self._spread.senders if each.is_open]
        self._follow([each for each in others if not each.is_spent] or others)
        self._begin_anew()

    def _is_following(self, sender: HandoverSender) -> bool:
        return self._spread is not None and sender in self._spread.senders

    def _begin_anew(self) -> None:
        if self._drain.notice:
            # Later: connections that came back are told first, so that each is handed over once.
            self._loop.call_soon(self.begin_drain)

    # The end.

    async def wait_idle(self) -> None:
        """Return when no connection is here or on its way in, and no application runs. May be cancelled."""
        while True:
            for receiver in list(self._receivers):
                await receiver.wait_begun()
            await self._live.wait_idle()
            if not any(receiver.pending for receiver in self._receivers):
                return

    def withdraw(self) -> None:
        """End all handovers: keep connections that are not settled, and take over no more. Idempotent."""
        self._is_over = True
        self._gc_pause.end()
        self._spread = self._drain.successor = None
        self._drain.awaits_successor = False
        for receiver in list(self._receivers):
            receiver.close()
        for sender in self._senders:
            sender.close()

    def descriptors(self) -> list[int]:
        """Return the descriptors of the open passages."""
        passages = [sender.passage for sender in self._senders]
        passages += [receiver.passage for receiver in self._receivers]
        return [passage.fileno() for passage in passages if not passage.is_closed]

    @property
    def handed_over(self) -> int:
        """The number of connections that other workers have taken."""
        return sum(sender.handed_over for sender in self._senders)

    @property
    def came_back(self) -> int:
        """The number of connections that were offered and not taken."""
        return sum(sender.came_back for sender in self._senders)
