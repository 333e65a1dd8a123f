"""Fields of the messages that applications send, checked. Pure.

Source: the ASGI HTTP message format. What has the wrong type is an AppProtocolError that names the field.
"""

from typing import Any

from asgireload.errors import AppProtocolError


def kind_of(message: Any) -> str:
    try:
        kind = message["type"]
    except (KeyError, TypeError, IndexError):
        raise AppProtocolError(
            f"an ASGI message is a dict with a type, not {message!r:.100}"
        ) from None
    if not isinstance(kind, str):
        raise AppProtocolError(f"the type of an ASGI message is a str, not {kind!r:.100}")
    return kind


def bytes_of(value: Any, kind: str) -> bytes:
    """Return the body of a message of this type. Raise AppProtocolError where it is no bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise AppProtocolError(
        f"the body of {kind} must be bytes, not {type(value).__name__}"
        + ("; encode it" if isinstance(value, str) else "")
    )


def start_of(message: Any) -> tuple[int, tuple[Any, ...]]:
    """Return status and headers of http.response.start."""
    status = value_of(message, "status", None)
    if not isinstance(status, int) or isinstance(status, bool):
        raise AppProtocolError(
            f"the status of http.response.start must be an int, not {status!r:.100}"
        )
    return int(status), pairs_of(value_of(message, "headers", ()))


def pairs_of(headers: Any, what: str = "headers must be pairs of bytes") -> tuple[Any, ...]:
    """Return what an application gives as headers as a tuple: it is read more than once."""
    if not isinstance(headers, str | bytes):
        try:
            return tuple(headers)
        except TypeError:
            pass  # the error below says more
    raise AppProtocolError(f"{what}, not {headers!r:.100}")


def value_of(message: Any, key: str, default: Any) -> Any:
    if isinstance(
        message, dict
    ):  # what it nearly always is, and then found without a lookup of `get`
        return message.get(key, default)
    return message.get(key, default)
