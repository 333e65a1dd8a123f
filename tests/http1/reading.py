"""Runs a request reader over pieces of bytes and says what it made of them, as plain values."""

from dataclasses import dataclass
from typing import Any

from asgireload.errors import PeerError
from asgireload.http.request import RequestHead, RequestLimits
from asgireload.http1.parsers import fields_parser
from asgireload.http1.reader import RequestReader
from tests.corpus.loading import ExpectedRequest


@dataclass(frozen=True)
class Reading:
    """What became of a stream; `ends` is one of `tests.corpus.loading.ENDS`."""

    ends: str
    status: int | None
    rest: bytes
    """Behind an upgrade."""
    requests: tuple[ExpectedRequest, ...]


class Requests:
    """Receives what a reader finds; pieces of one body are joined."""

    def __init__(self, *, takes_websockets: bool = True) -> None:
        self.heads: list[RequestHead] = []
        self.bodies: list[bytes] = []
        """Of the requests that are whole."""
        self.body = b""
        """Of the one that is not, yet."""
        self.is_upgraded = False
        self._takes_websockets = takes_websockets

    def on_head(self, head: RequestHead) -> bool:
        self.heads.append(head)
        self.is_upgraded = head.is_websocket and self._takes_websockets
        if self.is_upgraded:
            self.on_complete()
        return self.is_upgraded

    def on_body(self, data: bytes) -> None:
        assert data
        assert self.is_within_body
        self.body += data

    def on_complete(self) -> None:
        self.bodies.append(self.body)
        self.body = b""
        assert len(self.heads) == len(self.bodies)

    @property
    def is_within_body(self) -> bool:
        return len(self.heads) > len(self.bodies)

    def found(self) -> tuple[ExpectedRequest, ...]:
        bodies = [*self.bodies, self.body][: len(self.heads)]
        return tuple(
            ExpectedRequest(
                method=head.method,
                path=head.raw_path,
                query=head.query_string,
                version=head.http_version,
                headers=tuple(head.headers),
                body=body,
                keep_alive=head.keep_alive,
                expects_continue=head.expects_continue,
                whole=place < len(self.bodies),
            )
            for place, (head, body) in enumerate(zip(self.heads, bodies, strict=True))
        )


def read(parser: Any, pieces: list[bytes], limits: RequestLimits) -> Reading:
    """Return what a reader with that parser makes of the pieces, as they arrive one after another."""
    requests = Requests()
    reader = RequestReader(requests, fields_parser(parser), limits)
    rest = b""
    status = None
    try:
        for piece in pieces:
            rest += piece
            while rest and not requests.is_upgraded:
                rest = reader.feed(rest)
    except PeerError as error:
        status = error.status
    if status is not None:
        ends = "refused"
        rest = b""
    elif requests.is_upgraded:
        ends = "upgraded"
    elif reader.has_partial_head or requests.is_within_body:
        ends = "incomplete"
    else:
        is_last = requests.heads and not requests.heads[-1].keep_alive
        ends = "closed" if is_last else "kept"
    return Reading(ends, status, rest, requests.found())


def bytes_of(data: bytes) -> list[bytes]:
    """Return `data` byte by byte."""
    return [data[place : place + 1] for place in range(len(data))]
