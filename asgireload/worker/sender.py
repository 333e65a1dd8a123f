"""Hand connections to one worker that follows.

`worker.offers` says who owns a connection when, `ipc.passage` carries it. Here both are put on the event loop, in
slices: however many connections move, the loop is held up for no longer than a slice.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable

from asgireload.errors import ParcelError
from asgireload.ipc.parcels import Parcel, Settled, encode_parcel
from asgireload.ipc.passage import Passage, Sent
from asgireload.worker.offers import Offers, Settle, Turn

SLICE_SECONDS = 0.004
"""Work on a handover in one turn of the loop: a request that comes meanwhile waits no longer than for one
slow handler, and the overhead of a turn is small beside it."""
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
        self._on_gone = ignore
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


def ignore(subject: object) -> None:
    """Nobody needs to know."""
