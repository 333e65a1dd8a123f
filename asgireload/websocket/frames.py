"""Encode WebSocket frames and close payloads, without state. Source: RFC 6455 sections 5 and 7.4.

`session.py` decodes frames into messages; it reads frame headers itself, because that is its innermost loop.
"""

from typing import Final

from asgireload.errors import AppProtocolError, FrameError

FIN: Final = 0x80
RSV1: Final = 0x40
CONTROL: Final = 0x08
"""The bit of an opcode that marks a control frame (section 5.5)."""

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_STATUS: Final = 1005
"""The close frame had no code. Never on the wire."""
ABNORMAL: Final = 1006
"""The connection was lost without a close frame. Never on the wire."""
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009

CONTROL_BYTES_LIMIT: Final = 125
REASON_BYTES_LIMIT: Final = CONTROL_BYTES_LIMIT - 2
"""The longest reason that fits into a close frame after its code."""

PLAIN_FIRST_BYTES = frozenset(
    (
        CONTINUATION,
        FIN | CONTINUATION,
        TEXT,
        FIN | TEXT,
        BINARY,
        FIN | BINARY,
        FIN | CLOSE,
        FIN | PING,
        FIN | PONG,
    )
)
"""The first bytes of a frame that are allowed without an extension."""
DEFLATE_FIRST_BYTES = PLAIN_FIRST_BYTES | {
    RSV1 | TEXT,
    FIN | RSV1 | TEXT,
    RSV1 | BINARY,
    FIN | RSV1 | BINARY,
}
"""The first bytes allowed with permessage-deflate: RSV1 on the first frame of a data message only (RFC 7692 section
6.1)."""

_SHORT_HEADS = {
    first: tuple(bytes((first, length)) for length in range(126))
    for first in (FIN | TEXT, FIN | BINARY)
}


def encode_frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame, as a server sends it. `first` is its first byte: FIN, reserved bits and opcode."""
    length = len(payload)
    if length < 126:
        heads = _SHORT_HEADS.get(first)
        return (heads[length] if heads is not None else bytes((first, length))) + payload
    if length < 65536:
        return bytes((first, 126, length >> 8, length & 0xFF)) + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def explain_first_byte(first: int) -> str:
    """Return the reason why the first byte of a frame is not allowed."""
    opcode = first & 0x0F
    if first & 0x70:
        return "a reserved bit is set that no extension gives a meaning to"
    if opcode & CONTROL and opcode <= PONG:
        return "a control frame is fragmented"
    return f"the opcode {opcode} is reserved"


def encode_close(code: int, reason: str) -> bytes:
    """Return a close frame. Raise AppProtocolError for a code that may not be sent or a reason that is too long."""
    return encode_frame(FIN | CLOSE, close_payload(code, reason))


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a close frame. Raise AppProtocolError as `encode_close` does."""
    if not is_sendable_code(code):
        raise AppProtocolError(
            f"{code} is not a close code that may be sent; use 1000 to 1003, 1007 to 1014,"
            " or 3000 to 4999"
        )
    try:
        payload = code.to_bytes(2, "big") + reason.encode()
    except UnicodeEncodeError as error:
        raise AppProtocolError(f"the close reason is not valid Unicode: {error}") from None
    if len(payload) > CONTROL_BYTES_LIMIT:
        raise AppProtocolError(
            f"the close reason has {len(payload) - 2} bytes in UTF-8;"
            f" a close frame has room for {REASON_BYTES_LIMIT}"
        )
    return payload


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame, 1005 if it has no code. Raise FrameError for an invalid payload."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "the close frame has half a code")
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable_code(code):
        raise FrameError(PROTOCOL_ERROR, f"{code} is not a close code that may be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "the close reason is not UTF-8") from None


def is_sendable_code(code: int) -> bool:
    """Return whether a close code may be on the wire (section 7.4, and the IANA registry up to 1014)."""
    if code in (1004, NO_STATUS, ABNORMAL):
        return False
    return 1000 <= code <= 1014 or 3000 <= code <= 4999
