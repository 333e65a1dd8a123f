"""So many connections that some have to give way, and which ones: strangers never keep a probe from its answer.

An admin port can be reached by whoever can reach a probe. A connection whose client has shown no right to more
than the probes (no token yet, or none at all) may be closed for a new one: of those of the address that has most of
them, the one that came first. So the connections of one address give way to one another, and a probe, which asks at
once, is answered long before its turn comes. A connection whose client has the right and waits for an answer stays;
`api` bounds how many may wait for a verdict.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from typing import cast

import msgspec

from asgireload.http1.connection import HttpConnection, http_protocol
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.linux import count_descriptors, file_limit

MAX_CONNECTIONS = 256
"""Far more than scrapers and operators need, far fewer than the supervisor has descriptors."""
LEFT_DESCRIPTORS = 24
"""Descriptors that connections leave to the supervisor: for a template, and workers that follow others."""
COUNT_EVERY = 8
"""Connections that are made for each look at the open descriptors; fewer than LEFT_DESCRIPTORS."""
FEWEST_CONNECTIONS = 4
"""What operators and probes have also where descriptors are short."""
MAX_WAITS = MAX_CONNECTIONS // 2
"""Exchanges that may wait for a verdict, so that there are always connections that can give way."""

Client = tuple[str, int]


class Guest(msgspec.Struct, frozen=True):
    """A connection as it is judged."""

    arrival: int
    """Its place in the order of arrival."""
    host: str
    is_trusted: bool
    """Its client has asked for something that not everybody may ask for, and was let in."""
    is_busy: bool
    """A request is being answered."""


def to_give_way(guests: Collection[Guest], most: int) -> list[Guest]:
    """Return which of these connections are closed so that at most `most` are left, as far as they can be. Pure."""
    found: list[Guest] = []
    strangers = sorted(
        (guest for guest in guests if not guest.is_trusted), key=lambda guest: guest.arrival
    )
    counts = Counter(guest.host for guest in strangers)
    while strangers and len(guests) - len(found) > most:
        crowded = max(counts, key=counts.__getitem__)
        found.append(next(guest for guest in strangers if guest.host == crowded))
        strangers.remove(found[-1])
        counts[crowded] -= 1
    if len(guests) - len(found) > most:
        idle = [guest for guest in guests if guest.is_trusted and not guest.is_busy]
        idle.sort(key=lambda guest: guest.arrival)
        found += idle[: len(guests) - len(found) - most]
    return found


def most_connections(limit: int, open_descriptors: int, present: int) -> int:
    """Return how many connections there may be, `present` included, where `limit` descriptors may be open. Pure.

    `open_descriptors` is 0 where nobody can tell: looking takes a descriptor, too.
    """
    room = limit // 4
    if open_descriptors:
        room = limit - (open_descriptors - present) - LEFT_DESCRIPTORS
    return max(FEWEST_CONNECTIONS, min(MAX_CONNECTIONS, room))


class Crowd:
    """The connections of one listener. `admit` makes each; `trust` is told of those who were let in."""

    def __init__(self, wire: Http1Wire, *, is_trusted: bool) -> None:
        """`is_trusted`: whoever can connect has every right, as on a Unix socket."""
        self._wire = wire
        self._is_trusted = is_trusted
        self._last_arrival = 0
        self._most = MAX_CONNECTIONS
        self._arrivals: dict[HttpConnection, int] = {}
        self._trusted: set[HttpConnection] = set()
        self._leaving: set[HttpConnection] = set()
        """Told to close; the loop says later that they have."""

    def admit(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, and have others give way to it if there are too many."""
        present = self._present()
        if len(self._arrivals) > 2 * MAX_CONNECTIONS:
            self._forget(present)
        self._leaving.intersection_update(present)
        # The one that is made now has its descriptor, and is not among them.
        staying = [connection for connection in present if connection not in self._leaving]
        if self._last_arrival % COUNT_EVERY == 0:
            self._most = most_connections(file_limit(), count_descriptors(), len(present))
        if len(staying) >= self._most:
            guests = {self._judge(connection): connection for connection in staying}
            for guest in to_give_way(guests.keys(), self._most - 1):
                self._leaving.add(guests[guest])
                guests[guest].abort()
        connection = http_protocol(self._wire)
        self._last_arrival += 1
        self._arrivals[cast("HttpConnection", connection)] = self._last_arrival
        return connection

    def trust(self, client: Client | None) -> None:
        """The client of an open connection, as its scope names it, was let in."""
        if client is not None:
            present = self._present()
            self._trusted.intersection_update(present)
            self._trusted.update(each for each in present if each.endpoints.client == client)

    def _present(self) -> set[HttpConnection]:
        return cast("set[HttpConnection]", self._wire.server.live.connections)

    def _judge(self, connection: HttpConnection) -> Guest:
        client = connection.endpoints.client
        return Guest(
            self._arrivals[connection],
            client[0] if client is not None else "",
            is_trusted=self._is_trusted or connection in self._trusted,
            is_busy=connection.idle_since is None,
        )

    def _forget(self, present: Iterable[HttpConnection]) -> None:
        """Forget who has left. The latest may not have begun yet."""
        newest = self._last_arrival - MAX_CONNECTIONS
        known = set(present)
        self._arrivals = {
            connection: arrival
            for connection, arrival in self._arrivals.items()
            if connection in known or arrival > newest
        }
