"""The server's side of the WebSocket opening handshake, as values: RFC 6455 sections 4.2 and 9.1."""

import base64
import binascii
import hashlib
import re
from typing import Any, Final

from asgireload.errors import AppProtocolError, PeerError
from asgireload.http.request import RequestHead
from asgireload.http1.writer import AppHeaders
from asgireload.websocket.deflate import DeflateParameters, Offer, negotiate

_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
VERSION: Final = b"13"

_OWNED_HEADERS = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers of a 101 response that only the server may set. Content-Length and Transfer-Encoding are not allowed in a
101 response at all (RFC 9110 section 8.6, RFC 9112 section 6.1)."""

_CHARACTERS = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A token (RFC 9110 section 5.6.2)."""
_NAME = re.compile(rf"[ \t]*({_CHARACTERS})[ \t]*")
# RFC 6455 section 9.1: a quoted value must be a token once it is unquoted; a backslash quotes any character.
_PARAMETER = re.compile(
    rf'[ \t]*({_CHARACTERS})[ \t]*(?:=[ \t]*(?:({_CHARACTERS})|"((?:[^"\\]|\\.)*)")[ \t]*)?'
)
_WHOLE = re.compile(_CHARACTERS)


class Handshake:
    """A client's request to open a WebSocket, validated.

    Raises PeerError for a request that cannot be accepted: 426 for another protocol version (to be answered with
    `Sec-WebSocket-Version: 13`), otherwise 400.
    """

    __slots__ = ("_key", "_offers", "subprotocols")

    def __init__(self, head: RequestHead) -> None:
        keys: list[bytes] = []
        versions: list[bytes] = []
        extensions: list[bytes] = []
        self.subprotocols: list[str] = []
        for name, value in head.headers:
            if not name.startswith(b"sec-websocket-"):
                continue
            if name == b"sec-websocket-key":
                keys.append(value)
            elif name == b"sec-websocket-version":
                versions.append(value)
            elif name == b"sec-websocket-extensions":
                extensions.append(value)
            elif name == b"sec-websocket-protocol":
                self.subprotocols += _split_list(value)
        if len(versions) > 1:
            raise PeerError(400, "there is more than one Sec-WebSocket-Version header")
        # A client names one version at a time and asks again after a 426 (section 4.4).
        if versions != [VERSION]:
            raise PeerError(426, "only version 13 of the WebSocket protocol is supported")
        if len(keys) != 1 or not _is_key(keys[0]):
            raise PeerError(
                400, "a WebSocket handshake needs one Sec-WebSocket-Key, of 16 bytes in base64"
            )
        self._key = keys[0]
        self._offers = parse_extensions(b", ".join(extensions).decode("latin-1"))

    def negotiate_deflate(self) -> DeflateParameters | None:
        """Return the parameters of the first acceptable offer of permessage-deflate, or None."""
        return negotiate(self._offers)

    def accept_headers(
        self,
        subprotocol: str | None,
        deflate: DeflateParameters | None,
        extra: AppHeaders,
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers of the 101 response, with `extra`, those of the application.

        Raise AppProtocolError for a subprotocol that was not offered, and for extra headers that are malformed or
        that only the server may set. `frame_switch` checks the characters of the headers.
        """
        digest = hashlib.sha1(self._key + _ACCEPT_GUID, usedforsecurity=False).digest()
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise AppProtocolError(
                    f"the client did not offer the subprotocol {subprotocol!r};"
                    ' scope["subprotocols"] has what it offered'
                )
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        if deflate is not None:
            headers.append((b"sec-websocket-extensions", deflate.header_value))
        for name, value in _pairs(extra):
            if type(name) is bytes and name.lower() in _OWNED_HEADERS:
                advice = (
                    "; give the message a subprotocol instead"
                    if name.lower() == b"sec-websocket-protocol"
                    else ""
                )
                raise AppProtocolError(
                    f"the header {name!r} of a WebSocket handshake is the server's to set{advice}"
                )
            headers.append((name, value))
        return headers


def parse_extensions(value: str) -> list[Offer]:
    """Return the extensions that a Sec-WebSocket-Extensions header lists.

    Raise PeerError when `value` violates the grammar of RFC 6455 section 9.1, which requires the recipient to fail
    the connection. Empty list elements are ignored (RFC 9110 section 5.6.1).
    """
    offers: list[Offer] = []
    position = 0
    while position < len(value):
        if value[position] in " \t,":
            position += 1
            continue
        match = _NAME.match(value, position)
        if match is None:
            raise _malformed(value, position)
        position = match.end()
        parameters: list[tuple[str, str | None]] = []
        while value[position : position + 1] == ";":
            parameter = _PARAMETER.match(value, position + 1)
            if parameter is None:
                raise _malformed(value, position)
            name, token, quoted = parameter.groups()
            if quoted is not None:
                token = re.sub(r"\\(.)", r"\1", quoted)
                if _WHOLE.fullmatch(token) is None:
                    raise _malformed(value, parameter.start(3))
            parameters.append((name, token))
            position = parameter.end()
        if value[position : position + 1] not in ("", ","):
            raise _malformed(value, position)
        offers.append((match[1], parameters))
    return offers


def _malformed(value: str, position: int) -> PeerError:
    return PeerError(
        400,
        "the Sec-WebSocket-Extensions header is malformed at "
        + ascii(value[position : position + 20]),
    )


def _pairs(headers: AppHeaders) -> list[tuple[Any, Any]]:
    try:
        return [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        raise AppProtocolError("headers must be a list of pairs of bytes") from None


def _split_list(value: bytes) -> list[str]:
    return [part.strip() for part in value.decode("latin-1").split(",") if part.strip()]


def _is_key(value: bytes) -> bool:
    # RFC 6455 section 4.2.1: 16 bytes in base64.
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
