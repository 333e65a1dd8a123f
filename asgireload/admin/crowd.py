"""The limit on connections of the admin server: which connections are closed for new ones.

A client that can reach the probes can open any number of connections to an admin port, and must not keep a probe
from its answer. When there are too many connections, an untrusted one, whose client has not yet made a request that
needs more rights than a probe, is closed for a new one: of the address with most untrusted connections, the oldest.
So connections of one address replace one another, and a probe, which sends its request at once, is answered before
its connection is the oldest. A trusted connection that waits for an answer is never closed; `api` bounds how many
requests may wait for a verdict.
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
"""Far more than scrapers and operators need, far fewer than the descriptors of the supervisor."""
LEFT_DESCRIPTORS = 24
"""Descriptors that are kept free for the supervisor, for a template and new workers."""
COUNT_EVERY = 8
"""New connections for each count of the open descriptors; fewer than LEFT_DESCRIPTORS."""
FEWEST_CONNECTIONS = 4
"""Connections that are allowed even when descriptors are short."""
MAX_WAITS = MAX_CONNECTIONS // 2
"""Exchanges that may wait for a verdict, so that there are always connections that can be closed."""

Client = tuple[str, int]


class Guest(msgspec.Struct, frozen=True):
    """A connection, for `to_give_way`."""

    arrival: int
    """Position in the order of arrival."""
    host: str
    is_trusted: bool
    """A request other than a probe has passed the access rules on this connection."""
    is_busy: bool
    """A request is being answered."""


def to_give_way(guests: Collection[Guest], most: int) -> list[Guest]:
    """Return the connections to close so that at most `most` are left. Trusted busy ones are never closed. Pure."""
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
    """Return how many connections are allowed, with the `present` ones, when `limit` descriptors may be open. Pure.

    `open_descriptors` is 0 when their number is unknown, since counting them takes a descriptor, too.
    """
    room = limit // 4
    if open_descriptors:
        room = limit - (open_descriptors - present) - LEFT_DESCRIPTORS
    return max(FEWEST_CONNECTIONS, min(MAX_CONNECTIONS, room))


class Crowd:
    """The connections of one listener. `admit` creates each one; `trust` marks those of an allowed client."""

    def __init__(self, wire: Http1Wire, *, is_trusted: bool) -> None:
        """`is_trusted`: every client that can connect has full rights, as on a Unix socket."""
        self._wire = wire
        self._is_trusted = is_trusted
        self._last_arrival = 0
        self._most = MAX_CONNECTIONS
        self._arrivals: dict[HttpConnection, int] = {}
        self._trusted: set[HttpConnection] = set()
        self._leaving: set[HttpConnection] = set()
        """Aborted connections whose connection_lost has not been called yet."""

    def admit(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, and abort others if there are too many."""
        present = self._present()
        if len(self._arrivals) > 2 * MAX_CONNECTIONS:
            self._forget(present)
        self._leaving.intersection_update(present)
        # The new connection has its descriptor already, and is not in `present`.
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
        """Mark the open connection of `client`, the address in its scope, as trusted."""
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
        """Forget connections that have ended. The newest are kept: they may not be in `present` yet."""
        newest = self._last_arrival - MAX_CONNECTIONS
        known = set(present)
        self._arrivals = {
            connection: arrival
            for connection, arrival in self._arrivals.items()
            if connection in known or arrival > newest
        }
