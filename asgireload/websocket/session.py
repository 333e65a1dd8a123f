"""The protocol of an open WebSocket, without I/O: bytes to messages, and messages to bytes. RFC 6455.

All limits on what a client sends are enforced here. A frame that exceeds one is refused at its header, before its
payload arrives; payload is unmasked, inflated and checked as it arrives. So a session holds

- the bytes of an incomplete header or control frame, at most 130, or bytes that the caller had no room for;
- the message so far: `message_bytes` at most;
- for compressed messages, one LZ77 window in each direction (`deflate.py`).

From these another session, in another process, can continue at any point: `export` and `resume`. A session that may
be exported (`is_movable`) also keeps the compressed bytes of an incomplete compressed message, and the window
before it: at most `message_bytes` and an eighth more.
"""

import codecs
import os
from typing import Final

from asgireload.errors import AppProtocolError, FrameError
from asgireload.ipc.scoreboard import Limit
from asgireload.websocket.deflate import DEFLATE_FROM, DeflateParameters, Deflater, Inflater
from asgireload.websocket.frames import (
    BINARY,
    CLOSE,
    CONTROL,
    CONTROL_BYTES_LIMIT,
    DEFLATE_FIRST_BYTES,
    FIN,
    INVALID_DATA,
    PING,
    PLAIN_FIRST_BYTES,
    POLICY_VIOLATION,
    PONG,
    PROTOCOL_ERROR,
    RSV1,
    TEXT,
    TOO_BIG,
    encode_close,
    encode_frame,
    explain_first_byte,
    parse_close,
)
from asgireload.websocket.handover import PartialMessage, SessionState
from asgireload.websocket.masking import unmask

INFLATION_FROM: Final = 1024 * 1024
"""Bytes up to which a message may inflate by any ratio. It is cheap to hold, and repetitive data such as an empty
table in JSON shrinks to a thousandth, the best that DEFLATE can do."""

_LONGEST_FRAME: Final = (1 << 63) - 1  # RFC 6455 section 5.2
_NEW_DECODER = codecs.getincrementaldecoder("utf-8")


class SessionLimits:
    """Limits on what one client may send. Sizes are in bytes."""

    __slots__ = (
        "compressed_bytes",
        "fragments",
        "frame_bytes",
        "inflation_ratio",
        "message_bytes",
    )

    def __init__(
        self,
        message_bytes: int = 16 * 1024 * 1024,
        frame_bytes: int | None = None,
        fragments: int = 1024,
        inflation_ratio: int | None = 200,
    ) -> None:
        self.message_bytes: Final = message_bytes
        """The size of a message, inflated."""
        # DEFLATE enlarges data that it cannot compress; zlib's deflateBound is never more than this.
        self.compressed_bytes: Final = message_bytes + message_bytes // 8 + 64
        """The size of a compressed message on the wire."""
        self.frame_bytes: Final = frame_bytes if frame_bytes is not None else _LONGEST_FRAME
        """The size of the payload of one frame on the wire."""
        self.fragments: Final = fragments
        """The number of frames of a message."""
        self.inflation_ratio: Final = inflation_ratio
        """The ratio of inflated to received bytes of a message beyond `INFLATION_FROM`; None: no limit."""

    def check_frame(self, length: int) -> None:
        """Raise FrameError if `length` bytes are too much for the payload of a frame."""
        if length > self.frame_bytes:
            raise FrameError(TOO_BIG, "the frame is too big", limit=Limit.WS_SIZE)

    def check_message(self, arrived_bytes: int, *, is_compressed: bool) -> None:
        """Raise FrameError if a message of which `arrived_bytes` have come, or are announced, is too big."""
        if arrived_bytes > (self.compressed_bytes if is_compressed else self.message_bytes):
            raise FrameError(TOO_BIG, "the message is too big", limit=Limit.WS_SIZE)

    def check_fragments(self, fragments: int) -> None:
        """Raise FrameError if a message that has `fragments` frames may not have another."""
        if fragments >= self.fragments:
            raise FrameError(
                POLICY_VIOLATION, "the message has too many fragments", limit=Limit.WS_FRAGMENTS
            )

    def inflated_bytes(self, arrived_bytes: int) -> int:
        """Return how many bytes a message may inflate to of which `arrived_bytes` have come."""
        if self.inflation_ratio is None:
            return self.message_bytes
        return min(self.message_bytes, max(INFLATION_FROM, self.inflation_ratio * arrived_bytes))


