"""Access log entries, and formats, which are compiled once into functions that render an entry. Pure.

A format is a preset (`uvicorn`, `common`, `combined`, `json`) or text with atoms in the syntax of gunicorn:
`%(h)s %(m)s "%({user-agent}i)s" %({slot}x)s`. Values from clients are escaped, and so stay inside their fields.
"""

import base64
import binascii
import fnmatch
import http
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from asgireload.errors import ConfigError, closest
from asgireload.log.escaping import field, json_text
from asgireload.log.place import Place
from asgireload.log.times import clf_time, iso_time

Headers = Sequence[tuple[bytes, bytes]]


class AccessEntry(msgspec.Struct):
    """A request with its response, made when the last byte was written or the client has left.

    It is not frozen, because one is made for each request, and to make a frozen one takes three times as long.
    """

    client: tuple[str, int] | None
    """None for a Unix socket."""
    method: str
    target: str
    """Path with query, percent-encoded as the client sent them."""
    http_version: str
    scheme: str
    status: int
    """Status of the response; 0 when the client left before it, 101 for an accepted WebSocket."""
    request_headers: Headers
    response_headers: Headers
    """The headers that the application has sent."""
    body_bytes: int
    """Bytes of the response body without framing; for a WebSocket, bytes of the messages that were sent."""
    duration_ns: int
    """From the head of the request to the last byte of the response."""
    started_at: float
    """Wall clock time at which the head was read."""
    is_complete: bool = True
    """False for a truncated response."""
    kind: Literal["http", "websocket"] = "http"
    request_id: str | None = None
    close_code: int | None = None
    """The close code of a WebSocket."""
    begun_ns: int | None = None
    """For a stream of server-sent events, the time from the head of the request to the head of the response, since
    the duration depends on the client. None for every other response."""


Render = Callable[[AccessEntry], str]

UVICORN = "uvicorn"
JSON = "json"
COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
COMBINED = f'{COMMON} "%(f)s" "%(a)s"'
PRESETS = (UVICORN, "common", "combined", JSON)

ABSENT = "-"
_Getter = Callable[[AccessEntry], object]

_ATOM = re.compile(r"%\((?P<name>[^()]*)\)(?P<width>-?\d{0,3})[sd]")
_BRACED = re.compile(r"\{(?P<name>[^{}]+)\}(?P<source>.)")
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_NS = 1_000_000_000


def compile_format(text: str, place: Place) -> Render:
    """Return a function that renders an entry as a line, for this process.

    The function computes only the atoms that the format names. The preset `uvicorn` cannot be compiled:
    `log.AccessFormatter` makes its lines. Raise ConfigError, which names the column, for an invalid format.
    """
    if text == JSON:
        return _json_render(place)
    if text == "common":
        text = COMMON
    elif text == "combined":
        text = COMBINED
    template, getters = _compile(text, place)

    def render(entry: AccessEntry) -> str:
        return template % tuple([get(entry) for get in getters])

    return render


def check_format(text: str) -> None:
    """Raise ConfigError unless `text` is a preset or a valid format."""
    if text != UVICORN:
        compile_format(text, Place("worker"))


def _compile(text: str, place: Place) -> tuple[str, list[_Getter]]:
    """Return a template for the % operator, and the functions that return its values."""
    template: list[str] = []
    getters: list[_Getter] = []
    position = 0
    is_quoted = False
    while position < len(text):
        character = text[position]
        if character != "%":
            if not character.isprintable() and character != "\t":
                raise _error(position, f"{character!r} cannot be in a line")
            if character == '"':
                is_quoted = not is_quoted
            template.append(character)
            position += 1
        elif text.startswith("%%", position):
            template.append("%%")
            position += 2
        else:
            match = _ATOM.match(text, position)
            if match is None:
                raise _error(position, "% begins neither an atom such as %(h)s nor %%")
            getters.append(_atom(match["name"], position, place, is_quoted=is_quoted))
            template.append(f"%{match['width']}s")
            position = match.end()
    if not getters:
        near = closest(text, PRESETS)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(
            f"{text!r} is none of {', '.join(PRESETS)}, and has no atom such as %(h)s{hint}"
        )
    return "".join(template), getters


