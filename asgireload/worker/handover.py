"""Hand connections to the worker that follows, and take them from the one before.

`worker.offers` says who owns a connection when, `ipc.passage` carries it. Here both are put on the event
loop, in slices: however many connections move, neither loop is held up for longer than a slice.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial

import msgspec

from asgireload.errors import ParcelError
from asgireload.http.context import LiveConnection, ServingContext
from asgireload.ipc.parcels import (
    Offer,
    Parcel,
    PassageMessage,
    Settled,
    Withdrawn,
    decode_parcel,
    encode_parcel,
)
from asgireload.ipc.passage import Passage, Sent, read_parcel
from asgireload.ipc.scoreboard import Field
from asgireload.worker.collection import PutOff
from asgireload.worker.connecting import Connecting, wait_ended
from asgireload.worker.offers import Claims, Fate, Offers, Settle, Turn
from asgireload.worker.protocols import resumed_protocol

SLICE_SECONDS = 0.004
"""Work on a handover in one turn of the loop: a request that comes meanwhile waits no longer than for one
slow handler, and the overhead of a turn is small beside it."""
SLICE_OFFERS = 16
"""Connections taken over in one turn. Each costs the loop as much again in the turns that follow, when its
transport is made and begins to read, so a count bounds the whole better than the time of this part."""
SETTLE_TIMEOUT = 5.0
"""Seconds that the successor may leave every offer unanswered. Its loop is held up by then, and clients
whose connections wait are better served here. `Passage.withdraw` says why nothing is served twice."""
RETRY_SECONDS = 0.02
"""Between two tries to offer where the successor has not come to read, or too many descriptors are under way."""

_logger = logging.getLogger("asgireload.error")


class Sender:
    """A worker that follows.

    `on_gone` is called when it can take nothing more, before the connections that came back are told; not
    after `close()`. `on_full` is called once, when it has said that it has no room. `number` is its id. Owns the
    passage.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        passage: Passage,
        on_gone: Callable[["Sender"], None],
        on_taken: Callable[[], None],
        on_full: Callable[["Sender"], None],
        number: int = 0,
    ) -> None:
        """`on_taken` is called for each connection that has gone over."""
        self.number = number
        self._loop = loop
        self.passage = passage
        self._on_gone = on_gone
        self._on_taken = on_taken
        self._on_full = on_full
        self.is_full = False
        self._offers = Offers()
        self._is_pump_due = False
        self._unsent: tuple[int, bytes, int] | None = None
        """An offer for which the system had no room: its number, parcel, and a descriptor of our own."""
        self._retry: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        loop.add_reader(passage.fileno(), self._hear)

    @property
    def handed_over(self) -> int:
        return self._offers.handed_over

    @property
    def came_back(self) -> int:
        return self._offers.came_back

    @property
    def is_open(self) -> bool:
        return self._offers.is_open

    # Connections call these, through `Spread`.

    @property
    def is_spent(self) -> bool:
        return self.is_full or not self._offers.is_open

    def enlist(self, turn: Turn) -> bool:
        is_soon = self._offers.enlist(turn)
        self._pump_soon()
        return is_soon and self._retry is None

    def take(self, descriptor: int, parcel: Parcel, settled: Settle) -> bool:
        if not self._offers.has_room:
            return False
        if not self._offers.unsettled:
            self._heard_at = self._loop.time()  # until now it had nothing to answer
        try:
            data = encode_parcel(parcel)
        except ParcelError as error:
            _logger.warning("A connection could not be handed over and stays here: %s", error)
            return False
        number = self._offers.offer(settled)
        try:
            if self.passage.offer(number, data, descriptor) is not Sent.YES:
                # The successor has not come to read, or too many descriptors are under way: all wait a little.
                # Or it has ended: that is about to be heard, and connections are told then, not before.
                self._unsent = (number, data, os.dup(descriptor))
                self._retry = self._loop.call_later(RETRY_SECONDS, self._pump_again)
        except OSError as error:
            _logger.warning("A connection could not be handed over and stays here: %s", error)
            self._offers.retract(number)
            return False
        if self._deadline is None:
            self._deadline = self._loop.call_later(SETTLE_TIMEOUT, self._look_at_deadline)
        return True

    # The drain calls these.

    def retire(self) -> None:
        """Another takes its place: give no more turns. What was offered can still be settled."""
        self._offers.forget_waiting()

    def withdraw(self) -> None:
        """Keep what is not settled. Idempotent."""
        if not self._offers.is_open:
            return
        keeps = self.passage.withdraw()
        while self._hear_one():
            pass
        self._end(keeps=keeps)

    def close(self) -> None:
        """Nothing is left to hand over; `on_gone` is not called."""
        self._on_gone = _ignore
        self.withdraw()

    # The loop calls these.

    def _pump_soon(self) -> None:
        if not self._is_pump_due and self._retry is None and self._offers.waiting:
            self._is_pump_due = True
            self._loop.call_soon(self._pump)

    def _pump_again(self) -> None:
        self._retry = None
        if self._unsent is not None:
            try:
                sent = self.passage.offer(*self._unsent)
            except OSError as error:
                _logger.warning("A connection could not be handed over and stays here: %s", error)
                sent = Sent.GONE
            if sent is Sent.NO_ROOM:
                self._retry = self._loop.call_later(RETRY_SECONDS, self._pump_again)
                return
            if sent is Sent.GONE:
                while self._hear_one():
                    pass
            number = self._forget_unsent()
            if sent is Sent.GONE:
                self._tell(self._offers.settle((), number))
        self._pump_soon()

    def _forget_unsent(self) -> tuple[int, ...]:
        """Return its number, if there is one."""
        if self._unsent is None:
            return ()
        number, _, descriptor = self._unsent
        self._unsent = None
        os.close(descriptor)
        return (number,)

    def _tell(self, told: list[tuple[Settle, bool]]) -> None:
        for settle, is_taken in told:
            if is_taken:
                self._on_taken()
            settle(is_taken)

    def _pump(self) -> None:
        """Give turns as long as there is room, and time in this turn of the loop."""
        self._is_pump_due = False
        until = time.monotonic() + SLICE_SECONDS
        while self._retry is None and (turn := self._offers.next_turn()) is not None:
            turn()
            if time.monotonic() >= until:
                break
        if self._offers.has_room:
            self._pump_soon()

    def _hear(self) -> None:
        until = time.monotonic() + SLICE_SECONDS
        while self._hear_one():
            if time.monotonic() >= until:
                break
        if self._offers.has_room:
            self._pump_soon()

    def _hear_one(self) -> bool:
        """Take one message; False when none is there."""
        if self.passage.is_closed:
            return False
        try:
            received = self.passage.receive()
        except BlockingIOError:
            return False
        except (ParcelError, OSError) as error:
            _logger.error("A message of the new worker cannot be read: %s", error)  # noqa: TRY400 - the text says it all
            # What it has said that it takes is unknown, so nothing that was offered may be served here.
            self._end(keeps=False)
            return False
        if received is None:
            # It has ended, or takes nothing more; all that it said before has been heard.
            self._end(keeps=True)
            return False
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Settled):
            self._heard_at = self._loop.time()
            if message.is_full and not self.is_full:
                # It goes on to get offers until another is named: it may be the only one.
                self.is_full = True
                self._on_full(self)
            self._tell(self._offers.settle(message.taken, message.refused))
        return True

    def _look_at_deadline(self) -> None:
        self._deadline = None
        if not self._offers.unsettled:
            return
        now = self._loop.time()
        if now >= self._heard_at + SETTLE_TIMEOUT:
            _logger.warning(
                "The successor has taken no connection for %g s; %d stay here",
                SETTLE_TIMEOUT,
                len(self._offers.unsettled),
            )
            self.withdraw()
            return
        self._deadline = self._loop.call_at(self._heard_at + SETTLE_TIMEOUT, self._look_at_deadline)

    def _end(self, *, keeps: bool) -> None:
        if self.passage.is_closed:
            return
        self._loop.remove_reader(self.passage.fileno())
        self.passage.close()
        for timer in (self._retry, self._deadline):
            if timer is not None:
                timer.cancel()
        # What the other worker never got is kept, whatever else it may have taken.
        told = self._offers.settle((), self._forget_unsent()) + self._offers.end(keeps=keeps)
        self._on_gone(self)
        self._tell(told)