class Closed:
    """The end of the messages.

    With `is_fault` the peer has violated the protocol or a limit, and `code` and `reason` are those of the close
    frame sent to it. Otherwise they are those of the peer's close frame; the code is 1005 if that has none. `limit`
    is the limit that was exceeded, or None.
    """

    __slots__ = ("code", "is_fault", "limit", "reason")

    def __init__(
        self, code: int, reason: str, *, is_fault: bool, limit: Limit | None = None
    ) -> None:
        self.code: Final = code
        self.reason: Final = reason
        self.is_fault: Final = is_fault
        self.limit: Final = limit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Closed) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Closed{self._values()}"

    def _values(self) -> tuple[int, str, bool, Limit | None]:
        return self.code, self.reason, self.is_fault, self.limit


Received = str | bytes | Closed


def weight(received: Received) -> int:
    """Return how many places `received` takes in a queue: one, and one more for each 64 KiB of a message."""
    return 1 if isinstance(received, Closed) else 1 + (len(received) >> 16)


class WebSocketSession:
    """The protocol state of one connection; make a new session for each.

    `receive` decodes frames; `take_answer` returns the answers to them (pongs, close frames). The `send_…` methods,
    `ping` and `close` return the bytes to write.
    """

    __slots__ = (
        "_answer",
        "_arrived_bytes",
        "_awaited_pong",
        "_decoder",
        "_deflater",
        "_first_bytes",
        "_fragments",
        "_gathered",
        "_held_ping",
        "_holds_pongs",
        "_inflater",
        "_inflater_before",
        "_is_compressed",
        "_is_final",
        "_is_over",
        "_key",
        "_limits",
        "_opcode",
        "_position",
        "_remaining",
        "_source",
        "_unread",
        "_whole_bytes_limit",
        "has_unread_frames",
        "is_movable",
        "is_open",
    )

    def __init__(
        self,
        limits: SessionLimits | None = None,
        deflate: DeflateParameters | None = None,
        state: SessionState | None = None,
        *,
        is_movable: bool = False,
    ) -> None:
        """`state` is the state exported by another session of the connection, which `resume` must get as well."""
        self._limits = limits if limits is not None else SessionLimits()
        self._whole_bytes_limit = min(self._limits.message_bytes, self._limits.frame_bytes)
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        self._first_bytes = PLAIN_FIRST_BYTES
        if deflate is not None:
            self._first_bytes = DEFLATE_FIRST_BYTES
            self._deflater = Deflater(
                deflate.server_max_window_bits, resets=deflate.server_no_context_takeover
            )
            self._inflater = Inflater(
                deflate.client_max_window_bits,
                resets=deflate.client_no_context_takeover,
                window=state.window if state is not None else b"",
            )
        self.is_movable = is_movable
        """`export` may be called."""
        self.is_open = True
        """Messages may be sent."""
        self._is_over = False
        """Received bytes are ignored."""

        self._unread = b""
        self._position = 0
        """The offset at which the unread part of `_unread` begins."""
        self.has_unread_frames = False
        """Bytes were kept for lack of room: `receive(b"", room)` may find messages in them."""

        # The incomplete frame.
        self._remaining = 0
        """Payload bytes still to come."""
        self._key = b""
        """The masking key, rotated so that it begins with the byte for the next payload byte."""
        self._is_final = False

        # The incomplete message.
        self._opcode = 0
        """TEXT or BINARY; 0 between messages."""
        self._is_compressed = False
        self._fragments = 0
        self._arrived_bytes = 0
        """Bytes of the message that have come, as on the wire."""
        self._gathered = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None
        """Detects bytes that are not UTF-8 as soon as they arrive; its output is dropped."""
        self._source: bytearray | None = None
        """The compressed bytes, unmasked, of a compressed message in a movable session."""
        self._inflater_before: Inflater | None = None
        """A copy of the inflater from before that message."""

        self._answer = bytearray()
        self._awaited_pong: bytes | None = None
        self._holds_pongs = False
        self._held_ping: bytes | None = None

    # Sending.

    def send_text(self, text: str) -> bytes:
        """Return the frame of a text message. Raise AppProtocolError for text that has no UTF-8 encoding."""
        try:
            payload = text.encode()
        except UnicodeEncodeError as error:
            raise AppProtocolError(f"the text cannot be sent as UTF-8: {error}") from None
        if self._deflater is not None and len(payload) >= DEFLATE_FROM:
            return encode_frame(FIN | RSV1 | TEXT, self._deflater.deflate(payload))
        return encode_frame(FIN | TEXT, payload)

    def send_bytes(self, data: bytes) -> bytes:
        """Return the frame of a binary message."""
        if self._deflater is not None and len(data) >= DEFLATE_FROM:
            return encode_frame(FIN | RSV1 | BINARY, self._deflater.deflate(data))
        return encode_frame(FIN | BINARY, data)

    def ping(self) -> bytes:
        """Return a ping frame with random payload, so that no unrelated pong answers it; see `is_pong_awaited`."""
        self._awaited_pong = os.urandom(4)
        return encode_frame(FIN | PING, self._awaited_pong)

    @property
    def is_pong_awaited(self) -> bool:
        """The pong for the last ping has not arrived."""
        return self._awaited_pong is not None

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake: return the close frame, or b"" when the handshake has begun already.

        Messages that arrive afterwards are dropped. Raise AppProtocolError for a code that may not be
        sent and a reason that is too long.
        """
        if not self.is_open:
            return b""
        frame = encode_close(code, reason)
        self.is_open = False
        return frame

    def take_answer(self) -> bytes:
        """Return, once, the bytes that answer the received frames; often b""."""
        if not self._answer:
            return b""
        answer, self._answer = bytes(self._answer), bytearray()
        return answer

    def hold_pongs(self) -> None:
        """Keep only the pong for the latest ping from now on, because the peer does not read.

        RFC 6455 section 5.5.3 allows that. Otherwise a peer that sends pings and reads nothing would fill the
        memory with pongs.
        """
        self._holds_pongs = True

    def release_pongs(self) -> bytes:
        """Return the pong that was held, or b"", and hold no more, because the peer reads again."""
        self._holds_pongs = False
        payload, self._held_ping = self._held_ping, None
        return encode_frame(FIN | PONG, payload) if payload is not None and self.is_open else b""

    # From one session to another.

    def export(self) -> SessionState:
        """Return the state from which a session in another worker continues. This session is unusable afterwards.

        The session must be movable and open, and `take_answer` must have been called.
        """
        assert self.is_movable
        assert self.is_open
        assert not self._answer
        inflater = self._inflater_before if self._source is not None else self._inflater
        partial = None
        if self._opcode:
            payload = self._gathered if self._source is None else self._source
            partial = PartialMessage(
                opcode=self._opcode,
                is_compressed=self._is_compressed,
                fragments=self._fragments,
                payload=bytes(payload),
                is_final=self._is_final,
                remaining=self._remaining,
                key=self._key,
            )
        return SessionState(
            unread=self._unread[self._position :],
            window=inflater.window() if inflater is not None else b"",
            awaited_pong=self._awaited_pong,
            partial=partial,
        )

    def resume(self, state: SessionState) -> None:
        """Continue from `state`, which must have been given to `__init__` as well.

        Raise FrameError when the received part of a message exceeds the limits of this session.
        """
        self._unread = state.unread
        self.has_unread_frames = bool(state.unread)
        self._awaited_pong = state.awaited_pong
        partial = state.partial
        if partial is None:
            return
        self._begin_message(partial.opcode, is_compressed=partial.is_compressed)
        self._fragments = partial.fragments
        self._is_final = partial.is_final
        self._limits.check_message(len(partial.payload), is_compressed=partial.is_compressed)
        if partial.payload:
            self._arrived_bytes = len(partial.payload)
            self._take_payload(partial.payload)
        self._remaining = partial.remaining
        self._key = partial.key

    # Receiving.

    def receive(self, data: bytes, room: int) -> list[Received]:
        """Decode `data` after the bytes that were kept; return complete messages, until their `weight` together is
        `room` or more.

        `Closed` is the last element, if any. Bytes for which there is no room are kept, undecoded; the caller must
        stop reading then, because the kept bytes are not bounded.
        """
        received: list[Received] = []
        if self._is_over:
            return received
        if self._position < len(self._unread):
            if data:
                self._unread = self._unread[self._position :] + data
                self._position = 0
        else:
            self._unread = data
            self._position = 0
        try:
            self._decode(room, received)
        except FrameError as error:
            limit = None if error.limit is None else Limit(error.limit)
            received.append(Closed(error.code, error.reason, is_fault=True, limit=limit))
            self._answer += self.close(error.code, error.reason)
            self._end()
        return received

    def _decode(self, room: int, received: list[Received]) -> None:
        data = self._unread
        position = self._position
        end = len(data)
        first_bytes = self._first_bytes
        self.has_unread_frames = False
        counted = 0
        while position < end:
            while counted < len(received):
                room -= weight(received[counted])
                counted += 1
            if room <= 0 and self.is_open:
                self.has_unread_frames = True
                break
            if self._remaining:
                piece = data[position : position + self._remaining]
                position += len(piece)
                self._take_piece(piece, received)
                continue
            if end - position < 2:
                break

            first = data[position]
            length = data[position + 1] - 0x80
            if first not in first_bytes:
                raise FrameError(PROTOCOL_ERROR, explain_first_byte(first))
            if length < 0:
                raise FrameError(PROTOCOL_ERROR, "a frame is not masked")
            start = position + 6
            if first & CONTROL:
                if length > CONTROL_BYTES_LIMIT:
                    raise FrameError(PROTOCOL_ERROR, "a control frame is longer than 125 bytes")
                stop = start + length
                if stop > end:
                    break
                payload = unmask(data[start:stop], data[position + 2 : start])
                position = stop
                if self._take_control(first, payload, received):
                    return
                continue

            if length >= 126:
                start += 2 if length == 126 else 8
                if start - 4 > end:
                    break
                length = _read_length(data[position + 2 : start - 4])
            stop = start + length
            if (
                stop <= end
                and first > FIN
                and not self._opcode
                and length <= self._whole_bytes_limit
            ):
                # A whole message in one whole frame, as in nearly all traffic.
                payload = unmask(data[start:stop], data[start - 4 : start])
                position = stop
                if first & RSV1:
                    payload = self._inflate_whole(payload)
                message = _decode_text(payload) if first & TEXT else payload
                if self.is_open:
                    received.append(message)
                continue
            self._check_header(first, length)
            if start > end:
                break
            position = start
            self._begin_frame(first, length, data[start - 4 : start], received)

        if position == end:
            self._unread = b""
            self._position = 0
        elif self.has_unread_frames:
            self._position = position
        else:
            self._unread = data[position:]  # a few bytes, not the whole read
            self._position = 0

    def _check_header(self, first: int, length: int) -> None:
        """Raise FrameError for a data frame that is not allowed here, before its payload has come."""
        # The checks are called only when they would raise: a call costs more than a comparison.
        limits = self._limits
        if first & 0x0F:
            if self._opcode:
                raise FrameError(PROTOCOL_ERROR, "a message began within another")
            is_compressed = bool(first & RSV1)
        else:
            if not self._opcode:
                raise FrameError(PROTOCOL_ERROR, "a fragment continues no message")
            is_compressed = self._is_compressed
            if self._fragments >= limits.fragments:
                limits.check_fragments(self._fragments)
        if length > limits.frame_bytes:
            limits.check_frame(length)
        arrived_bytes = self._arrived_bytes + length
        if arrived_bytes > limits.message_bytes:
            limits.check_message(arrived_bytes, is_compressed=is_compressed)

    def _begin_frame(self, first: int, length: int, key: bytes, received: list[Received]) -> None:
        if first & 0x0F:
            self._begin_message(first & 0x0F, is_compressed=bool(first & RSV1))
        self._fragments += 1
        self._is_final = bool(first & FIN)
        self._remaining = length
        self._key = key
        if not length and self._is_final:
            self._finish_message(received)

    def _begin_message(self, opcode: int, *, is_compressed: bool) -> None:
        self._opcode = opcode
        self._is_compressed = is_compressed
        if opcode == TEXT:
            self._decoder = _NEW_DECODER()
        if is_compressed and self.is_movable:
            assert self._inflater is not None
            self._source = bytearray()
            self._inflater_before = self._inflater.copy()

    def _take_piece(self, piece: bytes, received: list[Received]) -> None:
        """Handle payload bytes, at least one, of the incomplete frame."""
        payload = unmask(piece, self._key)
        turn = len(piece) % 4
        if turn:
            self._key = self._key[turn:] + self._key[:turn]
        self._remaining -= len(piece)
        self._arrived_bytes += len(piece)
        self._take_payload(payload)
        if not self._remaining and self._is_final:
            self._finish_message(received)

    def _take_payload(self, payload: bytes) -> None:
        if self._is_compressed:
            assert self._inflater is not None
            if self._source is not None:
                self._source += payload
            payload = self._inflater.inflate(payload, self._allowed_bytes())
        self._gather(payload)

    def _gather(self, payload: bytes) -> None:
        if self._decoder is not None:
            try:
                self._decoder.decode(payload)
            except UnicodeDecodeError:
                raise _not_utf8() from None
        # Not a list of pieces: many small pieces would take many times their size.
        self._gathered += payload

    def _finish_message(self, received: list[Received]) -> None:
        if self._is_compressed:
            self._gather(self._finish_inflating(b""))
        message = _decode_text(self._gathered) if self._opcode == TEXT else bytes(self._gathered)
        self._forget_message()
        if self.is_open:
            received.append(message)

    def _inflate_whole(self, payload: bytes) -> bytes:
        self._arrived_bytes = len(payload)
        message = self._finish_inflating(payload)
        self._arrived_bytes = 0
        return message

    def _finish_inflating(self, payload: bytes) -> bytes:
        assert self._inflater is not None
        return self._inflater.finish(payload, self._allowed_bytes())

    def _allowed_bytes(self) -> int:
        """Return how many more bytes the message may inflate to."""
        return self._limits.inflated_bytes(self._arrived_bytes) - len(self._gathered)

    def _take_control(self, first: int, payload: bytes, received: list[Received]) -> bool:
        """Handle a control frame; return True after a close frame, when the bytes that follow are ignored."""
        opcode = first & 0x0F
        if opcode == PONG:
            if payload == self._awaited_pong:
                self._awaited_pong = None
        elif opcode == PING:
            if self._holds_pongs:
                self._held_ping = payload
            elif self.is_open:
                self._answer += encode_frame(FIN | PONG, payload)
        else:
            code, reason = parse_close(payload)
            received.append(Closed(code, reason, is_fault=False))
            if self.is_open:
                self.is_open = False
                # The answer repeats the code (RFC 6455 section 5.5.1).
                self._answer += encode_frame(FIN | CLOSE, payload[:2])
            self._end()
            return True
        return False

    def _forget_message(self) -> None:
        self._opcode = 0
        self._is_compressed = False
        self._fragments = 0
        self._arrived_bytes = 0
        self._gathered = bytearray()
        self._decoder = None
        self._source = None
        self._inflater_before = None

    def _end(self) -> None:
        self._is_over = True
        self.has_unread_frames = False
        self._unread = b""
        self._position = 0
        self._remaining = 0
        self._forget_message()


def _read_length(data: bytes) -> int:
    """Read an extended payload length, of two or eight bytes (RFC 6455 section 5.2)."""
    length = int.from_bytes(data, "big")
    if length >> 63:
        raise FrameError(PROTOCOL_ERROR, "the highest bit of a frame's length is set")
    if length < (126 if len(data) == 2 else 65536):
        raise FrameError(PROTOCOL_ERROR, "a frame's length is not in its shortest form")
    return length


def _decode_text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _not_utf8() -> FrameError:
    return FrameError(INVALID_DATA, "a text message is not UTF-8")
