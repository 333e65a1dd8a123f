"""An open WebSocket without its socket: bytes in, messages out, and the other way round. RFC 6455.

All limits on what a client sends are kept here. A frame is refused at its header, before its payload
arrives; what arrives of a frame is unmasked, inflated and checked at once. So what a session holds is

- the bytes of an incomplete header or control frame, at most 130, or what the caller had no room for;
- the message so far: `message_bytes` at most;
- for compressed messages, one LZ77 window in each direction (`deflate.py`).

With that another session can go on at any point, in another process: `export` and `resume`. A session that
may have to (`is_movable`) keeps a compressed message that has come in part as it came, too, with the window
before it: `message_bytes` and an eighth more at most.
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
"""Up to here a message may grow by any factor: it is cheap to hold, and what repeats itself, such as
an empty table in JSON, shrinks to a thousandth, DEFLATE's best."""

_LONGEST_FRAME: Final = (1 << 63) - 1  # RFC 6455 section 5.2
_NEW_DECODER = codecs.getincrementaldecoder("utf-8")


class SessionLimits:
    """What one client may send. Sizes in bytes."""

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
        """Of a whole message, inflated."""
        # DEFLATE enlarges what it cannot shrink; zlib's deflateBound never says more than this.
        self.compressed_bytes: Final = message_bytes + message_bytes // 8 + 64
        """Of a whole message, as it is on the wire."""
        self.frame_bytes: Final = frame_bytes if frame_bytes is not None else _LONGEST_FRAME
        """Of the payload of one frame, as it is on the wire; None: only the message counts."""
        self.fragments: Final = fragments
        """Frames that one message may consist of."""
        self.inflation_ratio: Final = inflation_ratio
        """What a compressed message beyond `INFLATION_FROM` may be, times its bytes on the wire."""

    def check_frame(self, length: int) -> None:
        """Raise FrameError for a frame with so much payload, before it has come."""
        if length > self.frame_bytes:
            raise FrameError(TOO_BIG, "the frame is too big", limit=Limit.WS_SIZE)

    def check_message(self, arrived_bytes: int, *, is_compressed: bool) -> None:
        """Raise FrameError for a message of which so much has come, or is announced."""
        if arrived_bytes > (self.compressed_bytes if is_compressed else self.message_bytes):
            raise FrameError(TOO_BIG, "the message is too big", limit=Limit.WS_SIZE)

    def check_fragments(self, fragments: int) -> None:
        """Raise FrameError for one more frame in a message that has so many."""
        if fragments >= self.fragments:
            raise FrameError(
                POLICY_VIOLATION, "the message has too many fragments", limit=Limit.WS_FRAGMENTS
            )

    def inflated_bytes(self, arrived_bytes: int) -> int:
        """Return what a compressed message may have become, of which so much has come."""
        if self.inflation_ratio is None:
            return self.message_bytes
        return min(self.message_bytes, max(INFLATION_FROM, self.inflation_ratio * arrived_bytes))


