"""The scoreboard: one shared-memory segment with a fixed record per worker.

A worker writes its own record with plain stores and without system calls. Other processes only read it, except that
the supervisor clears a record before and after its use. Every field is an aligned unsigned 64-bit integer, so a
reader never sees half of a store. Counts of every request are collected in the process first, because a store into
shared memory costs ten times an addition. They are published at most every PUBLISH_INTERVAL_NS, and with each
heartbeat. The segment is a memfd, so no file is left when the processes are gone (memfd_create(2)).

Records belong to workers, not to slots: during a reload a slot has two workers side by side. When a worker has
exited, the supervisor adds its counters to sums that it keeps, so totals never decrease.
"""

import mmap
import os
from bisect import bisect_left
from enum import IntEnum
from itertools import compress
from typing import Final


class Field(IntEnum):
    """Index of a value in a record. Values whose names end in `_TOTAL` only grow."""

    HEARTBEAT = 0
    """time.monotonic_ns() of the worker's last heartbeat; 0 before the worker is ready."""
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
    """Exceptions that the application raised to the server."""
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
    """Connections that continue in another worker after this one drained. The gap before is room for limits."""
    TAKEN_OVER_TOTAL = 57
    """Connections that came from a draining worker; they are not in CONNECTIONS_TOTAL."""
    ACCEPTING = 58
    """1 while the worker accepts new connections and has no successor in its slot."""


class Limit(IntEnum):
    """A bound that a peer can reach. Each bound has an option, an answer and a counter."""

    REQUEST_LINE = 0
    """414: the request line is too long."""
    HEAD = 1
    """431: the header lines are too many or too large."""
    BODY = 2
    """413: the body is too large."""
    HEAD_TIMEOUT = 3
    """408, or a close without a response if nothing was received: the head did not arrive in time."""
    BODY_TIMEOUT = 4
    """408: the client stopped sending in the middle of a body."""
    KEEP_ALIVE_TIMEOUT = 5
    """A connection was closed after it had waited too long for another request."""
    WRITE_TIMEOUT = 6
    """A connection was dropped because its client did not read."""
    HANDSHAKE_TIMEOUT = 7
    """A connection was dropped before its TLS handshake or its PROXY header was complete."""
    HANDSHAKE_FAILED = 8
    """A TLS handshake failed, or a PROXY header was malformed or came from an untrusted peer."""
    CONNECTIONS = 9
    """An idle connection was closed, or accepting was paused, because there were too many."""
    CONCURRENCY = 10
    """503: too many requests in flight."""
    REQUEST_TIMEOUT = 11
    """504: the application took too long and was cancelled."""
    HOST = 12
    """400: the Host header names none of the served hosts."""
    WS_SIZE = 13
    """1009: a WebSocket frame or message was too large."""
    WS_FRAGMENTS = 14
    """1008: a WebSocket message arrived in too many fragments."""
    WS_INFLATION = 15
    """1009: a compressed WebSocket message would become too large, or its compression ratio is too high."""
    WS_PING_TIMEOUT = 16
    """A WebSocket was closed because its client did not answer a ping."""
    WS_CLOSE_TIMEOUT = 17
    """A WebSocket was dropped because its client did not answer a close frame."""


LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency buckets in seconds; one more bucket counts slower responses."""

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
"""Eight cache lines, so two workers never write to the same line."""
CAPACITY: Final = 2048
"""Records in a segment: the most workers, draining ones included, that can live at once. Beside 512 workers, twice
as many may drain for reloads, half as many because they were recycled, and 64 may boot."""
_STRIDE: Final = RECORD_BYTES // 8
_BLOCK: Final = 128
"""Records that are read together."""

PUBLISH_INTERVAL_NS: Final = 20_000_000
"""The most that published counts lag behind under load; those of an idle worker lag up to a heartbeat."""

assert Field.LATENCY_BUCKET_0 + len(LATENCY_BOUNDS) + 1 == Field.LIMIT_0
assert Field.LIMIT_0 + len(Limit) <= Field.HANDED_OVER_TOTAL
assert FIELD_COUNT * 8 <= RECORD_BYTES


class Record:
    """One worker's record. Rare events are counted by `record.values[Field.PEER_ERRORS_TOTAL] += 1`, events of
    every request by `record.requests += 1`, which is in `values` after the next `publish()`.

    A record wraps any mutable sequence of FIELD_COUNT integers. `Record.detached()` has a list of its own, for a
    server without a scoreboard and for tests.
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
        """Exchanges begun since the last publication, minus exchanges that ended."""
        self.requests = 0
        self._quick = 0
        """Responses with a 2xx status in the fastest bucket."""
        self._latency_ns = 0

    @property
    def values(self) -> "memoryview[int] | list[int]":
        """Every count, published first."""
        self.publish()
        return self._values

    def publish(self) -> None:
        """Write the collected counts to the shared record."""
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
        """Publish when PUBLISH_INTERVAL_NS has passed. `now_ns` is a recent value of `time.monotonic_ns()`."""
        if now_ns >= self._publish_at:
            self._publish_at = now_ns + PUBLISH_INTERVAL_NS
            self.publish()

    def count_connection(self, *, is_new: bool) -> None:
        """Count a connection, from a client or another worker, at once: siblings compare these counts."""
        values = self._values
        values[_CONNECTIONS] += 1
        values[_CONNECTIONS_TOTAL if is_new else _TAKEN_OVER_TOTAL] += 1

    def uncount_connection(self) -> None:
        self._values[_CONNECTIONS] -= 1

    @classmethod
    def detached(cls) -> "Record":
        return cls([0] * FIELD_COUNT)

    def detach(self) -> None:
        """Count in private memory from now on: this process was forked from the owner of the record."""
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
    """The whole segment. The supervisor creates it; other processes open its descriptor.

    `close()` closes the descriptor; the memory stays mapped until the last record is released.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._view = memoryview(mmap.mmap(descriptor, CAPACITY * RECORD_BYTES)).cast("Q")

    @classmethod
    def create(cls) -> "Scoreboard":
        """Create the segment. Raise OSError when shared memory cannot be allocated."""
        descriptor = os.memfd_create("asgireload-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, CAPACITY * RECORD_BYTES)
        return cls(descriptor)

    def record(self, index: int) -> Record:
        start = index * _STRIDE
        return Record(self._view[start : start + FIELD_COUNT])

    def accepting_below(self) -> int:
        """Return an index above those of all workers that accept new connections now.

        Freed records are used again before unused ones, so no worker follows a block that no worker has used, and
        the pages after such a block are not touched. A block in which all workers drain may be followed by one
        with workers that accept.
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
        """Return the smallest connection count of the workers that accept new connections.

        The record at index `besides` and those from `below` on are not considered. Return None when there is
        no other such worker.
        """
        end = below * _STRIDE
        connections = self._view[Field.CONNECTIONS : end : _STRIDE].tolist()
        accepting = self._view[Field.ACCEPTING : end : _STRIDE].tolist()
        if besides < below:
            accepting[besides] = 0
        return min(compress(connections, accepting), default=None)

    def close(self) -> None:
        os.close(self.descriptor)
