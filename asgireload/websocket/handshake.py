"""The server's side of the WebSocket opening handshake, as values: RFC 6455 section 4.2, RFC 7692."""

import base64
import binascii
import hashlib
import zlib

from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from asgireload.errors import AppProtocolError, PeerError
from asgireload.http.parser import RequestHead

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
VERSION = b"13"


class BoundedDeflate(PerMessageDeflate):
    """wsproto's permessage-deflate with two repairs.

    It never inflates one piece of a message beyond `max_size` bytes: a read of 256 KiB could become
    256 MiB before the message size is looked at. And a ping between the fragments of a compressed
    message (RFC 6455 section 5.4 allows it) does not make the rest look uncompressed.
    """

    def __init__(self, max_size: int) -> None:
        super().__init__()
        self._max_size = max_size

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        if not opcode.iscontrol():
            return super().frame_inbound_header(proto, opcode, rsv, payload_length)
        self._inbound_is_compressible = False
        return RsvBits(rsv1=False, rsv2=False, rsv3=False)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,
        fin: bool,  # noqa: FBT001 - wsproto's signature
    ) -> bytes | CloseReason | None:
        if not self._inbound_is_compressible:
            return None
        return super().frame_inbound_complete(proto, fin)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        decompressor = self._decompressor
        if (
            not self._inbound_compressed
            or not self._inbound_is_compressible
            or decompressor is None
        ):
            return super().frame_inbound_payload_data(proto, data)
        try:
            inflated = decompressor.decompress(data, self._max_size + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return CloseReason.MESSAGE_TOO_BIG if decompressor.unconsumed_tail else inflated


class Handshake:
    """A client's request to open a WebSocket, checked.

    Raises PeerError for a request that cannot be accepted: 426 for another protocol version
    (answered with `Sec-WebSocket-Version: 13`), else 400.
    """

    __slots__ = ("_key", "_offers", "subprotocols")

    def __init__(self, head: RequestHead) -> None:
        keys: list[bytes] = []
        versions: list[bytes] = []
        self._offers: list[str] = []
        self.subprotocols: list[str] = []
        for name, value in head.headers:
            if not name.startswith(b"sec-websocket-"):
                continue
            if name == b"sec-websocket-key":
                keys.append(value)
            elif name == b"sec-websocket-version":
                versions.append(value)
            elif name == b"sec-websocket-extensions":
                self._offers += _split_list(value)
            elif name == b"sec-websocket-protocol":
                self.subprotocols += _split_list(value)
        if versions != [VERSION]:
            raise PeerError(426, "only version 13 of the WebSocket protocol is spoken here")
        if len(keys) != 1 or not _is_key(keys[0]):
            raise PeerError(400, "the Sec-WebSocket-Key header is not a key")
        self._key = keys[0]

    def negotiate_deflate(self, max_size: int) -> tuple[Extension | None, bytes]:
        """Return the extension for the first offer that can be met, and the header value for it."""
        for offer in self._offers:
            name = offer.partition(";")[0].strip()
            if name != PerMessageDeflate.name:
                continue
            extension = BoundedDeflate(max_size)
            try:
                accepted = extension.accept(offer)
            except ValueError:
                continue  # a window size that is not a number: an offer to decline (RFC 7692 section 7.1)
            if accepted is not None:
                value = f"{name}; {accepted}" if accepted else name
                return extension, value.encode("ascii")
        return None, b""

    def accept_headers(self, subprotocol: str | None) -> list[tuple[bytes, bytes]]:
        """Return the headers of the 101 response. Raise AppProtocolError for a subprotocol not offered."""
        digest = hashlib.sha1(self._key + _ACCEPT_GUID, usedforsecurity=False).digest()
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise AppProtocolError(f"the client did not offer the subprotocol {subprotocol!r}")
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        return headers


def _split_list(value: bytes) -> list[str]:
    return [part.strip() for part in value.decode("latin-1").split(",") if part.strip()]


def _is_key(value: bytes) -> bool:
    # RFC 6455 section 4.2.1: 16 bytes in base64.
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
