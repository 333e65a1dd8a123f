"""The part of the configuration that HTTP connections use."""

from dataclasses import dataclass, field
from typing import Literal

from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.request import RequestLimits

ParserName = Literal["builtin", "httptools", "h11"]
"""The parser of header lines; see `http1/parsers.py`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each is code to compile at a start
class HttpSettings:
    """The configuration of the HTTP connections of one server. Times are in seconds, sizes in bytes."""

    parser: ParserName = "builtin"
    root_path: str = ""
    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that are added to responses that lack them, the Server header included; names are lowercase."""
    date_header: bool = True
    keep_alive_timeout: float = 5.0
    """How long a connection may wait between two requests."""
    head_timeout: float = 15.0
    """How long a client may take to send a request head, and the first byte of a connection."""
    body_timeout: float = 60.0
    """How long a client may pause in the middle of a request body."""
    write_timeout: float = 60.0
    """How long a client may read nothing while bytes are waiting to be sent to it."""
    request_timeout: float | None = None
    """How long the application may take, from the head of a request to the end of the response; None: no limit."""
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    forwarding: Forwarding | None = None
    """Which proxies are trusted, and which of their headers are used; None: no proxy is trusted."""
    host_rules: HostRules | None = None
    """Which Host headers are served; None: all."""
    limit_concurrency: int | None = None
    """With more connections or exchanges than this, a request is answered with 503; None: no limit."""
    limit_connections: int | None = None
    """With this many connections, idle ones are closed, and none are accepted if none is idle; None: no limit."""
    sendfile: bool = False
    """Offer http.response.pathsend and zerocopysend. Frameworks use them as soon as they are offered, and then no
    middleware sees the body of a file."""
    debug_extension: bool = False
    """Offer http.response.debug to applications under test."""
    drain_grace: float = 2.0
    """How long an idle connection is kept open for a request after a drain has begun."""
    close_window: float = 5.0
    """Longest time over which a drain spreads the closes of WebSockets and the ends of event streams."""
    event_stream_handover: bool = True
    """Whether event streams move to the worker that follows."""
    event_stream_notice: float = 10.0
    """How long a drain waits before it ends event streams that do not move; at most half of the drain's time."""
