"""The scoreboard: one shared-memory segment with a fixed record per worker.

A worker writes its own record, with plain stores and no system call; the supervisor only reads.
Every field is an unsigned 64-bit integer, so a store is a single aligned write and a reader never
sees half of one. What is counted for every request is gathered first, because a store into shared memory
costs ten times an addition, and published every PUBLISH_INTERVAL_NS at most, and with each heartbeat.
The segment is a memfd, so nothing is left in a file system when the processes are gone (memfd_create(2)).

Records belong to workers, not slots: during a reload two workers of one slot live side by side. When
a worker has exited the supervisor adds its counters to a base that it keeps, so totals never go back.
"""

import mmap
import os
from bisect import bisect_left
from enum import IntEnum
from itertools import compress
from typing import Final


class Field(IntEnum):
    """Index of a value in a record. Names ending in `_TOTAL` only grow."""

    HEARTBEAT = 0
    """time.monotonic_ns() of the last turn of the worker's heartbeat; 0 before it is ready."""
    CONNECTIONS = 1
    """Open connections, WebSockets included."""
    WEBSOCKETS = 2
    """Open WebSocket connections."""
    EXCHANGES = 3
    """HTTP exchanges in flight."""
    CONNECTIONS_TOTAL = 4
    WEBSOCKETS_TOTAL = 5
    REQUESTS_TOTAL = 6
    """HTTP requests whose head was read and handed to the application."""
    RESPONSES_1XX_TOTAL = 7
    RESPONSES_2XX_TOTAL = 8
    RESPONSES_3XX_TOTAL = 9
    RESPONSES_4XX_TOTAL = 10
    RESPONSES_5XX_TOTAL = 11
    BYTES_RECEIVED_TOTAL = 12
    BYTES_SENT_TOTAL = 13
    APP_ERRORS_TOTAL = 14
    """Exceptions that left the application."""
    PEER_ERRORS_TOTAL = 15
    """Connections ended because of malformed bytes."""
    CUT_TOTAL = 16
    """Exchanges cancelled at a drain deadline."""
    LATENCY_NS_TOTAL = 17
    """Sum of the time from a request's head to the end of its response."""
    LATENCY_BUCKET_0 = 18
    """First of len(LATENCY_BOUNDS) + 1 non-cumulative buckets."""
    LIMIT_0 = 32
    """First of len(Limit) counters, in the order of `Limit`."""
    HANDED_OVER_TOTAL = 56
    """Connections that went on in another worker when this one drained. Behind room for more limits."""
    TAKEN_OVER_TOTAL = 57
    """Connections that came from a draining worker; they are not in CONNECTIONS_TOTAL."""
    ACCEPTING = 58
    """1 while the worker takes its share of new connections: nobody serves in its place."""


class Limit(IntEnum):
    """A bound that a peer can run into. Each has an option, an answer and a counter."""

    REQUEST_LINE = 0
    """414: the request line is too long."""
    HEAD = 1
    """431: the header lines are too many or too large."""
    BODY = 2
    """413: the body is too large."""
    HEAD_TIMEOUT = 3
    """408, or a plain close where nothing was received: the head did not arrive in time."""
    BODY_TIMEOUT = 4
    """408: the client stopped in the middle of its body."""
    KEEP_ALIVE_TIMEOUT = 5
    """A connection was closed after it had waited for another request."""
    WRITE_TIMEOUT = 6
    """A connection was dropped because its client did not read."""
    HANDSHAKE_TIMEOUT = 7
    """A connection was dropped before its TLS handshake or its PROXY header was complete."""
    HANDSHAKE_FAILED = 8
    """A TLS handshake failed, or a PROXY header was malformed or came from a peer without trust."""
    CONNECTIONS = 9
    """An idle connection was closed, or accepting paused, because there were too many."""
    CONCURRENCY = 10
    """503: too many requests in flight."""
    REQUEST_TIMEOUT = 11
    """504: the application took too long and was cancelled."""
    HOST = 12
    """400: the Host header names none of the hosts that are served."""
    WS_SIZE = 13
    """1009: a WebSocket frame or message was too large."""
    WS_FRAGMENTS = 14
    """1008: a WebSocket message came in too many fragments."""
    WS_INFLATION = 15
    """1009: a compressed WebSocket message would become too large, or grows beyond all proportion."""
    WS_PING_TIMEOUT = 16
    """A WebSocket was closed because its client did not answer a ping."""
    WS_CLOSE_TIMEOUT = 17
    """A WebSocket was dropped because its client did not answer a close."""


LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency buckets in seconds; one more bucket holds what is slower."""

_BOUNDS_NS = tuple(int(bound * 1e9) for bound in LATENCY_BOUNDS)
_QUICK_NS: Final = _BOUNDS_NS[0]
_CONNECTIONS: Final = int(Field.CONNECTIONS)
_CONNECTIONS_TOTAL: Final = int(Field.CONNECTIONS_TOTAL)
_TAKEN_OVER_TOTAL: Final = int(Field.TAKEN_OVER_TOTAL)
_EXCHANGES: Final = int(Field.EXCHANGES)
_REQUESTS_TOTAL: Final = int(Field.REQUESTS_TOTAL)
_RESPONSES_2XX_TOTAL: Final = int(Field.RESPONSES_2XX_TOTAL)
_BYTES_RECEIVED_TOTAL: Final = int(Field.BYTES_RECEIVED_TOTAL)
_BYTES_SENT_TOTAL: Final = int(Field.BYTES_SENT_TOTAL)
_LATENCY_NS_TOTAL: Final = int(Field.LATENCY_NS_TOTAL)
_LATENCY_BUCKET_0: Final = int(Field.LATENCY_BUCKET_0)
FIELD_COUNT: Final = Field.ACCEPTING + 1
RECORD_BYTES: Final = 512
"""Eight cache lines: two workers never write to one line."""
CAPACITY: Final = 2048
"""Records in a segment: the most workers, those that drain included, that can live at once. With 512 workers twice
as many may drain for reloads, half as many because they were recycled, and 64 boot."""
_STRIDE: Final = RECORD_BYTES // 8
_BLOCK: Final = 128
"""Records that are looked at together."""

PUBLISH_INTERVAL_NS: Final = 20_000_000
"""Under load the counts of a worker are so much behind, those of an idle worker up to a heartbeat."""

assert Field.LATENCY_BUCKET_0 + len(LATENCY_BOUNDS) + 1 == Field.LIMIT_0
assert Field.LIMIT_0 + len(Limit) <= Field.HANDED_OVER_TOTAL
assert FIELD_COUNT * 8 <= RECORD_BYTES


class Record:
    """One worker's record: `record.values[Field.PEER_ERRORS_TOTAL] += 1`, or, for what happens in every
    request, `record.requests += 1`, which `values` has once it is published.

    It may be over any mutable sequence of FIELD_COUNT integers; `Record.detached()` makes one of its
    own, for a server without a scoreboard and for tests.
    """

    __slots__ = (
        "_latency_ns",
        "_publish_at",
        "_quick",
        "_values",
        "bytes_received",
        "bytes_sent",
        "exchanges",
        "requests",
    )

    def __init__(self, values: "memoryview[int] | list[int]") -> None:
        self._values = values
        self._publish_at = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.exchanges = 0
        """Begun since the last publication, less those that ended."""
        self.requests = 0
        self._quick = 0
        """Responses 2xx in the fastest bucket."""
        self._latency_ns = 0

    @property
    def values(self) -> "memoryview[int] | list[int]":
        """Every count as it is now."""
        self.publish()
        return self._values

    def publish(self) -> None:
        """Write what was gathered where the supervisor sees it."""
        values = self._values
        if self.bytes_received:
            values[_BYTES_RECEIVED_TOTAL] += self.bytes_received
            self.bytes_received = 0
        if self.bytes_sent:
            values[_BYTES_SENT_TOTAL] += self.bytes_sent
            self.bytes_sent = 0
        if self.exchanges:
            values[_EXCHANGES] += self.exchanges
            self.exchanges = 0
        if self.requests:
            values[_REQUESTS_TOTAL] += self.requests
            self.requests = 0
        if self._quick:
            values[_RESPONSES_2XX_TOTAL] += self._quick
            values[_LATENCY_BUCKET_0] += self._quick
            values[_LATENCY_NS_TOTAL] += self._latency_ns
            self._quick = self._latency_ns = 0

    def note_time(self, now_ns: int) -> None:
        """Publish when it is time. `now_ns`: a `time.monotonic_ns()` that the caller has taken already."""
        if now_ns >= self._publish_at:
            self._publish_at = now_ns + PUBLISH_INTERVAL_NS
            self.publish()

    def count_connection(self, *, is_new: bool) -> None:
        """One more connection, from a client or from another worker. Siblings compare these: written at once."""
        values = self._values
        values[_CONNECTIONS] += 1
        values[_CONNECTIONS_TOTAL if is_new else _TAKEN_OVER_TOTAL] += 1

    def uncount_connection(self) -> None:
        self._values[_CONNECTIONS] -= 1

    @classmethod
    def detached(cls) -> "Record":
        return cls([0] * FIELD_COUNT)

    def detach(self) -> None:
        """Count for this process alone from now on, which was forked from the one that the record belongs to."""
        self._values = list(self._values)

    def observe_response(self, status: int, duration_ns: int) -> None:
        """Count a finished response with its status (100–599) and duration."""
        if 200 <= status <= 299 and duration_ns <= _QUICK_NS:
            self._quick += 1
            self._latency_ns += duration_ns
            return
        values = self._values
        values[6 + status // 100] += 1
        values[17] += duration_ns
        values[18 + bisect_left(_BOUNDS_NS, duration_ns)] += 1

    def count_limit(self, limit: Limit) -> None:
        self._values[Field.LIMIT_0 + limit] += 1

    def snapshot(self) -> tuple[int, ...]:
        return tuple(self.values[:FIELD_COUNT])

    def clear(self) -> None:
        values = self.values
        for index in range(FIELD_COUNT):
            values[index] = 0


class Scoreboard:
    """The whole segment. The supervisor creates it, other processes open its descriptor.

    `close()` closes the descriptor; the mapping goes with the last record that is still held.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._view = memoryview(mmap.mmap(descriptor, CAPACITY * RECORD_BYTES)).cast("Q")

    @classmethod
    def create(cls) -> "Scoreboard":
        """Raise OSError when shared memory cannot be had."""
        descriptor = os.memfd_create("asgireload-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, CAPACITY * RECORD_BYTES)
        return cls(descriptor)

    def record(self, index: int) -> Record:
        start = index * _STRIDE
        return Record(self._view[start : start + FIELD_COUNT])

    def accepting_below(self) -> int:
        """Return an index below which are the records of those that take new connections now.

        Records are given out again before one is used for the first time, so behind a whole block that no
        worker has used there is none either. The pages behind are not touched. All workers of a block may
        drain while those that follow them, in the next block, accept.
        """
        below = 0
        for start in range(0, CAPACITY, _BLOCK):
            end = (start + _BLOCK) * _STRIDE
            accepting = self._view[start * _STRIDE + Field.ACCEPTING : end : _STRIDE].tolist()
            if not any(accepting):
                beats = self._view[start * _STRIDE + Field.HEARTBEAT : end : _STRIDE].tolist()
                if any(beats):
                    continue
                break
            below = start + max(index + 1 for index, takes in enumerate(accepting) if takes)
        return below

    def fewest_connections(self, *, besides: int, below: int = CAPACITY) -> int | None:
        """Return how many connections that worker has which has fewest of those that take new ones.

        The one whose record is at index `besides` does not count, nor those from `below` on. None: there is
        no other.
        """
        end = below * _STRIDE
        connections = self._view[Field.CONNECTIONS : end : _STRIDE].tolist()
        accepting = self._view[Field.ACCEPTING : end : _STRIDE].tolist()
        if besides < below:
            accepting[besides] = 0
        return min(compress(connections, accepting), default=None)

    def close(self) -> None:
        os.close(self.descriptor)
