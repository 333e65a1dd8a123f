"""WebSocket bytes for the client: masked frames made beforehand, and how far the server's frames reach. Pure."""

import zlib

MASK = b"\x37\xfa\x21\x3d"
"""The masking key of RFC 6455 section 5.7. A load needs no secret one."""
TEXT, BINARY = 0x1, 0x2
FINAL, DEFLATED = 0x80, 0x40


def masked_frame(payload: bytes, opcode: int, *, deflated: bool = False) -> bytes:
    """Return one whole message as a client sends it (RFC 6455 section 5.2).

    `deflated` compresses it from an empty window (RFC 7692 section 7.2.1), which a server takes
    whether or not it keeps windows from message to message, so one frame can be sent again and again.
    """
    first = FINAL | opcode
    if deflated:
        deflate = zlib.compressobj(wbits=-15)
        payload = (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        first |= DEFLATED
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0x80 | 126)) + length.to_bytes(2)
    else:
        head = bytes((first, 0x80 | 127)) + length.to_bytes(8)
    mask = (MASK * (length // 4 + 1))[:length]
    return head + MASK + (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(length)


def whole_frames(buffer: bytes | bytearray) -> tuple[int, int]:
    """Return how many whole messages lie at the start of `buffer`, and how many bytes those frames take.

    Pings count as bytes, not as messages. Raise ValueError when the server closes, or masks its frames.
    """
    messages, position, available = 0, 0, len(buffer)
    while available - position >= 2:
        first, length = buffer[position], buffer[position + 1]
        start = position + 2
        if length >= 126:
            if length > 127:
                raise ValueError("the server masks its frames")
            extended = 2 if length == 126 else 8
            if available - start < extended:
                break
            length = int.from_bytes(buffer[start : start + extended])
            start += extended
        if start + length > available:
            break
        opcode = first & 0x0F
        if opcode == 0x8:
            code = int.from_bytes(buffer[start : start + 2])
            raise ValueError(f"the server closed the WebSocket with code {code}")
        if opcode < 0x8 and first & FINAL:
            messages += 1
        position = start + length
    return messages, position


def payload_of(size: int) -> bytes:
    """Return text of so many bytes that compresses as JSON does."""
    rows: list[str] = []
    length = 0
    while length < size:
        number = len(rows)
        row = f'{{"number":{number},"name":"item {number * 7919 % 10007}","price":{number / 8}}},'
        rows.append(row)
        length += len(row)
    return "".join(rows).encode()[:size]
