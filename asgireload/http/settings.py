"""The slice of the configuration that HTTP connections read."""

from dataclasses import dataclass, field
from typing import Literal

from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.request import RequestLimits

ParserName = Literal["builtin", "httptools", "h11"]
"""What takes header lines apart; see `http1/parsers.py`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each is code to compile at a start
class HttpSettings:
    """What HTTP connections of one server read of its configuration. Times are seconds, sizes bytes."""

    parser: ParserName = "builtin"
    root_path: str = ""
    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Added to a response that lacks them; names are lowercase. The server header is one of them."""
    date_header: bool = True
    keep_alive_timeout: float = 5.0
    """How long a connection may wait between two requests."""
    head_timeout: float = 15.0
    """How long a client may take over one request head, and over its first byte."""
    body_timeout: float = 60.0
    """How long a client may pause in the middle of a request body."""
    write_timeout: float = 60.0
    """How long a client may read nothing while bytes wait for it."""
    request_timeout: float | None = None
    """How long the application may take from a request's head to the end of its response."""
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    forwarding: Forwarding | None = None
    """Which proxies are believed when they say for whom they ask; None: nobody."""
    host_rules: HostRules | None = None
    """Which Host headers are served; None: any."""
    limit_concurrency: int | None = None
    """Beyond so many connections or exchanges a request is answered with 503."""
    limit_connections: int | None = None
    """From so many connections on, idle ones are closed to make room, and then none accepted."""
    sendfile: bool = False
    """Offer http.response.pathsend and zerocopysend. Frameworks use them as soon as they are offered, and then no
    middleware sees the body of a file."""
    debug_extension: bool = False
    """Offer http.response.debug to applications under test."""
    drain_grace: float = 2.0
    """How long an idle connection still gets an answer after the drain began."""
    close_window: float = 5.0
    """Over how long a drain spreads the closes of WebSockets, and the ends of event streams, at most."""
    event_stream_handover: bool = True
    """Whether event streams move to the worker that follows."""
    event_stream_notice: float = 10.0
    """How long a drain leaves an event stream that does not move, at most half of its time."""
