"""Read and check fields of the WebSocket messages that applications send. Pure.

Source: the ASGI WebSocket message format. A field of the wrong type raises AppProtocolError, which names the field.
"""

from asgireload.asgi import Message
from asgireload.errors import AppProtocolError


def payload_of(message: Message) -> str | bytes:
    """Return the payload of websocket.send: text as str, binary data as bytes."""
    text = message.get("text")
    data = message.get("bytes")
    if text is not None and data is None:
        if not isinstance(text, str):
            raise AppProtocolError(f"text must be a str, not {type(text).__name__}")
        return text
    if data is not None and text is None:
        if type(data) is not bytes:
            if not isinstance(data, bytes | bytearray | memoryview):
                raise AppProtocolError(f"bytes must be bytes, not {type(data).__name__}")
            data = bytes(data)
        return data
    raise AppProtocolError("websocket.send needs either text or bytes")


def close_of(message: Message) -> tuple[int, str]:
    """Return code and reason of websocket.close, 1000 and "" by default."""
    code = message.get("code")
    reason = message.get("reason")
    if code is None:
        code = 1000
    if reason is None:
        reason = ""
    if not isinstance(code, int):
        raise AppProtocolError(f"a close code is a number, not {code!r}")
    if not isinstance(reason, str):
        raise AppProtocolError(f"a close reason is a str, not {type(reason).__name__}")
    return code, reason


def subprotocol_of(message: Message) -> str | None:
    """Return the subprotocol of websocket.accept, or None."""
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise AppProtocolError(
            f"the subprotocol of websocket.accept must be a str, not {type(subprotocol).__name__}"
        )
    return subprotocol


def denial_status_of(message: Message) -> int:
    """Return the status of websocket.http.response.start."""
    status = message.get("status")
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise AppProtocolError(f"a denial response needs a status from 200 to 599, not {status!r}")
    return status
