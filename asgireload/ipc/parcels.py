"""The messages and values that hand a connection from a draining worker over to another worker. Pure.

    old ──Offer──▶ new          a connection, with its socket and its parcel
    old ◀──Settled── new        which offered connections the new worker takes, and which go back
    old ──Withdrawn──▶ new      the last message: what is not settled stays with the old worker

A parcel holds the state that is not in the socket: the peer's address, bytes that were read and not yet served, and
running deadlines. The socket is passed beside the parcel.

The two workers may run different versions, because a reload may load a newer package. So fields are only ever
added, with defaults, and a reader ignores unknown fields. A parcel of an unknown kind raises ParcelError, and the
connection goes back to the old worker.

Times are seconds of `loop.time()`: CLOCK_MONOTONIC in asyncio and uvloop, the same in all processes of a machine.
"""

from typing import Literal

import msgspec

from asgireload.errors import ParcelError
from asgireload.net.networks import Client

PARCEL_LIMIT = 64 * 1024 * 1024
"""Bytes of one encoded parcel. Unread requests take a quarter of a MiB at most, a partly received WebSocket message
up to --ws-max-size (16 MiB); the state that an application adds has no limit of its own."""


HttpParcelState = Literal["silent", "idle", "head"]


class Facts(msgspec.Struct, frozen=True):
    """The ends of a connection, as in `http.endpoints.Endpoints`."""

    client: Client | None
    """None for a Unix socket, or when the peer had left before its address was read."""
    server: tuple[str, int | None] | None
    is_secure: bool = False
    """The client uses TLS, which a proxy in front terminates."""
    is_peer_known: bool = True
    """False: the peer had left before its address was read, so no address may be trusted."""


class HttpParcel(msgspec.Struct, frozen=True, tag="http"):
    """A plaintext HTTP/1.1 connection between two requests."""

    facts: Facts
    state: HttpParcelState
    """silent: nothing was received yet; idle: a request was served; head: a part of a head is in `unread`."""
    deadline: float
    """When the connection is closed if nothing arrives."""
    unread: bytes = b""
    """Bytes received and not served: a part of a head, or pipelined requests that were not begun."""


class EventStreamParcel(msgspec.Struct, frozen=True, tag="event stream"):
    """A plaintext HTTP/1 connection during a response with server-sent events, between two events."""

    facts: Facts
    head: bytes
    """The head of the request, with the id of the last event that was sent (Last-Event-ID)."""
    is_chunked: bool
    """Whether the body is chunked; if not, it ends with the connection."""
    closes: bool
    """The connection ends with the response, as announced in the response's head."""
    last_event_id: bytes = b""
    has_events: bool = False
    """At least one event was sent."""
    first_event_id: bytes = b""
    """The id of the first event of the body, if it had one."""
    unread: bytes = b""
    """Bytes received after the request: pipelined requests that were not begun."""
    started_ns: int = 0
    """time.monotonic_ns() when the request began."""
    sent_bytes: int = 0
    """Bytes of the body sent so far, without framing."""
    request_id: str | None = None


class WebSocketParcel(msgspec.Struct, frozen=True, tag="websocket"):
    """An open WebSocket whose application has provided its state for a handover."""

    facts: Facts
    method: str
    target: bytes
    """Path and query of the handshake request, as received."""
    http_version: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Headers of the handshake request, as received, with lowercase names."""
    subprotocol: str | None = None
    """The subprotocol that the application accepted."""
    extensions: str | None = None
    """Sec-WebSocket-Extensions of the handshake response."""
    session: bytes = b""
    """The state of the WebSocket protocol, in an encoding of `websocket/`."""
    app_state: bytes = b""
    """The state that the application provided."""


Parcel = HttpParcel | EventStreamParcel | WebSocketParcel

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Parcel] = msgspec.msgpack.Decoder(Parcel)


def encode_parcel(parcel: Parcel) -> bytes:
    """Return the encoded parcel. Raise ParcelError when it is larger than PARCEL_LIMIT."""
    data = _encoder.encode(parcel)
    if len(data) > PARCEL_LIMIT:
        raise ParcelError(f"a parcel of {len(data)} bytes is larger than {PARCEL_LIMIT}")
    return data


def decode_parcel(data: bytes) -> Parcel:
    """Return the decoded parcel. Raise ParcelError for bytes that this version does not understand."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ParcelError(f"not a parcel of this version: {error}") from error


class Offer(msgspec.Struct, frozen=True, tag=True):
    """A connection. Descriptors: the socket; a sealed memfd with the parcel if `parcel` is empty."""

    number: int
    parcel: bytes


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Offers by their numbers. The new worker reads and writes taken connections only after this message."""

    taken: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    is_full: bool = False
    """Some offers are refused for lack of room, so another worker may take them."""


class Withdrawn(msgspec.Struct, frozen=True, tag=True):
    """The old worker continues to serve what was not settled when the passage closed."""


PassageMessage = Offer | Settled | Withdrawn
_message_decoder: msgspec.msgpack.Decoder[PassageMessage] = msgspec.msgpack.Decoder(PassageMessage)


def encode_message(message: PassageMessage) -> bytes:
    return _encoder.encode(message)


def decode_message(data: bytes) -> PassageMessage:
    """Return the decoded message. Raise ParcelError for bytes that this version does not understand."""
    try:
        return _message_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ParcelError(f"not a message of this version: {error}") from error
