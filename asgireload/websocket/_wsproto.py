"""The protocol of an open WebSocket, using wsproto; see `asgireload.websocket.session.WebSocketSession`.

wsproto reads and writes frames, enforces RFC 6455 and does the closing handshake. It has no limits, and its
permessage-deflate inflates without a bound. So `_Payloads` replaces that extension: it enforces the limits of
`SessionLimits`, also for frames that are not compressed, and inflates with `deflate.py`.

wsproto cannot export its state for another process. So a session that may be exported (`is_movable`) keeps the
frames of an incomplete message as they were received, and the next session reads them again.
"""

import os

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode, RsvBits

from asgireload.errors import AppProtocolError, FrameError
from asgireload.ipc.scoreboard import Limit
from asgireload.websocket.deflate import DEFLATE_FROM, DeflateParameters, Deflater, Inflater
from asgireload.websocket.frames import FIN, REASON_BYTES_LIMIT, RSV1, close_payload
from asgireload.websocket.handover import PartialMessage, SessionState
from asgireload.websocket.masking import unmask
from asgireload.websocket.session import Closed, Received, SessionLimits, weight


class _Payloads(Extension):
    """An extension of wsproto that sees every frame, header and payload. Raises FrameError through wsproto."""

    name = "permessage-deflate"

    def __init__(
        self,
        limits: SessionLimits,
        deflate: DeflateParameters | None,
        window: bytes,
        *,
        is_movable: bool,
    ) -> None:
        self._limits = limits
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        if deflate is not None:
            self._deflater = Deflater(
                deflate.server_max_window_bits, resets=deflate.server_no_context_takeover
            )
            self._inflater = Inflater(
                deflate.client_max_window_bits,
                resets=deflate.client_no_context_takeover,
                window=window,
            )
        self._is_movable = is_movable
        self._inflater_before: Inflater | None = None
        """A copy of the inflater from before the current message, if that is compressed."""
        self.read_bytes = 0
        """Bytes read since the session began, as on the wire, headers included."""

        # The current frame.
        self._opcode = Opcode.CONTINUATION
        self._is_marked = False
        """RSV1 is set."""
        self._header_bytes = 0
        """The size of the header; 0 once the payload has begun."""
        self.frame_bytes = 0
        """The size of header and payload."""

        # The current message.
        self._is_within = False
        self._is_compressed = False
        self._fragments = 0
        self._arrived_bytes = 0
        self._inflated_bytes = 0
        self._is_resumed = False

    def resume(self, partial: PartialMessage) -> None:
        """Continue `partial`: the next frame stands for all frames that another session has read of it."""
        self._is_resumed = True
        self._fragments = partial.fragments - 1

    def window(self) -> bytes:
        """Return the bytes that the current message, or the next one, may refer to."""
        inflater = self._inflater_before if self._inflater_before is not None else self._inflater
        return inflater.window() if inflater is not None else b""

    # wsproto calls these.

    def offer(self) -> bool:
        return False  # only clients offer extensions

    def enabled(self) -> bool:
        return True

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        # Called again when the masking key arrives later than the length, so nothing is counted here.
        self._opcode = opcode
        self._is_marked = rsv.rsv1
        extended_bytes = 0 if payload_length < 126 else 2 if payload_length < 65536 else 8
        self._header_bytes = 2 + extended_bytes + 4
        self.frame_bytes = self._header_bytes + payload_length
        begins = opcode in (Opcode.TEXT, Opcode.BINARY)
        if opcode.iscontrol() or begins is self._is_within:
            return RsvBits(
                rsv1=False, rsv2=False, rsv3=False
            )  # wsproto refuses a frame that is not allowed here
        if self._is_within:
            self._limits.check_fragments(self._fragments)
        if not self._is_resumed:
            self._limits.check_frame(payload_length)
        self._limits.check_message(
            self._arrived_bytes + payload_length,
            is_compressed=rsv.rsv1 if begins else self._is_compressed,
        )
        return RsvBits(rsv1=begins and self._inflater is not None, rsv2=False, rsv3=False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes:
        self.read_bytes += len(data) + self._header_bytes
        is_start = self._header_bytes > 0
        self._header_bytes = 0
        if self._opcode.iscontrol():
            return data
        if is_start and not self._begin_frame():
            return data
        self._arrived_bytes += len(data)
        if self._is_compressed:
            assert self._inflater is not None
            data = self._inflater.inflate(data, self._allowed_bytes())
        self._inflated_bytes += len(data)
        return data

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,
        fin: bool,  # noqa: FBT001 - wsproto passes it so
    ) -> bytes | None:
        if not fin or self._opcode.iscontrol():
            return None
        data = None
        if self._is_compressed:
            assert self._inflater is not None
            data = self._inflater.finish(b"", self._allowed_bytes())
        self._is_within = self._is_compressed = False
        self._inflater_before = None
        self._fragments = self._arrived_bytes = self._inflated_bytes = 0
        return data

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,  # noqa: FBT001
    ) -> tuple[RsvBits, bytes]:
        if self._deflater is None or opcode.iscontrol() or len(data) < DEFLATE_FROM:
            return rsv, data
        return rsv._replace(rsv1=True), self._deflater.deflate(data)

    def _begin_frame(self) -> bool:
        """Return False for a frame that is not allowed here, which wsproto is about to refuse."""
        begins = self._opcode is not Opcode.CONTINUATION
        if begins is self._is_within:
            return False
        if begins:
            self._is_within = True
            self._is_compressed = self._is_marked
            if self._is_compressed and self._is_movable:
                assert self._inflater is not None
                self._inflater_before = self._inflater.copy()
        self._is_resumed = False
        self._fragments += 1
        return True

    def _allowed_bytes(self) -> int:
        return self._limits.inflated_bytes(self._arrived_bytes) - self._inflated_bytes