class Spread:
    """Workers that follow side by side, as one (`http.context.Successor`): each in turn gets a connection.

    It does not change. When one of them takes nothing more, or another is named, a new one takes its place, and
    connections ask that one for their turn.
    """

    def __init__(self, senders: list[Sender]) -> None:
        self.senders = senders
        self._next = 0
        self._giving: Sender | None = None
        self._is_retired = False

    @property
    def is_spent(self) -> bool:
        return self._is_retired or all(sender.is_spent for sender in self.senders)

    def enlist(self, turn: Turn) -> bool:
        for _ in self.senders:
            sender = self.senders[self._next]
            self._next = (self._next + 1) % len(self.senders)
            if sender.is_open:
                return sender.enlist(partial(self._give, sender, turn))
        return False

    def take(self, descriptor: int, parcel: Parcel, settled: Settle) -> bool:
        return self._giving is not None and self._giving.take(descriptor, parcel, settled)

    def retire(self) -> None:
        """Give no more turns. What was offered can still be settled."""
        self._is_retired = True
        for sender in self.senders:
            sender.retire()

    def _give(self, sender: Sender, turn: Turn) -> None:
        self._giving = sender
        try:
            turn()
        finally:
            self._giving = None


def _ignore(subject: object) -> None:
    """Nobody needs to know."""


