"""What an open WebSocket takes along to another worker: pure values, their bytes, and the values again.

A `SessionState` is what `WebSocketSession.export` gives and `WebSocketSession.resume` takes: whatever was
received and is not yet a message. A `Continuation` has what the connection around it remembers as well. Of
what was sent nothing is needed: all of it has left, and a new compressor never looks back further than its
own start (`deflate.py`).

Fields are only ever added, with a default, because the two workers may be of different versions; see
`ipc/parcels.py`.
"""

from collections.abc import Iterable

import msgspec

from asgireload.errors import ParcelError, PeerError
from asgireload.http.request import RequestHead
from asgireload.http1.parser import read_head, read_request_line
from asgireload.ipc.parcels import Facts, WebSocketParcel
from asgireload.websocket.deflate import DeflateParameters, negotiate
from asgireload.websocket.handshake import Handshake, parse_extensions


class PartialMessage(msgspec.Struct, frozen=True):
    """A message of which at least one frame has begun."""

    opcode: int
    is_compressed: bool
    fragments: int
    """Frames that have begun."""
    payload: bytes
    """What has come, unmasked. A compressed message stays compressed: a decompressor in the middle of a block
    cannot be carried anywhere, so the next one reads the message again."""
    is_final: bool
    """The frame in hand is the last one."""
    remaining: int = 0
    """Bytes that the frame in hand still lacks."""
    key: bytes = b""
    """Its masking key, turned so that it begins with the next of these bytes."""


class SessionState(msgspec.Struct, frozen=True):
    unread: bytes = b""
    """Received and not looked at: half a header, half a control frame, or what there was no room for."""
    window: bytes = b""
    """What the peer's compressor may refer to: of all messages before the partial one."""
    awaited_pong: bytes | None = None
    partial: PartialMessage | None = None


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A whole message: its bytes, and whether they are text."""

    payload: bytes
    is_text: bool


class Continuation(msgspec.Struct, frozen=True):
    """An open WebSocket connection between two workers."""

    session: SessionState
    queue: tuple[Message, ...] = ()
    """Messages received, and not taken by the application."""
    ping_at: float | None = None
    """When the next ping was due, or the answer to the last, on the loop's clock."""
    started_ns: int = 0
    """time.monotonic_ns() of the handshake."""
    sent_bytes: int = 0
    request_id: str | None = None

    def messages(self) -> list[str | bytes]:
        return [
            message.payload.decode() if message.is_text else message.payload
            for message in self.queue
        ]


def queued(messages: Iterable[str | bytes]) -> tuple[Message, ...]:
    return tuple(
        Message(message.encode(), is_text=True)
        if isinstance(message, str)
        else Message(message, is_text=False)
        for message in messages
    )


class Resumption:
    """A parcel unpacked: everything that a connection needs to go on."""

    __slots__ = (
        "app_state",
        "continuation",
        "deflate",
        "facts",
        "handshake",
        "head",
        "messages",
        "subprotocol",
    )

    def __init__(self, parcel: WebSocketParcel) -> None:
        """Raise ParcelError for what this version cannot go on with."""
        try:
            self.continuation = _decoder.decode(parcel.session)
            self.messages = self.continuation.messages()
            self.head = _read_head(parcel)
            self.handshake = Handshake(self.head)
            self.deflate = _read_deflate(parcel.extensions)
        except (msgspec.MsgspecError, UnicodeDecodeError, PeerError) as error:
            raise ParcelError(f"a WebSocket that cannot be taken over: {error}") from error
        self.facts: Facts = parcel.facts
        self.subprotocol = parcel.subprotocol
        self.app_state = parcel.app_state


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Continuation] = msgspec.msgpack.Decoder(Continuation)


def pack(
    facts: Facts,
    head: RequestHead,
    continuation: Continuation,
    *,
    subprotocol: str | None,
    deflate: DeflateParameters | None,
    app_state: bytes,
) -> WebSocketParcel:
    """Return the parcel from which `Resumption` makes the same again."""
    target = head.raw_path + (b"?" + head.query_string if head.query_string else b"")
    return WebSocketParcel(
        facts=facts,
        method=head.method,
        target=target,
        http_version=head.http_version,
        headers=tuple(head.headers),
        subprotocol=subprotocol,
        extensions=None if deflate is None else deflate.header_value.decode("ascii"),
        session=_encoder.encode(continuation),
        app_state=app_state,
    )


def _read_head(parcel: WebSocketParcel) -> RequestHead:
    version = parcel.http_version.encode()
    line = read_request_line(b"%b %b HTTP/%b" % (parcel.method.encode(), parcel.target, version))
    return read_head(line, list(parcel.headers))


def _read_deflate(extensions: str | None) -> DeflateParameters | None:
    """Our answer names what was agreed on; read as an offer, it is met by exactly that."""
    if extensions is None:
        return None
    parameters = negotiate(parse_extensions(extensions))
    if parameters is None:
        raise ParcelError(f"the extension {extensions!r} is not one of this version")
    return parameters