def _error(position: int, reason: str) -> ConfigError:
    return ConfigError(f"column {position + 1}: {reason}")


# --- atoms ----------------------------------------------------------------------------------------


def _atom(name: str, position: int, place: Place, *, is_quoted: bool) -> _Getter:
    """Return the function that returns the value of an atom. Raise ConfigError for an unknown atom."""
    braced = _BRACED.fullmatch(name)
    if braced is None:
        if name in _PLAIN:
            return _PLAIN[name]
        if name in _FROM_CLIENT:
            return _safe(_FROM_CLIENT[name], is_quoted=is_quoted)
        known = (*_PLAIN, *_FROM_CLIENT)
        raise _error(
            position,
            f"there is no atom %({name})s; there are {', '.join(known)},"
            " {header}i, {header}o, {variable}e and {name}x",
        )
    inner, source = braced["name"], braced["source"]
    if source == "i":
        return _safe(_request_header(inner), is_quoted=is_quoted)
    if source == "o":
        return _safe(_response_header(inner), is_quoted=is_quoted)
    if source == "e":
        return _constant(field(os.environ.get(inner, ""), is_quoted=is_quoted))
    if source != "x":
        raise _error(position, f"there is no atom %({name})s: after {{…}} comes i, o, e or x")
    constants = _of_place(place)
    if inner in constants:
        return _constant(constants[inner])
    if inner not in _OURS:
        known = (*constants, *_OURS)
        raise _error(
            position, f"there is no atom %({name})s; {{…}}x knows {', '.join(sorted(known))}"
        )
    return _OURS[inner]


def _constant(value: object) -> _Getter:
    return lambda entry: value


def _safe(get: Callable[[AccessEntry], str], *, is_quoted: bool) -> _Getter:
    return lambda entry: field(get(entry), is_quoted=is_quoted)


def _of_place(place: Place) -> Mapping[str, object]:
    return {
        "slot": ABSENT if place.slot is None else place.slot,
        "generation": ABSENT if place.generation is None else place.generation,
        "role": place.role,
        "pid": os.getpid(),
    }


def _request_header(name: str) -> Callable[[AccessEntry], str]:
    wanted = name.lower().encode("latin-1", "replace")
    return lambda entry: header_text(entry.request_headers, wanted)


def _response_header(name: str) -> Callable[[AccessEntry], str]:
    wanted = name.lower().encode("latin-1", "replace")
    return lambda entry: header_text(entry.response_headers, wanted)


def header_text(headers: Headers, name: bytes) -> str:
    """Return the values of a header, joined by commas (RFC 9110 section 5.3); "" if there is none.

    `name` is lowercase. Bytes that are not UTF-8 are decoded as Latin-1, so that no byte is lost.
    """
    values = [value for key, value in headers if key == name or key.lower() == name]
    if not values:
        return ""
    value = values[0] if len(values) == 1 else b", ".join(values)
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return bytes(value).decode("latin-1")


def user_name(headers: Headers) -> str:
    """Return the user name of Basic credentials (RFC 7617 section 2); "" if there are none."""
    scheme, _, credentials = header_text(headers, b"authorization").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        return ""
    name, colon, _ = decoded.partition(b":")
    return name.decode("utf-8", "backslashreplace") if colon else ""


def _path(entry: AccessEntry) -> str:
    return entry.target.partition("?")[0]


def _query(entry: AccessEntry) -> str:
    return entry.target.partition("?")[2]


def _request_line(entry: AccessEntry) -> str:
    # The line is three words, separated by spaces; so a space within a word is escaped.
    words = (entry.method, entry.target, f"HTTP/{entry.http_version}")
    return " ".join([field(word, is_quoted=True).replace(" ", "\\x20") for word in words])


