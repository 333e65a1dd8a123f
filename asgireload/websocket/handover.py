"""The state of an open WebSocket that is handed over to another worker, and its encoding. Pure.

`WebSocketSession.export` returns a `SessionState` and `WebSocketSession.resume` takes one: received bytes that are
not yet a message. A `Continuation` adds the state of the connection around the session. Sent data needs no state:
all of it has left, and a new compressor never refers to data before its own start (`deflate.py`).

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
    """An incomplete message, of which at least one frame has begun."""

    opcode: int
    is_compressed: bool
    fragments: int
    """Frames that have begun."""
    payload: bytes
    """The received payload, unmasked. A compressed message stays compressed, because the state of a decompressor in
    the middle of a block cannot be transferred; the next session decompresses the message from its start."""
    is_final: bool
    """The incomplete frame is the last of the message."""
    remaining: int = 0
    """Bytes that the incomplete frame still lacks."""
    key: bytes = b""
    """The masking key of that frame, rotated so that it begins with the byte for the next payload byte."""


class SessionState(msgspec.Struct, frozen=True):
    """The state of a `WebSocketSession` between two calls of `receive`."""

    unread: bytes = b""
    """Received bytes that are not decoded: an incomplete header or control frame, or bytes without room."""
    window: bytes = b""
    """The bytes that the peer's compressor may refer to, of the messages before the partial one."""
    awaited_pong: bytes | None = None
    partial: PartialMessage | None = None


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A complete message: its bytes, and whether they are text in UTF-8."""

    payload: bytes
    is_text: bool


class Continuation(msgspec.Struct, frozen=True):
    """The state of an open WebSocket connection on its way to another worker."""

    session: SessionState
    queue: tuple[Message, ...] = ()
    """Messages received that the application has not taken."""
    ping_at: float | None = None
    """When the next ping, or the pong for the last one, is due on the loop's clock."""
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
    """A decoded parcel: everything from which a connection continues."""

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
        """Decode `parcel`. Raise ParcelError when this version cannot continue the connection."""
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
    """Return the parcel that `Resumption` decodes."""
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
    """Return the negotiated parameters: the server's answer, read as an offer, is accepted with the same values."""
    if extensions is None:
        return None
    parameters = negotiate(parse_extensions(extensions))
    if parameters is None:
        raise ParcelError(f"the extension {extensions!r} is not one of this version")
    return parameters
