"""An open WebSocket without its socket: bytes in, messages out, and the other way round.

wsproto reads and writes frames; this file adds what an application server needs on top: whole
messages with a size limit, answers to pings and to faults, and one view of the closing handshake.
"""

from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.extensions import Extension

NO_STATUS = 1005
"""RFC 6455 section 7.4.1: the close frame had no code. Never on the wire."""
ABNORMAL = 1006
"""The connection was lost without a close frame. Never on the wire."""
TOO_BIG = 1009


@dataclass(frozen=True, slots=True)
class PongReceived:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """No message follows.

    `is_fault`: the peer broke the protocol or sent too much; `code` is what it was told. Otherwise it
    is what the peer said.
    """

    code: int
    reason: str
    is_fault: bool


Received = str | bytes | PongReceived | Closed


class WebSocketSession:
    """Not usable for a second connection. `receive` and the `send_…` methods return bytes to write."""

    __slots__ = ("_connection", "_is_over", "_max_size", "_pieces", "_size")

    def __init__(self, max_size: int, extension: Extension | None = None) -> None:
        self._connection = Connection(
            ConnectionType.SERVER, [extension] if extension is not None else []
        )
        self._max_size = max_size
        self._pieces: list[str | bytes] = []
        self._size = 0
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """True while messages may be sent."""
        return self._connection.state is ConnectionState.OPEN and not self._is_over

    def receive(self, data: bytes) -> tuple[list[Received], bytes]:
        """Return what `data` completed, and the bytes to answer with.

        Behind a close or a fault everything is dropped.
        """
        received: list[Received] = []
        answer = b""
        if self._is_over:
            return received, answer
        connection = self._connection
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Message):
                message = self._gather(event)
                if self._size > self._max_size:
                    answer += self._fail(received, TOO_BIG, "the message is too big")
                    break
                if message is not None:
                    received.append(message)
            elif isinstance(event, Ping):
                if self.is_open:
                    answer += connection.send(event.response())
            elif isinstance(event, Pong):
                received.append(PongReceived(bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                answer += self._handle_close(event, received)
                break
        return received, answer

    def send_text(self, text: str) -> bytes:
        return self._connection.send(TextMessage(data=text))

    def send_bytes(self, data: bytes) -> bytes:
        return self._connection.send(BytesMessage(data=data))

    def ping(self, payload: bytes) -> bytes:
        return self._connection.send(Ping(payload=payload))

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake; b"" when it has begun already."""
        if not self.is_open:
            return b""
        return self._connection.send(CloseConnection(code=code, reason=reason or None))

    def _gather(self, event: Message[str] | Message[bytes | bytearray]) -> str | bytes | None:
        """Add a piece of a message; return the message when it is whole."""
        data = event.data if isinstance(event.data, str) else bytes(event.data)
        # The limit is in bytes; an ASCII string need not be encoded to know its size.
        if isinstance(data, str) and not data.isascii():
            self._size += len(data.encode())
        else:
            self._size += len(data)
        if self._size > self._max_size:
            self._pieces.clear()
            return None
        if not event.message_finished:
            self._pieces.append(data)
            return None
        self._size = 0
        if not self._pieces:
            return data
        pieces, self._pieces = [*self._pieces, data], []
        # wsproto refuses a message that mixes text and binary, so all pieces are of one kind.
        if isinstance(data, str):
            return "".join(piece for piece in pieces if isinstance(piece, str))
        return b"".join(piece for piece in pieces if isinstance(piece, bytes))

    def _handle_close(self, event: CloseConnection, received: list[Received]) -> bytes:
        state = self._connection.state
        if state is ConnectionState.REMOTE_CLOSING:
            self._is_over = True
            received.append(Closed(int(event.code), event.reason or "", is_fault=False))
            return self._connection.send(event.response())
        if state is ConnectionState.CLOSED:
            self._is_over = True
            received.append(Closed(int(event.code), event.reason or "", is_fault=False))
            return b""
        # wsproto reports a fault of the peer as a close that did not change the state.
        return self._fail(received, int(event.code), event.reason or "")

    def _fail(self, received: list[Received], code: int, reason: str) -> bytes:
        answer = self.close(code, reason)
        self._is_over = True
        self._pieces.clear()
        received.append(Closed(code, reason, is_fault=True))
        return answer


def is_sendable_code(code: int) -> bool:
    """True for close codes an endpoint may put on the wire (RFC 6455 section 7.4)."""
    if code in (1004, NO_STATUS, ABNORMAL):
        return False
    return 1000 <= code <= 1014 or 3000 <= code <= 4999
