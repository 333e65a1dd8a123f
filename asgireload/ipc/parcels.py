"""What travels with a connection from a draining worker to its successor: pure values and their bytes.

    old ──Offer──▶ new          a connection, with its socket and its parcel
    old ◀──Settled── new        which of the offered are the new one's, and which go back
    old ──Withdrawn──▶ new      the last word: what is not settled stays with the old one

A parcel holds what the socket itself does not say: whose connection it is, what was read from it and not
yet served, and the deadlines that go on running. The socket travels beside it.

Both ends of a handover may be of different versions, because a reload takes up a newer package. So fields
are only ever added, with a default: a reader passes over what it does not know. A parcel of an unknown
kind raises ParcelError, and the connection goes back to where it came from.

Times are seconds of `loop.time()`: CLOCK_MONOTONIC on both loops, the same in all processes of a machine.
"""

from typing import Literal

import msgspec

from asgireload.errors import ParcelError
from asgireload.net.networks import Client

PARCEL_LIMIT = 64 * 1024 * 1024
"""Bytes of one encoded parcel. Unread requests are a quarter of a MiB at most; a WebSocket's half received
message has --ws-max-size (16 MiB), an application's state what it likes."""


HttpParcelState = Literal["silent", "idle", "head"]


class Facts(msgspec.Struct, frozen=True):
    """Who is at the ends of a connection, as `http.endpoints.Endpoints` knows it."""

    client: Client | None
    """None for a Unix socket, or where the peer had left before it was asked."""
    server: tuple[str, int | None] | None
    is_secure: bool = False
    """The client speaks TLS, with a proxy in front."""
    is_peer_known: bool = True
    """False: the peer had left before it was asked, so that no address may be trusted."""


class HttpParcel(msgspec.Struct, frozen=True, tag="http"):
    """A plaintext HTTP/1.1 connection between two requests."""

    facts: Facts
    state: HttpParcelState
    """Nothing was received yet; a request was served; a part of a head is in `unread`."""
    deadline: float
    """When the client is given up if nothing comes."""
    unread: bytes = b""
    """Received and not served: a part of a head, or pipelined requests that were not begun."""


class EventStreamParcel(msgspec.Struct, frozen=True, tag="event stream"):
    """A plaintext HTTP/1 connection in the middle of a response with server-sent events, between two of them."""

    facts: Facts
    head: bytes
    """Of the request, with the id of the last event that was sent (Last-Event-ID)."""
    is_chunked: bool
    """False: the body ends with the connection."""
    closes: bool
    """The connection ends with the response, as its head has said."""
    last_event_id: bytes = b""
    has_events: bool = False
    """At least one event was sent."""
    first_event_id: bytes = b""
    """Of the first event of the body, if it had one."""
    unread: bytes = b""
    """Received behind the request: pipelined requests that were not begun."""
    started_ns: int = 0
    """time.monotonic_ns() of the request."""
    sent_bytes: int = 0
    """Of the body, framing not counted."""
    request_id: str | None = None


class WebSocketParcel(msgspec.Struct, frozen=True, tag="websocket"):
    """An open WebSocket whose application has handed out its state."""

    facts: Facts
    method: str
    target: bytes
    """Of the handshake request, as received: path and query."""
    http_version: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Of the handshake request, as received, with lowercase names."""
    subprotocol: str | None = None
    """What the application accepted."""
    extensions: str | None = None
    """Sec-WebSocket-Extensions of our answer."""
    session: bytes = b""
    """The protocol's state, in an encoding of `websocket/`."""
    app_state: bytes = b""
    """What the application gave."""


Parcel = HttpParcel | EventStreamParcel | WebSocketParcel

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Parcel] = msgspec.msgpack.Decoder(Parcel)


def encode_parcel(parcel: Parcel) -> bytes:
    """Return the parcel's bytes. Raise ParcelError when they are more than PARCEL_LIMIT."""
    data = _encoder.encode(parcel)
    if len(data) > PARCEL_LIMIT:
        raise ParcelError(f"a parcel of {len(data)} bytes is larger than {PARCEL_LIMIT}")
    return data


def decode_parcel(data: bytes) -> Parcel:
    """Return the parcel. Raise ParcelError when these bytes are none that this version knows."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ParcelError(f"not a parcel of this version: {error}") from error


class Offer(msgspec.Struct, frozen=True, tag=True):
    """Descriptors: the socket; a sealed memfd with the parcel if `parcel` is empty."""

    number: int
    parcel: bytes


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Offers by their numbers. Nothing of what is taken was read or written before this was said."""

    taken: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    is_full: bool = False
    """Some are refused for want of room, so another worker may take them."""


class Withdrawn(msgspec.Struct, frozen=True, tag=True):
    """The old worker serves on by itself whatever was not settled when the passage closed."""


PassageMessage = Offer | Settled | Withdrawn
_message_decoder: msgspec.msgpack.Decoder[PassageMessage] = msgspec.msgpack.Decoder(PassageMessage)


def encode_message(message: PassageMessage) -> bytes:
    return _encoder.encode(message)


def decode_message(data: bytes) -> PassageMessage:
    """Raise ParcelError when these bytes are no message that this version knows."""
    try:
        return _message_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ParcelError(f"not a message of this version: {error}") from error
