"""One HTTP exchange of the admin interface: the request as a value, its bounded body, and the response.

Errors are answered as problem details (RFC 9457). `api` routes requests, and `access` decides which are allowed.
"""

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from asgireload.asgi import Receive, Scope, Send
from asgireload.errors import AsgireloadError

MAX_BODY_BYTES = 64 * 1024
"""Longest body of a request; the longest command has a few dozen bytes."""
MAX_QUERY_FIELDS = 16

JSON_TYPE = b"application/json"
PROBLEM_TYPE = b"application/problem+json"

HeaderList = tuple[tuple[bytes, bytes], ...]

_COMMON_HEADERS: HeaderList = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # Other sites cannot embed a response, so they learn neither its size nor its timing.
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)


class Request(msgspec.Struct, frozen=True):
    """The parts of an ASGI HTTP scope that the admin interface uses."""

    method: str
    path: str
    query_string: bytes
    headers: HeaderList
    """Names in lower case."""
    client: str | None
    """Host of the peer; None on a Unix socket."""

    @classmethod
    def from_scope(cls, scope: Scope) -> "Request":
        client = scope.get("client")
        return cls(
            method=scope["method"],
            path=scope["path"],
            query_string=scope.get("query_string", b""),
            headers=tuple((bytes(name), bytes(value)) for name, value in scope["headers"]),
            client=client[0] if client else None,
        )

    def header(self, name: bytes) -> str:
        """Return the values of a header, joined as a list field (RFC 9110 section 5.3); empty when absent."""
        return ", ".join(
            value.decode("latin-1") for candidate, value in self.headers if candidate == name
        )

    def query(self) -> dict[str, str]:
        """Return the query parameters. Raise ProblemError (400) when the query is malformed or repeats a name."""
        try:
            fields = parse_qsl(
                self.query_string.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=bool(self.query_string),
                errors="strict",
                max_num_fields=MAX_QUERY_FIELDS,
            )
        except ValueError as error:
            raise ProblemError(400, f"The query string cannot be read: {error}.") from error
        values = dict(fields)
        if len(values) != len(fields):
            raise ProblemError(400, "The query string repeats a parameter.")
        return values


class Response(msgspec.Struct, frozen=True):
    """A response with its whole body; `send_response` adds the common headers."""

    status: int
    body: bytes
    content_type: bytes
    headers: HeaderList = ()


class ProblemError(AsgireloadError):
    """Ends the exchange with a status and problem details.

    `members` are extension members of the problem details, encoded as they are (RFC 9457 section 3.2).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: HeaderList = (),
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.members = members or {}

    def response(self) -> Response:
        # Programs need only the status and the members, so the type is "about:blank", and the title is
        # the status phrase (RFC 9457 section 4.2.1).
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return Response(self.status, msgspec.json.encode(problem), PROBLEM_TYPE, self.headers)


def json_response(value: object, status: int = 200, headers: HeaderList = ()) -> Response:
    """Return a response with `value`, a snapshot, dict or list, encoded as JSON."""
    return Response(status, msgspec.json.encode(value), JSON_TYPE, headers)


async def read_body(request: Request, receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client disconnected before the body was complete.

    Raise ProblemError (413) above MAX_BODY_BYTES; when Content-Length is larger, no body is read.
    """
    announced = request.header(b"content-length")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


async def send_response(response: Response, send: Send, *, head_only: bool) -> None:
    """Send a response; with `head_only` (HEAD) send the same head without the body (RFC 9110 section 9.3.2)."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode("ascii")),
        *_COMMON_HEADERS,
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else response.body})


def _too_large() -> ProblemError:
    return ProblemError(413, f"The body is longer than {MAX_BODY_BYTES} bytes.")
