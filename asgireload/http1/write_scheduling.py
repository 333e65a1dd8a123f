"""Decides when the bytes of responses are written, for one HTTP/1 connection and for all of a worker together.

A system call for each piece of a response, and the wake-up of its reader, cost more than the bytes. A deferred
write, on the other hand, waits for all application code that runs before it. Three kinds of write are deferred, no
longer than it pays:

    piece of a response ──▶ PieceBatch ──┐
                                         ├──▶ TurnScheduler ──end of the turn──▶ transport
    end of a response ───────────────────┘
    end of a response, more requests of this client at hand ──▶ PipelineBatch ──▶ transport

- **Pieces** of one response that an application sends without a wait between them are one write.
- **Pipelined** responses (RFC 9112 section 9.3.2), to requests that a client has sent together, are one write.
- **Turn**: when one turn of the event loop answers several clients, their responses are written at its end, one
  connection after the other. A write wakes a proxy or a client on the same machine, and a single wake-up for all
  responses costs a tenth less CPU for each of them.

A write that is deferred to the end of the turn also waits for code after the last `send`, and for the applications
of other clients. So writes are deferred only when that was found to be harmless:

- A complete response is deferred only while turns answer several clients at once. A single one is written at once.
- The first responses of a worker are written at once. So are the responses that follow a block: a response that
  waited for code that computes or blocks. With each block the number of those responses doubles; it halves when as
  many responses have passed without a block.

`ConnectionWriter` applies all of this to one connection, and keeps the order of the bytes.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from asgireload.http.response_stream import APART_BYTES

TURN_LONGEST_NS: Final = 1_000_000
"""Nanoseconds. When the first deferred response has waited for longer, all are written at the next `send`."""
BLOCKED_NS: Final = 4_000_000
"""Nanoseconds. When the turn takes longer after a response, an application has delayed it, or would have if the
response had been deferred."""
AT_ONCE_LEAST: Final = 1000
"""Responses that are written at once when a worker begins, and after its first block."""
AT_ONCE_MOST: Final = 1 << 17
"""The same at most, after many blocks."""
CROWD: Final = 4
"""Number of responses in one turn from which on it pays to write them together."""
SAMPLE: Final = 32
"""While single responses are written at once, one turn in this many responses is counted."""
FEW_TURNS: Final = 8
"""Consecutive turns with fewer than CROWD responses, after which single responses are written at once again."""
TURN_MOST_BYTES: Final = 16 * 1024
"""A larger end of a response is written at once: compared with so many bytes, waking the reader costs little."""


class InlineWriter(Protocol):
    """The transport of a connection whose socket the event loop does not have."""

    def write_last(self, data: bytes) -> None:
        """Write `data`, the last bytes of the connection: `close` or `write_eof` is called next."""


class Sender(Protocol):
    """An object with deferred bytes, which `TurnScheduler` calls."""

    def write_waiting(self) -> bool:
        """Write the deferred bytes; return whether there were any."""


class TurnScheduler:
    """Calls senders that have something to write, at once or at the end of the turn. One for each event loop."""

    __slots__ = (
        "_at_once",
        "_at_once_next",
        "_calm_left",
        "_count",
        "_counts_next",
        "_few_turns",
        "_is_crowded",
        "_is_due",
        "_is_part",
        "_is_watching",
        "_since_ns",
        "_waiting",
        "has_safe_writelines",
        "loop",
        "now_ns",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int] = time.monotonic_ns,
        *,
        at_once: int = AT_ONCE_LEAST,
        is_crowded: bool = False,
    ) -> None:
        self.loop = loop
        self.now_ns = now_ns
        """The monotonic clock, in nanoseconds, by which delays are measured; callers of `enlist` use it, too."""
        self.has_safe_writelines = not isinstance(loop, asyncio.SelectorEventLoop)
        """Whether `writelines` of the loop's transports works. The method of asyncio does not pause the writer
        before Python 3.12.9 and 3.13.2 (CVE-2024-12254), raises in later versions when the client has left
        (cpython#136234), and may wait for ever with an empty piece (cpython#155888)."""
        self._at_once = at_once
        """How many of the next responses are written at once."""
        self._at_once_next = AT_ONCE_LEAST
        """The value of `_at_once` after the next block."""
        self._calm_left = AT_ONCE_LEAST
        """Responses without a block until `_at_once_next` is halved."""
        self._is_crowded = is_crowded
        """Turns answer several clients."""
        self._few_turns = 0
        """Consecutive turns with fewer than CROWD responses."""
        self._count = 0
        """Responses since the beginning of the turn that is counted, or since the end of the last one."""
        self._waiting: list[Sender] = []
        self._since_ns = 0
        """When the first of `_waiting` was enlisted, or the response that is watched was written."""
        self._is_due = False
        """`_end_turn` is scheduled."""
        self._is_part = False
        """Not all responses of the present turn were counted."""
        self._counts_next = False
        """While single responses are written at once: count the responses of the next turn."""
        self._is_watching = False
        """`_since_ns` is the time of a response that was written at once."""

    @property
    def writes_at_once(self) -> bool:
        """Whether nothing is deferred at present, not even a part of a response."""
        return self._at_once > 0

    @property
    def writes_complete_at_once(self) -> bool:
        """Whether complete responses are not deferred at present."""
        return self._at_once > 0 or not self._is_crowded

    def enlist(self, sender: Sender, now_ns: int, *, is_complete: bool) -> None:
        """Call `write_waiting` of `sender` once: now, at the end of this turn, or in between.

        `now_ns`: the present time of `now_ns()`. `is_complete`: the deferred bytes end a response.
        """
        self._count += 1
        if not self._waiting:
            if self._at_once:
                self._at_once -= 1
                self._look_for_block(now_ns)
                self._watch(now_ns)
                sender.write_waiting()
                return
            if is_complete and not self._is_crowded:
                if self._count >= SAMPLE or self._counts_next:
                    self._sample(now_ns)
                sender.write_waiting()
                return
            self._since_ns = now_ns
            self._is_watching = False
            self._await_end()
        self._waiting.append(sender)
        self.hurry(now_ns)

    def hurry(self, now_ns: int) -> None:
        """Call all enlisted senders now if the first of them has waited for longer than TURN_LONGEST_NS."""
        if self._waiting and now_ns - self._since_ns > TURN_LONGEST_NS:
            self._flush(now_ns)

    def note_block(self) -> None:
        """Note that a response was delayed by an application: write the next responses at once."""
        self._at_once = self._calm_left = self._at_once_next
        self._at_once_next = min(self._at_once_next * 2, AT_ONCE_MOST)

    def _watch(self, now_ns: int) -> None:
        """Measure how long the turn takes after a response that was written at once."""
        self._since_ns = now_ns
        self._is_watching = True
        self._await_end()

    def _sample(self, now_ns: int) -> None:
        """Schedule the end of this turn, and count the responses of the next one."""
        if not self._is_due:
            is_first = self._counts_next
            self._watch(now_ns)
            self._counts_next = not is_first
            self._is_part = not is_first

    def _await_end(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._counts_next = self._is_part = False
            self._count = 1
            self.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_due = False
        if self._is_part:
            pass
        elif self._count >= CROWD:
            self._is_crowded = True
            self._few_turns = 0
        elif self._is_crowded:
            self._few_turns += 1
            if self._few_turns >= FEW_TURNS:
                self._is_crowded = False
                self._few_turns = 0
        if not self._at_once:
            self._calm_left -= self._count
            if self._calm_left <= 0:
                self._at_once_next = max(self._at_once_next // 2, AT_ONCE_LEAST)
                self._calm_left = self._at_once_next
        self._count = 0
        if self._waiting:
            self._flush(self.now_ns())
        elif self._is_watching:
            self._look_for_block(self.now_ns())

    def _look_for_block(self, now_ns: int) -> None:
        if self._is_watching:
            self._is_watching = False
            if now_ns - self._since_ns > BLOCKED_NS:
                self.note_block()

    def _flush(self, now_ns: int) -> None:
        waiting, self._waiting = self._waiting, []
        has_waited = False
        for sender in waiting:
            if sender.write_waiting():
                has_waited = True
        if has_waited and now_ns - self._since_ns > BLOCKED_NS:
            self.note_block()


PIPELINE_MOST_BYTES: Final = 16 * 1024
"""Bytes that a `PipelineBatch` holds at most; a larger write is cheap for the bytes that it carries."""
PIPELINE_LONGEST_NS: Final = 20_000_000
"""Nanoseconds after which a `PipelineBatch` is written, so that complete responses wait for one application that
computes for long, and not for several. With many such clients a single turn takes some milliseconds."""


class PipelineBatch:
    """Joins the ends of responses to pipelined requests, in their order, for one call of `write`.

    The end of a response waits for the next one as long as each turn of the loop completes a response. An
    application that awaits something delays the responses before its own by two turns of the loop at most. An
    application that computes or blocks delays them for longer; then `TurnScheduler.note_block` is called, and no
    response is deferred for a while. A caller that writes anything else to the connection calls `release` first.
    """

    __slots__ = (
        "_data",
        "_is_watched",
        "_last_at",
        "_since",
        "_turn",
        "_write",
    )

    def __init__(self, turn: TurnScheduler, write: Callable[[bytes], None]) -> None:
        """`turn`: its `note_block` is called when an application has delayed the responses before its own."""
        self._turn = turn
        self._write = write
        self._data = b""
        self._since = 0
        """When the first of the responses in `_data` was added, by the clock of `turn`."""
        self._last_at = 0
        """When the last of them was added."""
        self._is_watched = False

    def add(self, data: bytes) -> None:
        """Add the end of a response; another response is expected after it."""
        now = self._turn.now_ns()
        if not self._data:
            self._since = now
        else:
            self._look_for_block(now)
        self._last_at = now
        self._data += data
        if len(self._data) > PIPELINE_MOST_BYTES or now - self._since > PIPELINE_LONGEST_NS:
            self.release()
        elif not self._is_watched:
            self._is_watched = True
            self._turn.loop.call_soon(self._watch, 0)

    def release(self) -> None:
        """Write the bytes that were added."""
        data = self.take()
        if data:
            self._write(data)

    def take(self) -> bytes:
        """Return the bytes that were added, and forget them."""
        data, self._data = self._data, b""
        if data:
            self._look_for_block(self._turn.now_ns())
        return data

    def _look_for_block(self, now: int) -> None:
        if now - self._last_at > BLOCKED_NS:
            self._turn.note_block()

    def _watch(self, seen: int) -> None:
        """Once in each turn, call `release` if nothing was added since the turn before."""
        size = len(self._data)
        if size and size != seen:
            self._turn.loop.call_soon(self._watch, size)
        else:
            self._is_watched = False
            self.release()


PIECES_LEAST_BYTES: Final = 64 * 1024
"""Bytes that a `PieceBatch` holds before they are written: the high-water mark of an asyncio transport."""
PIECES_MOST_BYTES: Final = 256 * 1024
"""The same for a client whose socket has taken so many bytes at once."""
PIECES_MOST: Final = 256
"""Pieces that a `PieceBatch` holds, of any size; writev(2) takes 1024."""
JOINED_BYTES: Final = 16 * 1024
"""Pieces of up to so many bytes together are joined, which costs less than to pass on a list of them."""


class PieceBatch:
    """Collects pieces of a response, for one connection.

    Call `take` when `add` returns True, and at the end of the turn. The pieces are passed on as a list, for
    `writelines`, and are joined only when they are small.
    """

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = PIECES_LEAST_BYTES

    def add(self, data: bytes) -> bool:
        """Add the next piece. Return True when the batch is large enough to be written."""
        self._pieces.append(data)
        self._size += len(data)
        return self._size >= self._limit or len(self._pieces) >= PIECES_MOST

    def take(self, first: bytes) -> list[bytes]:
        """Return `first` and the pieces, in order: joined into one when they are small, otherwise as they are."""
        pieces, self._pieces = self._pieces, []
        if not pieces:
            return [first]
        if len(first) + self._size <= JOINED_BYTES:
            return [first + b"".join(pieces)]
        pieces.insert(0, first)
        return pieces

    def note_written(self, left_bytes: int) -> None:
        """Note that the pieces of `take` were written, and that the socket had no room for `left_bytes` of them."""
        if left_bytes:
            self._limit = PIECES_LEAST_BYTES
        elif self._size >= self._limit:
            self._limit = min(self._limit * 2, PIECES_MOST_BYTES)
        self._size = 0


class ConnectionWriter:
    """Writes the responses of one connection to its transport, in order, at once or at the end of the turn.

    All bytes for the connection are written through its writer. The connection sets `transport`, may replace it by
    another transport for the same socket, and closes it. While `is_direct` is set, `transport` is an
    `InlineWriter`, and nothing is deferred to the end of the turn.
    """

    __slots__ = ("_pieces", "_pipeline", "_turn", "_waiting", "is_direct", "is_paused", "transport")

    def __init__(self, turn: TurnScheduler) -> None:
        self.transport: asyncio.Transport
        self.is_direct = False
        """True while the event loop does not have the socket; then `transport` is an `InlineWriter`."""
        self.is_paused = False
        """The transport holds more than its high-water mark (`asyncio.Protocol.pause_writing`)."""
        self._turn = turn
        self._waiting = b""
        """The first deferred bytes, which are written at the end of this turn of the loop."""
        self._pieces: PieceBatch | None = None
        """The deferred bytes after `_waiting`; made when a response comes in pieces."""
        self._pipeline: PipelineBatch | None = None
        """Made for the first response to a pipelined request."""

    def write(self, data: bytes) -> None:
        """Write a piece of a response, at the end of this turn or sooner."""
        if self._pipeline is not None:
            self._pipeline.release()
        if self.is_direct or self.is_paused or len(data) >= APART_BYTES:
            self._write_behind(data)
        else:
            self._put_off(data, self._turn.now_ns(), is_complete=False)

    def write_large(self, pieces: list[bytes]) -> None:
        """Write a large piece of a response now, given as a list of bytes that follow one another."""
        if self._pipeline is not None:
            self._pipeline.release()
        if self.is_direct or not self._turn.has_safe_writelines:
            self.write_waiting()
            for piece in pieces:
                self.transport.write(piece)
        else:
            for piece in pieces:
                if self._waiting:
                    self._add_piece(piece)
                else:
                    self._waiting = piece
            self.write_waiting()

    def write_end(self, data: bytes, now_ns: int, *, closes: bool, is_pipelined: bool) -> None:
        """Write the end of a response.

        `now_ns`: the present time of `TurnScheduler.now_ns`. `closes`: nothing follows, and the caller closes the
        transport next. `is_pipelined`: the next request was already received.
        """
        pipeline = self._pipeline
        if is_pipelined and not closes and not self._turn.writes_at_once:
            if pipeline is None:
                pipeline = self._pipeline = PipelineBatch(self._turn, self._write_gathered)
            pipeline.add(data)
            return
        if pipeline is not None:
            data = pipeline.take() + data
        if self.is_direct:
            if closes:
                cast("InlineWriter", self.transport).write_last(data)
            else:
                self.transport.write(data)
        elif closes or self.is_paused or len(data) > TURN_MOST_BYTES:
            self._write_behind(data)
        else:
            self._put_off(data, now_ns, is_complete=True)

    def write_waiting(self) -> bool:
        """Write the bytes that were deferred to the end of the turn; return whether there were any."""
        data = self._waiting
        if not data:
            return False
        self._waiting = b""
        pieces = self._pieces
        transport = self.transport
        if transport.is_closing():
            self._pieces = None
        elif pieces is None:
            transport.write(data)
        else:
            together = pieces.take(data)
            if len(together) == 1:
                transport.write(together[0])
            elif self._turn.has_safe_writelines:
                transport.writelines(together)
            else:
                transport.write(b"".join(together))
            pieces.note_written(transport.get_write_buffer_size())
        return True

    def release_pipeline(self) -> None:
        """Write the responses to pipelined requests that were deferred."""
        if self._pipeline is not None:
            self._pipeline.release()

    def flush(self) -> None:
        """Write all deferred bytes."""
        self.write_waiting()
        if self._pipeline is not None:
            self._pipeline.release()

    def drop(self) -> None:
        """Forget all deferred bytes: the connection is lost."""
        self._waiting = b""
        self._pieces = None
        if self._pipeline is not None:
            self._pipeline.take()
            self._pipeline = None

    def _put_off(self, data: bytes, now_ns: int, *, is_complete: bool) -> None:
        """Write `data` at the end of this turn, or now if `TurnScheduler` does not defer it."""
        turn = self._turn
        if not self._waiting:
            self._waiting = data
            turn.enlist(self, now_ns, is_complete=is_complete)
        elif self._add_piece(data) or (is_complete and turn.writes_complete_at_once):
            self.write_waiting()
        else:
            turn.hurry(now_ns)

    def _write_behind(self, data: bytes) -> None:
        """Write `data` now, after the deferred bytes."""
        if self._waiting and self._turn.has_safe_writelines:
            self._add_piece(data)
            self.write_waiting()
        else:
            self.write_waiting()
            self.transport.write(data)

    def _add_piece(self, data: bytes) -> bool:
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = PieceBatch()
        return pieces.add(data)

    def _write_gathered(self, data: bytes) -> None:
        self.write_waiting()
        if not self.transport.is_closing():
            self.transport.write(data)