class Closed:
    """No message follows.

    `is_fault`: the peer broke the protocol or a limit; `code` and `reason` are what it was told.
    Otherwise they are what the peer said; the code is 1005 when it gave none.
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
    """Return how many places a message takes in a queue: one, and one more for each 64 KiB."""
    return 1 if isinstance(received, Closed) else 1 + (len(received) >> 16)


class WebSocketSession:
    """Not usable for a second connection.

    `receive` decodes; what it has to answer (pongs, close frames) waits in `take_answer`. The `send_…`
    methods, `ping` and `close` return the bytes to write.
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
        """`state` is what another session of the same connection exported; `resume` must follow then."""
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
        """Nothing that arrives is looked at any more."""

        self._unread = b""
        self._position = 0
        """Where the unread part of `_unread` begins."""
        self.has_unread_frames = False
        """Bytes were kept for lack of room: `receive(b"", room)` may find messages in them."""

        # The frame that has come in part.
        self._remaining = 0
        """Payload bytes still to come."""
        self._key = b""
        """The masking key, turned so that it begins with the next payload byte."""
        self._is_final = False

        # The message that has come in part.
        self._opcode = 0
        """TEXT or BINARY; 0 between messages."""
        self._is_compressed = False
        self._fragments = 0
        self._arrived_bytes = 0
        """On the wire."""
        self._gathered = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None
        """Finds what is not UTF-8 as soon as it arrives; its output is dropped."""
        self._source: bytearray | None = None
        """Of a compressed message in a movable session: its bytes as they came, unmasked."""
        self._inflater_before: Inflater | None = None
        """What it began with."""

        self._answer = bytearray()
        self._awaited_pong: bytes | None = None
        self._holds_pongs = False
        self._held_ping: bytes | None = None

    # Sending.

    def send_text(self, text: str) -> bytes:
        """Return the frame of a message. Raise AppProtocolError for text that is not Unicode."""
        try:
            payload = text.encode()
        except UnicodeEncodeError as error:
            raise AppProtocolError(f"the text cannot be sent as UTF-8: {error}") from None
        if self._deflater is not None and len(payload) >= DEFLATE_FROM:
            return encode_frame(FIN | RSV1 | TEXT, self._deflater.deflate(payload))
        return encode_frame(FIN | TEXT, payload)

    def send_bytes(self, data: bytes) -> bytes:
        if self._deflater is not None and len(data) >= DEFLATE_FROM:
            return encode_frame(FIN | RSV1 | BINARY, self._deflater.deflate(data))
        return encode_frame(FIN | BINARY, data)

    def ping(self) -> bytes:
        """Return a ping that cannot be answered by chance; see `is_pong_awaited`."""
        self._awaited_pong = os.urandom(4)
        return encode_frame(FIN | PING, self._awaited_pong)

    @property
    def is_pong_awaited(self) -> bool:
        """The answer to the last ping has not arrived."""
        return self._awaited_pong is not None

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin the closing handshake; b"" when it has begun already.

        Messages that arrive afterwards are dropped. Raise AppProtocolError for a code that may not be
        sent and a reason that is too long.
        """
        if not self.is_open:
            return b""
        frame = encode_close(code, reason)
        self.is_open = False
        return frame

    def take_answer(self) -> bytes:
        """Return what the received frames ask to be answered, once; often b""."""
        if not self._answer:
            return b""
        answer, self._answer = bytes(self._answer), bytearray()
        return answer

    def hold_pongs(self) -> None:
        """The peer does not read: keep no answers for it but that to its latest ping.

        RFC 6455 section 5.5.3 allows that. Without it, a peer that sends pings and reads nothing would
        fill the memory with pongs.
        """
        self._holds_pongs = True

    def release_pongs(self) -> bytes:
        """The peer reads again: return the pong that was held, or b""."""
        self._holds_pongs = False
        payload, self._held_ping = self._held_ping, None
        return encode_frame(FIN | PONG, payload) if payload is not None and self.is_open else b""

    # From one session to another.

    def export(self) -> SessionState:
        """Return what a session in another worker goes on with; this one is of no use afterwards.

        It must be movable and open, and its answers taken.
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
        """Go on where another session was, which must have been given to `__init__` as well.

        Raise FrameError when the limits have become lower than what has come already.
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
        """Return what `data`, behind the bytes kept from before, completes: messages until their `weight`
        together is `room` or more.

        `Closed` comes last, if it comes. Bytes that there is no room for are kept, undecoded; the
        caller stops reading then, or they would grow.
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
                # A message in a frame that has come whole: what nearly all traffic is.
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
        """Raise FrameError for a data frame that does not fit here, before its payload has come."""
        # They are called when there is something to refuse: a call costs more than a comparison.
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
        """Take payload bytes of the frame that has come in part, at least one."""
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
        # Not a list of pieces: many small ones would take many times their size.
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
        """How many more bytes the message may inflate to."""
        return self._limits.inflated_bytes(self._arrived_bytes) - len(self._gathered)

    def _take_control(self, first: int, payload: bytes, received: list[Received]) -> bool:
        """Handle a control frame; return True when nothing behind it counts."""
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