class _Arrival(msgspec.Struct, frozen=True):
    """A connection that came through the passage; its socket is nobody's business yet."""

    socket: socket.socket
    make_protocol: Callable[[], asyncio.BaseProtocol]


class Receiver:
    """Takes over what comes through one passage until the other worker has ended. Owns the passage.

    `accepts` is asked before each connection; what it denies goes back. `on_arrived` is told of each slice how many
    came. `on_done` is called once, when the passage is closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        passage: Passage,
        context: ServingContext,
        accepts: Callable[[], bool],
        on_arrived: Callable[[int], None],
        on_done: Callable[["Receiver"], None],
    ) -> None:
        self._loop = loop
        self.passage = passage
        self._context = context
        self._accepts = accepts
        self._on_arrived = on_arrived
        self._on_done = on_done
        self._claims: Claims[_Arrival] = Claims()
        self._refused: list[int] = []
        self._is_full = False
        """Some of them for want of room."""
        self._is_waiting_to_say = False
        self._beginning: set[Connecting] = set()
        self.taken_over = 0
        loop.add_reader(passage.fileno(), self._receive)

    @property
    def pending(self) -> int:
        """Connections that are taken or held, and have no connection object yet."""
        return len(self._beginning) + len(self._claims.held)

    def close(self) -> None:
        """Take nothing more: what was not said to be taken goes back. Idempotent."""
        if self.passage.is_closed:
            return
        for arrival in self._claims.given_up():
            arrival.socket.close()
        self._finish()

    async def wait_begun(self) -> None:
        """Return when every connection that was taken over has its connection object. Cancel freely."""
        await wait_ended(self._beginning)

    def _receive(self) -> None:
        """Take a slice of what is there, say so, and begin with it."""
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
        """Return what was offered; None for what this version, or this process, cannot take."""
        if len(descriptors) != (1 if offer.parcel else 2):
            return None  # no room for another descriptor
        try:
            data = offer.parcel or read_parcel(descriptors[1])
            make_protocol = resumed_protocol(self._context, decode_parcel(data))
            arrived = socket.socket(fileno=descriptors[0])
        except (ParcelError, OSError) as error:
            _logger.warning("A connection is not taken over: %s", error)
            return None
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        arrived.setblocking(False)
        return _Arrival(arrived, make_protocol)

    def _say(self) -> None:
        """Tell what is taken and what goes back. Only then begin with it."""
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


class Handover:
    """All of one worker's handovers: to whom its connections go, and from whom some come.

    Joined in `worker/main.py`. While a worker serves it only receives. Once it drains it takes in no more
    than it can pass on. `on_spent` is called with the number of the successor that takes nothing more, once for
    each, so that whoever named it can name another.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ServingContext,
        on_spent: Callable[[int], None] = _ignore,
    ) -> None:
        self._loop = loop
        self._context = context
        self._on_spent = on_spent
        self._senders: list[Sender] = []
        self._spread: Spread | None = None
        """Of those that follow now."""
        self._receivers: set[Receiver] = set()
        self._is_over = False
        self._collection = PutOff(loop, self._running)

    def _running(self) -> int:
        values = self._context.record.values
        return values[Field.EXCHANGES] + values[Field.WEBSOCKETS]

    # From others.

    def receive(self, sock: socket.socket) -> None:
        """Take over what comes through `sock`, which becomes ours."""
        if self._is_over or (self._context.drain and self._context.successor is None):
            sock.close()  # the other worker sees end of file
            return
        self._receivers.add(
            Receiver(
                self._loop,
                Passage(sock),
                self._context,
                self._accepts,
                self._collection.note,
                self._receivers.discard,
            )
        )

    def _accepts(self) -> bool:
        context = self._context
        if context.drain and context.successor is None:
            return False
        return context.has_space(sum(receiver.pending for receiver in self._receivers))

    # To others.

    def hand_to(self, sock: socket.socket, number: int = 0, *, beside: bool = False) -> None:
        """Let connections go to worker `number` behind `sock`, which becomes ours.

        That one takes the place of others that were named before, or its share `beside` them.
        """
        if self._is_over:
            sock.close()
            return
        former = self._spread.senders if beside and self._spread is not None else []
        sender = Sender(
            self._loop,
            Passage(sock),
            self._successor_gone,
            self._count,
            self._successor_full,
            number,
        )
        self._senders.append(sender)
        self._follow([*(each for each in former if not each.is_spent), sender])
        if self._context.drain:
            self.begin_drain()

    def _follow(self, senders: list[Sender]) -> None:
        if self._spread is not None:
            self._spread.retire()
        self._spread = Spread(senders) if senders else None
        self._context.successor = self._spread
        self._context.awaits_successor = self._spread is None

    def begin_drain(self) -> None:
        """Have every connection begin to drain, or do so anew, in slices. `context.drain` is set."""
        if self._context.successor is None:
            for receiver in list(self._receivers):
                receiver.close()
        self._drain_some(list(self._context.connections))

    def _drain_some(self, connections: list[LiveConnection]) -> None:
        until = time.monotonic() + SLICE_SECONDS
        known = self._context.connections
        while connections:
            connection = connections.pop()
            if connection in known:
                connection.begin_drain()
            if time.monotonic() >= until:
                self._loop.call_soon(self._drain_some, connections)
                return

    def _count(self) -> None:
        self._context.record.values[Field.HANDED_OVER_TOTAL] += 1

    def _successor_full(self, sender: Sender) -> None:
        if not self._is_following(sender):
            return
        self._on_spent(sender.number)
        assert self._spread is not None
        others = [each for each in self._spread.senders if not each.is_spent]
        if others:
            self._follow(others)
            self._begin_anew()

    def _successor_gone(self, sender: Sender) -> None:
        if not self._is_following(sender):
            return
        if not sender.is_full:
            self._on_spent(sender.number)
        assert self._spread is not None
        others = [each for each in self._spread.senders if each.is_open]
        self._follow([each for each in others if not each.is_spent] or others)
        self._begin_anew()

    def _is_following(self, sender: Sender) -> bool:
        return self._spread is not None and sender in self._spread.senders

    def _begin_anew(self) -> None:
        if self._context.drain:
            # After those that came back have been told, so that each goes its way once.
            self._loop.call_soon(self.begin_drain)

    # The end.

    async def wait_idle(self) -> None:
        """Return when no connection is left here, none on its way, and no application runs. Cancel freely."""
        while True:
            for receiver in list(self._receivers):
                await receiver.wait_begun()
            await self._context.wait_idle()
            if not any(receiver.pending for receiver in self._receivers):
                return

    def withdraw(self) -> None:
        """Keep what is not settled, and take nothing more. Idempotent."""
        self._is_over = True
        self._collection.end()
        self._spread = self._context.successor = None
        self._context.awaits_successor = False
        for receiver in list(self._receivers):
            receiver.close()
        for sender in self._senders:
            sender.close()

    def descriptors(self) -> list[int]:
        """Return those of the passages that are open."""
        passages = [sender.passage for sender in self._senders]
        passages += [receiver.passage for receiver in self._receivers]
        return [passage.fileno() for passage in passages if not passage.is_closed]

    @property
    def handed_over(self) -> int:
        return sum(sender.handed_over for sender in self._senders)

    @property
    def came_back(self) -> int:
        return sum(sender.came_back for sender in self._senders)