class WsprotoSession:
    """A session with the same public members as `WebSocketSession`."""

    def __init__(
        self,
        limits: SessionLimits | None = None,
        deflate: DeflateParameters | None = None,
        state: SessionState | None = None,
        *,
        is_movable: bool = False,
    ) -> None:
        self._payloads = _Payloads(
            limits if limits is not None else SessionLimits(),
            deflate,
            state.window if state is not None else b"",
            is_movable=is_movable,
        )
        self._connection = Connection(ConnectionType.SERVER, [self._payloads])
        self.is_movable = is_movable
        self.is_open = True
        self._is_over = False
        self.has_unread_frames = False
        self._fed_bytes = 0
        self._gathered = bytearray()
        """The payload of a message in several pieces; text is encoded as UTF-8 again, to take the least memory."""
        self._kept = bytearray()
        """In a movable session: the frames of the incomplete message, without control frames."""
        self._behind = bytearray()
        """In a movable session: the bytes after the last complete frame."""
        self._answer = bytearray()
        self._awaited_pong: bytes | None = None
        self._holds_pongs = False
        self._held_ping: bytes | None = None

    # Sending.

    def send_text(self, text: str) -> bytes:
        try:
            return self._connection.send(TextMessage(text))
        except UnicodeEncodeError as error:
            raise AppProtocolError(f"the text cannot be sent as UTF-8: {error}") from None

    def send_bytes(self, data: bytes) -> bytes:
        return self._connection.send(BytesMessage(data))

    def ping(self) -> bytes:
        self._awaited_pong = os.urandom(4)
        return self._connection.send(Ping(self._awaited_pong))

    @property
    def is_pong_awaited(self) -> bool:
        return self._awaited_pong is not None

    def close(self, code: int, reason: str = "") -> bytes:
        if not self.is_open:
            return b""
        close_payload(code, reason)  # wsproto would send invalid codes, and cut the reason
        self.is_open = False
        return self._connection.send(CloseConnection(code, reason))

    def take_answer(self) -> bytes:
        answer, self._answer = bytes(self._answer), bytearray()
        return answer

    def hold_pongs(self) -> None:
        self._holds_pongs = True

    def release_pongs(self) -> bytes:
        self._holds_pongs = False
        payload, self._held_ping = self._held_ping, None
        return self._connection.send(Pong(payload)) if payload is not None and self.is_open else b""

    # From one session to another.

    def export(self) -> SessionState:
        assert self.is_movable
        assert self.is_open
        assert not self._answer
        return SessionState(
            unread=bytes(self._kept + self._behind),
            window=self._payloads.window(),
            awaited_pong=self._awaited_pong,
        )

    def resume(self, state: SessionState) -> None:
        """Continue from `state`. `receive` reads all bytes again, and reports a limit that is exceeded."""
        self._awaited_pong = state.awaited_pong
        unread = state.unread
        if state.partial is not None:
            self._payloads.resume(state.partial)
            unread = _as_frame(state.partial) + unread
        self._feed(unread)
        self.has_unread_frames = bool(unread)

    # Receiving.

    def receive(self, data: bytes, room: int) -> list[Received]:
        received: list[Received] = []
        if self._is_over:
            return received
        self._feed(data)
        try:
            self._decode(room, received)
        except FrameError as error:
            limit = None if error.limit is None else Limit(error.limit)
            received.append(Closed(error.code, error.reason, is_fault=True, limit=limit))
            self._answer += self.close(error.code, error.reason)
            self._end()
        return received

    def _feed(self, data: bytes) -> None:
        self._fed_bytes += len(data)
        self._connection.receive_data(data)
        if self.is_movable:
            self._behind += data

    def _decode(self, room: int, received: list[Received]) -> None:
        self.has_unread_frames = False
        counted = 0
        events = self._connection.events()
        while not self._is_over:
            while counted < len(received):
                room -= weight(received[counted])
                counted += 1
            if room <= 0 and self.is_open:
                self.has_unread_frames = self._fed_bytes > self._payloads.read_bytes
                return
            event = next(events, None)
            if event is None:
                return
            self._take(event, received)

    def _take(self, event: Event, received: list[Received]) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            if self.is_movable and event.frame_finished:
                self._keep_frame(is_last=event.message_finished)
            self._take_message(event, received)
        elif isinstance(event, CloseConnection):
            self._take_close(event, received)
        else:
            if self.is_movable:
                del self._behind[: self._payloads.frame_bytes]
            if isinstance(event, Ping):
                self._take_ping(bytes(event.payload))
            elif isinstance(event, Pong) and event.payload == self._awaited_pong:
                self._awaited_pong = None

    def _keep_frame(self, *, is_last: bool) -> None:
        size = self._payloads.frame_bytes
        if is_last:
            self._kept = bytearray()
        else:
            self._kept += self._behind[:size]
        del self._behind[:size]

    def _take_message(self, event: TextMessage | BytesMessage, received: list[Received]) -> None:
        piece = event.data
        if not event.message_finished or self._gathered:
            # Not a list of pieces: many small pieces would take many times their size.
            self._gathered += piece.encode() if isinstance(piece, str) else piece
            if not event.message_finished:
                return
            whole, self._gathered = self._gathered, bytearray()
            piece = whole.decode() if isinstance(piece, str) else bytes(whole)
        if self.is_open:
            received.append(piece if isinstance(piece, str) else bytes(piece))

    def _take_ping(self, payload: bytes) -> None:
        if self._holds_pongs:
            self._held_ping = payload
        elif self.is_open:
            self._answer += self._connection.send(Pong(payload))

    def _take_close(self, event: CloseConnection, received: list[Received]) -> None:
        code, reason = int(event.code), event.reason or ""
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            # wsproto reports a protocol error as a close, but does not change its state.
            raise FrameError(code, reason[:REASON_BYTES_LIMIT])
        received.append(Closed(code, reason, is_fault=False))
        if self.is_open:
            self.is_open = False
            # The answer repeats the code (RFC 6455 section 5.5.1).
            self._answer += self._connection.send(CloseConnection(event.code))
        self._end()

    def _end(self) -> None:
        self._is_over = True
        self.has_unread_frames = False
        self._gathered = bytearray()
        self._kept = bytearray()
        self._behind = bytearray()


def _as_frame(partial: PartialMessage) -> bytes:
    """Return the received part of a message as the beginning of one frame, for a session that reads it again."""
    length = len(partial.payload) + partial.remaining
    first = (
        partial.opcode | (RSV1 if partial.is_compressed else 0) | (FIN if partial.is_final else 0)
    )
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + length.to_bytes(8, "big")
    # Rotate the key back to the beginning of the payload.
    key = partial.key or bytes(4)
    turn = -len(partial.payload) % 4
    key = key[turn:] + key[:turn]
    return head + key + unmask(partial.payload, key)
