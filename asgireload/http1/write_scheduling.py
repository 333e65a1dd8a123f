"""When the bytes of responses are written: the one policy of an HTTP/1 connection, and of all of them in one turn.

A system call for each piece of a response, and waking its reader, cost more than the bytes. A write that waits, on
the other hand, waits for whatever application code runs before it. Three things may wait, each for as short as it
pays:

    piece of a response ──▶ PieceBatch ──┐
                                         ├──▶ TurnScheduler ──end of the turn──▶ transport
    end of a response ───────────────────┘
    end of a response, more requests of this client at hand ──▶ PipelineBatch ──▶ transport

- **Pieces** of one response that an application sends without a wait between them are one write.
- **Pipelined** responses (RFC 9112 section 9.3.2), to requests that a client has sent in one go, are one write.
- **Turn**: when one turn of the event loop answers several clients, their responses leave at its end, one
  connection behind the other. A write wakes a proxy or a client on the same machine, and waking it once for all
  costs a tenth less CPU for each response.

What waits for the end of the turn also waits for work behind the last `send`, and for the applications of other
clients. So the turn is used only where that was seen to be harmless:

- A complete response waits only while turns answer several clients at once. A single one is written at once.
- The first responses of a worker are written at once, and so are those that follow one that has waited for code
  that computes or blocks. Each time this happens the number of those that follow doubles, and it halves when as
  many have passed without.

`ConnectionWriter` applies all of this for one connection, and keeps the order of the bytes.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from asgireload.http.response_stream import APART_BYTES

TURN_LONGEST_NS: Final = 1_000_000
"""Nanoseconds after which the first response waits for no more than the application that runs."""
BLOCKED_NS: Final = 4_000_000
"""Nanoseconds; a response behind which the turn took so long was, or would have been, kept by an application."""
AT_ONCE_LEAST: Final = 1000
"""Responses that are written at once at first, and after a block."""
AT_ONCE_MOST: Final = 1 << 17
CROWD: Final = 4
"""Responses in one turn from which on it pays to write them together."""
SAMPLE: Final = 32
"""While responses are alone, the turn of one in so many is watched for others."""
FEW_TURNS: Final = 8
"""Turns with fewer than CROWD responses, one after the other, after which responses are alone again."""
TURN_MOST_BYTES: Final = 16 * 1024
"""Ends of responses that are larger are written at once: beside so many bytes, waking a reader costs little."""


class InlineWriter(Protocol):
    """The transport of a connection whose socket the event loop does not have."""

    def write_last(self, data: bytes) -> None:
        """Write what is the end: `close` or `write_eof` is called at once."""


class Sender(Protocol):
    def write_waiting(self) -> bool:
        """Write what there is to write; return whether there was something."""


class TurnScheduler:
    """Calls connections that have something to write, at once or at the end of the turn. One for each loop."""

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
        """The clock of what is measured, and of `enlist`."""
        self.has_safe_writelines = not isinstance(loop, asyncio.SelectorEventLoop)
        """Whether `writelines` of a transport can be trusted. That of asyncio slows nobody down before
        Python 3.12.9 and 3.13.2 (CVE-2024-12254), fails later on where the client has left (cpython#136234),
        and may wait for ever for an empty piece (cpython#155888)."""
        self._at_once = at_once
        """So many responses yet do not wait."""
        self._at_once_next = AT_ONCE_LEAST
        """As many after the next block."""
        self._calm_left = AT_ONCE_LEAST
        """Responses without a block after which it will be half as many."""
        self._is_crowded = is_crowded
        """Turns answer several clients."""
        self._few_turns = 0
        self._count = 0
        """Responses since the turn began that is counted, or since one was."""
        self._waiting: list[Sender] = []
        self._since_ns = 0
        self._is_due = False
        """The end of the turn is waited for."""
        self._is_part = False
        """Not all responses of that turn were counted."""
        self._counts_next = False
        """While responses are alone: those of the next turn are to be."""
        self._is_watching = False
        """`_since_ns` is of a response that was written at once."""

    @property
    def writes_at_once(self) -> bool:
        """Whether nothing waits at present, be it a part of a response."""
        return self._at_once > 0

    @property
    def writes_complete_at_once(self) -> bool:
        """Whether no complete response waits at present."""
        return self._at_once > 0 or not self._is_crowded

    def enlist(self, sender: Sender, now_ns: int, *, is_complete: bool) -> None:
        """Have `sender` called once: now, or at the end of this turn, or in between.

        `now_ns`: by the same clock. `is_complete`: what it writes ends a response.
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
        """Call everybody now where the first has waited for too long."""
        if self._waiting and now_ns - self._since_ns > TURN_LONGEST_NS:
            self._flush(now_ns)

    def note_block(self) -> None:
        """Something has waited for an application that computes or blocks: let others not."""
        self._at_once = self._calm_left = self._at_once_next
        self._at_once_next = min(self._at_once_next * 2, AT_ONCE_MOST)

    def _watch(self, now_ns: int) -> None:
        """See how long the turn goes on behind a response that was written at once."""
        self._since_ns = now_ns
        self._is_watching = True
        self._await_end()

    def _sample(self, now_ns: int) -> None:
        """Wait for the end of this turn, and count the whole of the one after it."""
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
"""Gathered at most; above that, a write by itself is cheap for what it carries."""
PIPELINE_LONGEST_NS: Final = 20_000_000
"""Nanoseconds after which nothing is added any more, so that what is complete waits for one application that
computes for long, and not for several. With many such clients a turn alone takes some milliseconds."""


class PipelineBatch:
    """Ends of responses to pipelined requests, in their order, on their way to `write`.

    The end of a response waits for the next one as long as responses come turn by turn. An application that has to
    wait delays what came before it by two turns of the loop at most. An application that computes or blocks delays
    it for longer; when that is seen, nothing is gathered for a while. Whoever writes anything else calls `release`
    first.
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
        """`turn` is told when an application has kept responses before its own for long."""
        self._turn = turn
        self._write = write
        self._data = b""
        self._since = 0
        """When the first of what is gathered came, by the clock."""
        self._last_at = 0
        self._is_watched = False

    def add(self, data: bytes) -> None:
        """Take the end of a response behind which another one is expected."""
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
        """Write what was gathered."""
        data = self.take()
        if data:
            self._write(data)

    def take(self) -> bytes:
        """Return what was gathered, for others to write, or nobody."""
        data, self._data = self._data, b""
        if data:
            self._look_for_block(self._turn.now_ns())
        return data

    def _look_for_block(self, now: int) -> None:
        if now - self._last_at > BLOCKED_NS:
            self._turn.note_block()

    def _watch(self, seen: int) -> None:
        """Once in each turn: release what has not grown since the turn before."""
        size = len(self._data)
        if size and size != seen:
            self._turn.loop.call_soon(self._watch, size)
        else:
            self._is_watched = False
            self.release()


PIECES_LEAST_BYTES: Final = 64 * 1024
"""Held for a client before they are written. As much as waits for the socket before an application is kept from
writing more."""
PIECES_MOST_BYTES: Final = 256 * 1024
"""The same for a client that is known to take so much at once."""
PIECES_MOST: Final = 256
"""Of any size; writev(2) takes 1024."""
JOINED_BYTES: Final = 16 * 1024
"""Up to so many are copied together, which costs less than a list of them."""


class PieceBatch:
    """Pieces of a response, for one connection. `take()` them when `add` says so, and at the end of the turn.

    They are handed on as they are, in one call, and copied together only where they are small.
    """

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = PIECES_LEAST_BYTES

    def add(self, data: bytes) -> bool:
        """Take the next piece. Return True when it is time to write."""
        self._pieces.append(data)
        self._size += len(data)
        return self._size >= self._limit or len(self._pieces) >= PIECES_MOST

    def take(self, first: bytes) -> list[bytes]:
        """Return what is to be written, `first` before all: one piece, or several that are large together."""
        pieces, self._pieces = self._pieces, []
        if not pieces:
            return [first]
        if len(first) + self._size <= JOINED_BYTES:
            return [first + b"".join(pieces)]
        pieces.insert(0, first)
        return pieces

    def note_written(self, left_bytes: int) -> None:
        """What was taken is written, and the socket had no room for `left_bytes` of it."""
        if left_bytes:
            self._limit = PIECES_LEAST_BYTES
        elif self._size >= self._limit:
            self._limit = min(self._limit * 2, PIECES_MOST_BYTES)
        self._size = 0


class ConnectionWriter:
    """Writes the responses of one connection to its transport, in their order, now or a little later.

    `transport` may be replaced by another one for the same socket (`is_direct` says that it is the first, which
    writes at once and has `write_last`). Everything passes through here that is written to it.
    """

    __slots__ = ("_pieces", "_pipeline", "_turn", "_waiting", "is_direct", "is_paused", "transport")

    def __init__(self, turn: TurnScheduler) -> None:
        self.transport: asyncio.Transport
        self.is_direct = False
        """The event loop does not have the socket: the transport is an `InlineWriter`."""
        self.is_paused = False
        """The transport holds more than its high-water mark (`asyncio.Protocol.pause_writing`)."""
        self._turn = turn
        self._waiting = b""
        """What is written at the end of this turn of the loop."""
        self._pieces: PieceBatch | None = None
        """What is written behind it; made when a response comes in pieces."""
        self._pipeline: PipelineBatch | None = None
        """Made when responses have other ones to wait for."""

    def write(self, data: bytes) -> None:
        """Write a piece of a response, at the end of this turn or sooner."""
        if self._pipeline is not None:
            self._pipeline.release()
        if self.is_direct or self.is_paused or len(data) >= APART_BYTES:
            self._write_behind(data)
        else:
            self._put_off(data, self._turn.now_ns(), is_complete=False)

    def write_large(self, pieces: list[bytes]) -> None:
        """Write a piece of a response that is large, in its parts, now."""
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

        `now_ns`: what the clock of the turn says. `closes`: nothing follows it, and the transport is closed at
        once. `is_pipelined`: the next request was received already.
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
        """Write what waits for the end of the turn; return whether there was something."""
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
        """Write the responses that wait for another one."""
        if self._pipeline is not None:
            self._pipeline.release()

    def flush(self) -> None:
        """Write everything that waits."""
        self.write_waiting()
        if self._pipeline is not None:
            self._pipeline.release()

    def drop(self) -> None:
        """Forget everything that waits: the connection is lost."""
        self._waiting = b""
        self._pieces = None
        if self._pipeline is not None:
            self._pipeline.take()
            self._pipeline = None

    def _put_off(self, data: bytes, now_ns: int, *, is_complete: bool) -> None:
        """Have it written at the end of this turn, or now if that is better."""
        turn = self._turn
        if not self._waiting:
            self._waiting = data
            turn.enlist(self, now_ns, is_complete=is_complete)
        elif self._add_piece(data) or (is_complete and turn.writes_complete_at_once):
            self.write_waiting()
        else:
            turn.hurry(now_ns)

    def _write_behind(self, data: bytes) -> None:
        """Write it now, behind what was put off."""
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
