"""The exceptions that asgireload raises, in one tree.

    AsgireloadError
    ├── ConfigError            a flag, variable or file value cannot be used        exit 2
    ├── StartupError           the server could not start                           exit 3
    │   ├── AppLoadError       the application could not be imported
    │   ├── LifespanError      the application's lifespan startup failed
    │   ├── LogConfigError     a --log-config file or a log file cannot be used
    │   ├── ListenError        an address could not be bound
    │   └── TlsError           a certificate, key or other part of TLS could not be used
    ├── GaveUpError            a crash loop with nothing serving                    exit 4
    ├── ShutdownError          stopped, but a lifespan shutdown did not succeed     exit 5
    ├── ControlError           a running server could not be reached or refused
    ├── ChannelClosedError     the other process of a socket pair is gone
    ├── ParcelError            a connection cannot be handed to, or taken over from, another worker
    ├── PeerError              a client broke the protocol; carries the status to answer with
    │   └── UnservedHostError  the Host header names a host that is not served
    ├── ProxyHeaderError       a connection does not begin with the required PROXY header
    ├── FrameError             a WebSocket client broke the protocol or a limit; carries the close code
    ├── ClientDisconnectedError  the application sends to a client that has disconnected
    └── AppProtocolError       the application sent a message that ASGI does not allow here

Only entry points (`cli/main.py` and the `main.py` of each process) turn these exceptions into exit statuses.
"""

from collections.abc import Iterable


class AsgireloadError(Exception):
    """Base class of the exceptions of asgireload; `exit_code` is the exit status of a command that it ends."""

    exit_code = 1


class ConfigError(AsgireloadError):
    """A value from a flag, variable or file cannot be used; the text names the origin of the value."""

    exit_code = 2


class StartupError(AsgireloadError):
    """The server could not start."""

    exit_code = 3


class AppLoadError(StartupError):
    """The application could not be imported, or the attribute is missing or cannot be called."""


class LifespanError(StartupError):
    """The application answered `lifespan.startup.failed`, raised, or did not answer in time."""


class LogConfigError(StartupError):
    """A --log-config file cannot be read or applied, or a log file cannot be opened."""


class ListenError(StartupError):
    """An address could not be bound or an inherited descriptor is not a listening socket."""


class TlsError(StartupError):
    """A certificate, a key or another part of TLS could not be used; the text names the file and the reason."""


class GaveUpError(AsgireloadError):
    """Workers kept dying, and no worker served for `give_up_after` seconds."""

    exit_code = 4


class ShutdownError(AsgireloadError):
    """The server has stopped on request, but the application's lifespan shutdown failed in a worker."""

    exit_code = 5


class ControlError(AsgireloadError):
    """A running server could not be reached, or it refused the command."""


class ChannelClosedError(AsgireloadError):
    """The process at the other end of a socket pair is gone."""


class ParcelError(AsgireloadError):
    """A connection cannot be handed over: its parcel is too large, or its kind is unknown to the receiver."""


class PeerError(AsgireloadError):
    """A client sent bytes that the protocol forbids.

    `status` is the HTTP status to answer with before the connection is closed (RFC 9110 section 15.5).
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class FrameError(AsgireloadError):
    """A WebSocket client broke the protocol or exceeded a limit.

    `code` is the close code to answer with (RFC 6455 section 7.4.1), `reason` fits into a close frame,
    and `limit` is the `Limit` that was hit, if one was.
    """

    def __init__(self, code: int, reason: str, *, limit: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.limit = limit


class ProxyHeaderError(AsgireloadError):
    """A connection does not begin with a PROXY header, or its peer is not trusted with one."""


class UnservedHostError(PeerError):
    """A well-formed request names a host that is not served."""


class ClientDisconnectedError(AsgireloadError, ConnectionResetError):
    """The application sends to a client that has disconnected.

    `send` raises a subclass of OSError then (ASGI HTTP message format, "Disconnected Client").
    """


class AppProtocolError(AsgireloadError):
    """The application sent an ASGI message that is malformed or not allowed in this state."""


def join_clauses(first: str, second: str) -> str:
    """Return both clauses as one text. The first often comes from another library, and may end with punctuation."""
    if first.endswith(("?", "!", "…")):
        return f"{first} ({second})"
    return f"{first.rstrip('.')}; {second}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most similar to a mistyped one; None when none is similar."""
    import difflib  # imported late: a start without mistakes does not need it

    return next(iter(difflib.get_close_matches(word, known, n=1)), None)
