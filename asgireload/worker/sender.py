"""Hand connections over to one handover target.

`worker.offers` decides which worker owns a connection, and `ipc.passage` carries it. This module runs both on the
event loop, in slices: it blocks the loop for no longer than a slice, however many connections are handed over.
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
"""Seconds of handover in one turn of the loop: a request that comes meanwhile waits no longer than for one slow
handler, and the overhead of a turn is small in comparison."""
SETTLE_TIMEOUT = 5.0
"""Seconds without an answer to any offer after which the sender withdraws. The loop of the handover target is
blocked then, and clients are served sooner here. `Passage.withdraw` explains why no connection is served twice."""
RETRY_SECONDS = 0.02
"""Seconds between two tries to offer while the passage is full, or too many descriptors are in flight."""

_logger = logging.getLogger("asgireload.error")


class HandoverSender:
    """Hands connections to one handover target. Owns the passage.

    `on_gone` is called when the passage ends, before the connections that come back are told, but not after
    `close()`. `on_full` is called once, when the target first reports that it has no room. `number` is the
    supervisor's number for the target.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        passage: Passage,
        on_gone: Callable[["HandoverSender"], None],
        on_taken: Callable[[], None],
        on_full: Callable[["HandoverSender"], None],
        number: int = 0,
    ) -> None:
        """`on_taken` is called for each connection that the handover target has taken."""
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
        """An offer that could not be sent yet: its number, its parcel, and a duplicate of its descriptor."""
        self._retry: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        loop.add_reader(passage.fileno(), self._hear)

    @property
    def handed_over(self) -> int:
        """The number of connections that the target has taken."""
        return self._offers.handed_over

    @property
    def came_back(self) -> int:
        """The number of connections that were offered and not taken."""
        return self._offers.came_back

    @property
    def is_open(self) -> bool:
        """Whether offers can be made: the passage has not ended."""
        return self._offers.is_open

    # Connections call these, through `Spread`; see `http.drain_state.Successor`.

    @property
    def is_spent(self) -> bool:
        """Whether the handover target takes nothing more: it is full or gone."""
        return self.is_full or not self._offers.is_open

    def enlist(self, turn: Turn) -> bool:
        """Call `turn` when an offer has room; return whether that is soon. Not called once the target is gone."""
        is_soon = self._offers.enlist(turn)
        self._pump_soon()
        return is_soon and self._retry is None

    def take(self, descriptor: int, parcel: Parcel, settled: Settle) -> bool:
        """Offer a connection, within a turn; return whether it was offered, so that `settled` will be called.

        `settled` gets whether the target has taken the connection. `descriptor` is duplicated or sent; the caller
        closes it.
        """
        if not self._offers.has_room:
            return False
        if not self._offers.unsettled:
            self._heard_at = self._loop.time()  # the target had nothing to answer before
        try:
            data = encode_parcel(parcel)
        except ParcelError as error:
            _logger.warning("A connection could not be handed over and stays here: %s", error)
            return False
        number = self._offers.offer(settled)
        try:
            if self.passage.offer(number, data, descriptor) is not Sent.YES:
                # The passage is full, or too many descriptors are in flight: every offer waits a little. Or the
                # target has ended: the loop is about to report that, and connections are told then, not before.
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
        """Give no more turns, because another handover target replaces this one. Offers can still be settled."""
        self._offers.forget_waiting()

    def withdraw(self) -> None:
        """Close the passage and keep the connections that are not settled. Idempotent."""
        if not self._offers.is_open:
            return
        keeps = self.passage.withdraw()
        while self._hear_one():
            pass
        self._end(keeps=keeps)

    def close(self) -> None:
        """Withdraw without a call of `on_gone`. Idempotent."""
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
        """Drop the unsent offer, if any; return its number in a tuple."""
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
        """Give turns while there is room, for one slice at most."""
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
        """Handle one message; return False if there is none, or the passage has ended."""
        if self.passage.is_closed:
            return False
        try:
            received = self.passage.receive()
        except BlockingIOError:
            return False
        except (ParcelError, OSError) as error:
            _logger.error("A message of the new worker cannot be read: %s", error)  # noqa: TRY400 - the text says it all
            # Which offers the target has taken is unknown, so no connection that was offered may be served here.
            self._end(keeps=False)
            return False
        if received is None:
            # The target has ended, or takes nothing more; all its messages have been handled.
            self._end(keeps=True)
            return False
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Settled):
            self._heard_at = self._loop.time()
            if message.is_full and not self.is_full:
                # The target still gets offers until the supervisor names another: it may be the only one.
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
        # An offer that was never sent is kept, even if offers that were sent are not.
        told = self._offers.settle((), self._forget_unsent()) + self._offers.end(keeps=keeps)
        self._on_gone(self)
        self._tell(told)


def ignore(subject: object) -> None:
    """Do nothing: a callback for which there is no use."""
