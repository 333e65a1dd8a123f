"""Reads and checks fields of the messages that applications send. Pure.

Source: the ASGI HTTP message format. A field of the wrong type raises AppProtocolError, which names the field.
"""

from operator import index
from typing import Any

from asgireload.errors import AppProtocolError


def kind_of(message: Any) -> str:
    """Return the type of a message. Raise AppProtocolError if it is not a mapping with a `type` of str."""
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
    """Return the body `value` of a message of type `kind` as bytes.

    Raise AppProtocolError if it is not bytes-like.
    """
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise AppProtocolError(
            f"the body of {kind} must be bytes, not {type(value).__name__}"
            + ("; encode it" if isinstance(value, str) else "")
        ) from None


def start_of(message: Any) -> tuple[int, tuple[Any, ...]]:
    """Return status and headers of http.response.start. Raise AppProtocolError for a wrong type of either."""
    status = value_of(message, "status", None)
    if type(status) is not int:
        try:
            # HTTPStatus, and integer types of other libraries, but not bool.
            status = None if isinstance(status, bool) else index(status)
        except TypeError:
            status = None
    if status is None:
        given = value_of(message, "status", None)
        raise AppProtocolError(
            f"the status of http.response.start must be an int, not {given!r:.100}"
        )
    return status, pairs_of(value_of(message, "headers", ()))


def pairs_of(headers: Any, what: str = "headers must be pairs of bytes") -> tuple[Any, ...]:
    """Return the headers that an application sends as a tuple of pairs, so that they can be read more than once.

    bytearray and memoryview become bytes, which other servers accept, too. Elements that are not pairs are left as
    they are; `http1/writer.py` refuses them. Raise AppProtocolError with the text `what` for a value that is not
    iterable, and for str and bytes.
    """
    given: tuple[Any, ...]
    if type(headers) is list:
        given = tuple(headers)
    elif type(headers) is str or type(headers) is bytes:
        raise AppProtocolError(f"{what}, not {headers!r:.100}")
    else:
        try:
            given = tuple(headers)
        except TypeError:
            raise AppProtocolError(f"{what}, not {headers!r:.100}") from None
    for pair in given:
        if (
            type(pair) is not tuple
            or len(pair) != 2
            or type(pair[0]) is not bytes
            or type(pair[1]) is not bytes
        ):
            return tuple([_plain_pair(each) for each in given])
    return given


def _plain_pair(pair: Any) -> Any:
    if isinstance(pair, str | bytes):
        return pair
    try:
        return tuple([_plain_bytes(value) for value in pair])
    except TypeError:
        return pair


def _plain_bytes(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value


def value_of(message: Any, key: str, default: Any) -> Any:
    """Return `message.get(key, default)`, which is faster in compiled code for a dict."""
    if isinstance(
        message, dict
    ):  # nearly always; compiled code then calls `dict.get` without a lookup
        return message.get(key, default)
    return message.get(key, default)
