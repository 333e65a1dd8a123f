"""Take connections over from one worker that drains, in slices; the other end is `worker.sender`."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

import msgspec

from asgireload.errors import ParcelError
from asgireload.ipc.parcels import (
    Offer,
    Parcel,
    PassageMessage,
    Settled,
    Withdrawn,
    decode_parcel,
)
from asgireload.ipc.passage import Passage, Sent, read_parcel
from asgireload.worker.connecting import Connecting, wait_ended
from asgireload.worker.offers import Claims, Fate

SLICE_OFFERS = 16
"""Connections taken over in one turn of the loop. Each costs as much again in later turns, when its transport is
made and begins to read, so a count bounds the whole cost better than the time spent here."""

_logger = logging.getLogger("asgireload.error")


class _Arrival(msgspec.Struct, frozen=True):
    """A connection that came through the passage; its socket is not on the loop yet."""

    socket: socket.socket
    make_protocol: Callable[[], asyncio.BaseProtocol]


class HandoverReceiver:
    """Takes over connections from one passage until the other worker has ended. Owns the passage.

    `resume` returns the protocol factory of a connection, and raises ParcelError if the connection cannot continue
    here. `accepts` is called before each connection; if it returns False, the connection goes back. `on_arrived` is
    called with the number of connections of each slice. `on_done` is called once, when the passage is closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        passage: Passage,
        resume: Callable[[Parcel], Callable[[], asyncio.BaseProtocol]],
        accepts: Callable[[], bool],
        on_arrived: Callable[[int], None],
        on_done: Callable[["HandoverReceiver"], None],
    ) -> None:
        self._loop = loop
        self.passage = passage
        self._resume = resume
        self._accepts = accepts
        self._on_arrived = on_arrived
        self._on_done = on_done
        self._claims: Claims[_Arrival] = Claims()
        self._refused: list[int] = []
        self._is_full = False
        """Some of `_refused` were refused for want of room."""
        self._is_waiting_to_say = False
        self._beginning: set[Connecting] = set()
        self.taken_over = 0
        loop.add_reader(passage.fileno(), self._receive)

    @property
    def pending(self) -> int:
        """The number of connections, held or taken, that have no connection object yet."""
        return len(self._beginning) + len(self._claims.held)

    def close(self) -> None:
        """Take over nothing more; connections that were not reported as taken go back. Idempotent."""
        if self.passage.is_closed:
            return
        for arrival in self._claims.given_up():
            arrival.socket.close()
        self._finish()

    async def wait_begun(self) -> None:
        """Return when every connection that was taken over has its connection object. May be cancelled."""
        await wait_ended(self._beginning)

    def _receive(self) -> None:
        """Take one slice of offers, report them, and then begin with them."""
        is_over = False
        try:
            for _ in range(SLICE_OFFERS):
                received = self.passage.receive()
                if received is None:
                    is_over = True
                    break
                self._consider(*received)
        except BlockingIOError:
            pass
        except (ParcelError, OSError) as error:
            _logger.error("A message of the old worker cannot be read: %s", error)  # noqa: TRY400 - the text says it all
            self.close()
            return
        if self._claims.held:
            self._on_arrived(len(self._claims.held))
        if not self._claims.is_mute:
            self._say()
        if is_over:
            self._end()

    def _consider(self, message: PassageMessage, descriptors: list[int]) -> None:
        if isinstance(message, Withdrawn):
            self._claims.withdrawn()
        elif isinstance(message, Offer):
            arrival = None
            if not self._accepts():
                self._is_full = True
            elif (arrival := self._unpack(message, descriptors)) is not None:
                self._claims.hold(message.number, arrival)
                return
            self._refused.append(message.number)
        for descriptor in descriptors:
            os.close(descriptor)

    def _unpack(self, offer: Offer, descriptors: list[int]) -> _Arrival | None:
        """Return the offered connection; None if this version, or this process, cannot take it."""
        if len(descriptors) != (1 if offer.parcel else 2):
            return None  # the process has no free descriptor, so the kernel dropped one
        try:
            data = offer.parcel or read_parcel(descriptors[1])
            make_protocol = self._resume(decode_parcel(data))
            arrived = socket.socket(fileno=descriptors[0])
        except (ParcelError, OSError) as error:
            _logger.warning("A connection is not taken over: %s", error)
            return None
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        arrived.setblocking(False)
        return _Arrival(arrived, make_protocol)

    def _say(self) -> None:
        """Report which offers are taken and which go back; only then begin with the taken ones."""
        taken = tuple(self._claims.held)
        if not taken and not self._refused:
            return
        match self.passage.say(Settled(taken, tuple(self._refused), self._is_full)):
            case Sent.YES:
                self._refused.clear()
                self._is_full = False
                for arrival in self._claims.said():
                    self._begin(arrival)
            case Sent.NO_ROOM:
                if not self._is_waiting_to_say:
                    self._is_waiting_to_say = True
                    self._loop.remove_reader(self.passage.fileno())
                    self._loop.add_writer(self.passage.fileno(), self._say_again)
            case Sent.GONE:
                self._refused.clear()
                self._claims.muted()

    def _say_again(self) -> None:
        self._loop.remove_writer(self.passage.fileno())
        self._is_waiting_to_say = False
        self._loop.add_reader(self.passage.fileno(), self._receive)
        self._say()

    def _end(self) -> None:
        fate, arrivals = self._claims.ended()
        for arrival in arrivals:
            if fate is Fate.BEGIN:
                self._begin(arrival)
            else:
                arrival.socket.close()
        self._finish()

    def _finish(self) -> None:
        descriptor = self.passage.fileno()
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)
        self.passage.close()
        self._on_done(self)

    def _begin(self, arrival: _Arrival) -> None:
        self.taken_over += 1
        connecting = Connecting(self._loop, arrival.make_protocol, arrival.socket, self._begun)
        self._beginning.add(connecting)
        connecting.begin()

    def _begun(self, connecting: Connecting, error: BaseException | None) -> None:
        self._beginning.discard(connecting)
        if error is not None:
            _logger.error("A connection that was taken over could not be set up: %s", error)
