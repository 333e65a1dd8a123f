"""What a client notes of each exchange, and the table of the kinds of client. Pure."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How one exchange, message or event ended, as a client that never tries again sees it."""

    ANSWERED = "answered"
    LOST = "lost"
    """A request, or a message, had no answer or a broken one: nothing at all, a status that is not 200, or
    none within `ANSWER_TIMEOUT`."""
    CUT = "cut"
    """The connection ended in the middle of an answer; a WebSocket without a close frame (1006)."""
    CLOSED = "closed"
    """The server ended a connection that waited for nothing, or announced that it would: a `Connection:
    close`, a close frame, the proper end of a stream of events. The client has to come back."""
    REFUSED = "refused"
    """No connection was to be had."""
    ABSENT = "absent"
    """The server does not offer what the kind is about."""


CROSSED = "crossed by a close"
"""Detail of a WebSocket message that was answered by a close frame: the client cannot know whether it was heard."""
WHILE_IDLE = "while idle"
"""Detail of the end of a connection that nobody had announced."""
MOVED = "moved"
"""Detail of an answer that came from another process than the one before it on the same connection."""


class Failed(Exception):  # noqa: N818 - an answer that is none
    """An exchange that has no good answer."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


BROKEN = (Outcome.LOST, Outcome.CUT, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class Record:
    """One exchange. Times are seconds of the monotonic clock, which all processes of the machine share."""

    kind: str
    outcome: Outcome
    asked: float
    """When the request, or the whole stream, was begun: what decides whether an old version is stale."""
    start: float
    """When the answer became due; in an open loop, when the request should have left."""
    end: float
    expected: float = 0.0
    """Seconds that the application itself takes."""
    version: int | None = None
    worker: int | None = None
    """Process that answered; of what has no answer, the last one known on the same connection."""
    detail: str = ""
    """Close code, status or error."""
    number: int | None = None
    """Of a numbered event."""
    series: str = ""
    """What its numbers go up in by one: the client's whole run, or one stream of it."""

    @property
    def late(self) -> float:
        """Seconds that the answer took beyond the application's own time."""
        return max(0.0, self.end - self.start - self.expected)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of client."""

    name: str
    title: str
    clients: int
    does: str
    """What one client does, for the documentation."""
    only: str | None = None
    """The one server that is asked for it."""


KINDS: tuple[Kind, ...] = (
    Kind("new", "new connections", 4, "15 requests a second on a fixed schedule, each on a new connection"),
    Kind("busy", "busy keep-alive", 3, "one request after the other on one connection, 25 ms each"),
    Kind("idle", "mostly idle keep-alive", 40, "one request every 1 to 5 s on one connection"),
    Kind("pipelined", "pipelined", 2, "four requests in one write, five times a second on a fixed schedule"),
    Kind("slow", "slow handlers", 4, "requests that take the application 0.5 s, one after the other"),
    Kind("heads", "half-sent heads", 4, "a new connection; the request's head in three parts over 1 s"),
    Kind("upload", "uploads", 2, "1 MB in 16 parts over 0.8 s, one after the other"),
    Kind("download", "downloads", 2, "20 chunks of 8 KB over 0.8 s, one after the other"),
    Kind(
        "events", "server-sent events", 6,
        "an endless stream, one event every 200 ms, which the application ends when its worker drains; the client "
        "reconnects",
    ),
    Kind(
        "with_ids", "events with ids", 4,
        "the same, with an application that ignores the drain; each event has an id, and the stream continues "
        "after Last-Event-ID",
    ),
    Kind("without_ids", "events without ids", 4, "the same without ids; each stream starts from the beginning"),
    Kind(
        "completion", "streamed completions", 4,
        "a POST on a new connection, answered by 40 events in 1.2 s and `data: [DONE]`, as an LLM's API does; one "
        "after the other",
    ),
    Kind("websocket", "WebSockets", 6, "one message every 200 ms, each echoed; the client reconnects when closed"),
    Kind(
        "moving", "WebSockets that move", 6, "the same, of an application that opts in to handover",
        only="asgireload",
    ),
)  # fmt: skip

EVENT_STREAMS = ("events", "with_ids", "without_ids", "completion")
"""Kinds that read server-sent events."""
COMPLETION = "completion"
"""The one of them whose streams end by themselves."""

STEADY = Kind("steady", "steady", 32, "requests on a fixed schedule over 32 keep-alive connections")
"""Not part of the mixed load: what the quiet minute is measured with."""


def kinds_for(server: str) -> list[Kind]:
    """Return the kinds that a server is asked for."""
    return [kind for kind in KINDS if kind.only in (None, server)]


def dump(records: Iterable[Record]) -> Iterator[str]:
    """Yield one line of JSON for each record."""
    for r in records:
        row = [r.kind, r.outcome.value, r.asked, r.start, r.end, r.expected, r.version, r.worker]
        yield json.dumps([*row, r.detail, r.number, r.series]) + "\n"


def parse(lines: Iterable[str]) -> list[Record]:
    """Read what dump() wrote. Raise ValueError for anything else."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            kind, outcome, *rest = json.loads(line)
            found.append(Record(kind, Outcome(outcome), *rest))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} is no record: {error}") from error
    return found