_PLAIN: Mapping[str, _Getter] = {
    "l": _constant(ABSENT),
    "t": lambda entry: clf_time(int(entry.started_at)),
    "r": _request_line,
    "R": _request_line,
    "s": lambda entry: entry.status or ABSENT,
    "st": lambda entry: _PHRASES.get(entry.status, ABSENT),
    "H": lambda entry: f"HTTP/{entry.http_version}",
    "b": lambda entry: entry.body_bytes or ABSENT,
    "B": lambda entry: entry.body_bytes,
    "T": lambda entry: entry.duration_ns // _NS,
    "D": lambda entry: entry.duration_ns // 1000,
    "M": lambda entry: entry.duration_ns // 1_000_000,
    "L": lambda entry: f"{entry.duration_ns / _NS:.6f}",
    # Not a constant: this module may be imported before a fork.
    "p": lambda entry: f"<{os.getpid()}>",
    "S": lambda entry: entry.scheme,
}
"""Atoms whose values come from the server, or were checked or escaped."""
_FROM_CLIENT: Mapping[str, Callable[[AccessEntry], str]] = {
    # A proxy may have sent the address, so it is escaped.
    "h": lambda entry: entry.client[0] if entry.client is not None else "",
    "u": lambda entry: user_name(entry.request_headers),
    "m": lambda entry: entry.method,
    "U": _path,
    "Uq": lambda entry: entry.target,
    "q": _query,
    "f": lambda entry: header_text(entry.request_headers, b"referer"),
    "a": lambda entry: header_text(entry.request_headers, b"user-agent"),
}
_OURS: Mapping[str, _Getter] = {
    "request_id": lambda entry: field(entry.request_id or "", is_quoted=False),
    "client_port": lambda entry: entry.client[1] if entry.client is not None else ABSENT,
    "scheme": lambda entry: entry.scheme,
    "kind": lambda entry: entry.kind,
    "complete": lambda entry: "yes" if entry.is_complete else "no",
    "close_code": lambda entry: ABSENT if entry.close_code is None else entry.close_code,
    "time": lambda entry: iso_time(entry.started_at),
    "duration_ms": lambda entry: f"{entry.duration_ns / 1_000_000:.3f}",
}


# --- JSON -----------------------------------------------------------------------------------------


class _JsonLine(msgspec.Struct):
    """The fields of a line, in their order. The names are stable, because programs read them."""

    time: str
    level: str
    logger: str
    kind: str
    client: str | None
    client_port: int | None
    method: str
    path: str
    query: str
    http_version: str
    scheme: str
    status: int | None
    bytes: int
    duration_ms: float
    complete: bool
    request_id: str | None
    close_code: int | None
    referer: str | None
    user_agent: str | None
    role: str
    slot: int | None
    generation: int | None
    pid: int


def _json_render(place: Place) -> Render:
    encode = msgspec.json.Encoder().encode
    level = logging.getLevelName(logging.INFO)
    pid = os.getpid()

    def render(entry: AccessEntry) -> str:
        client, port = entry.client if entry.client is not None else (None, None)
        path, _, query = entry.target.partition("?")
        line = _JsonLine(
            time=iso_time(entry.started_at),
            level=level,
            logger="asgireload.access",
            kind=entry.kind,
            client=client,
            client_port=port,
            method=entry.method,
            path=path,
            query=query,
            http_version=entry.http_version,
            scheme=entry.scheme,
            status=entry.status or None,
            bytes=entry.body_bytes,
            duration_ms=round(entry.duration_ns / 1_000_000, 3),
            complete=entry.is_complete,
            request_id=entry.request_id,
            close_code=entry.close_code,
            referer=header_text(entry.request_headers, b"referer") or None,
            user_agent=header_text(entry.request_headers, b"user-agent") or None,
            role=place.role,
            slot=place.slot,
            generation=place.generation,
            pid=pid,
        )
        return json_text(encode(line))

    return render


def path_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether the path of a target, without its query, matches one of the patterns.

    `*` stands for any characters, `?` for one and `[…]` for one of a set, `/` included (fnmatch); a pattern without
    them is a whole path. Case matters, and the path is compared as it was sent, percent-encoded.
    """
    exact: set[str] = set()
    wild: list[str] = []
    for pattern in patterns:
        if any(character in pattern for character in "*?["):
            wild.append(fnmatch.translate(pattern))
        else:
            exact.add(pattern)
    expression = re.compile("|".join(wild)) if wild else None

    def matches(target: str) -> bool:
        path = target.partition("?")[0]
        return path in exact or (expression is not None and expression.match(path) is not None)

    return matches
