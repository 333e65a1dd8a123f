"""Reads the corpus. The format is described in README.md; a file that breaks it is named by the error."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgireload.http.request import RequestLimits

FOLDER = Path(__file__).parent
ENDS = ("kept", "closed", "refused", "incomplete", "upgraded")

_ESCAPE = re.compile(
    r"\\(?:\{(?P<times>\d+)\*(?P<text>[^{}]+)\}|x(?P<hex>[0-9a-f]{2})|(?P<letter>[rnt0\\])|(?P<join>\n))"
    r"|(?P<line_end>\n)|(?P<plain>[\x20-\x5b\x5d-\x7e])"
)
_LETTERS = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


class CorpusError(Exception):
    """A corpus file is not written as README.md asks."""


@dataclass(frozen=True)
class ExpectedRequest:
    """One request that a server must find, with names and values as an application gets them."""

    method: str
    path: bytes
    query: bytes = b""
    version: str = "1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    keep_alive: bool = True
    expects_continue: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Case:
    name: str
    """Folder and file, without suffix."""
    data: bytes
    about: str
    source: str
    ends: str
    requests: tuple[ExpectedRequest, ...] = ()
    status: int | None = None
    rest: bytes = b""
    limits: RequestLimits = field(default_factory=RequestLimits)


def decode(text: str) -> bytes:
    """Return the bytes that `text` stands for. Raise CorpusError at what is no part of the format."""
    pieces = []
    position = 0
    if re.search(" $", text, re.MULTILINE):
        raise CorpusError(r"a space at the end of a line is written \x20")
    while position < len(text):
        match = _ESCAPE.match(text, position)
        if match is None:
            raise CorpusError(f"what is meant by {text[position : position + 8]!r}?")
        position = match.end()
        if match["times"]:
            pieces.append(int(match["times"]) * decode(match["text"]))
        elif match["hex"]:
            pieces.append(bytes.fromhex(match["hex"]))
        elif match["letter"]:
            pieces.append(_LETTERS[match["letter"]])
        elif match["line_end"]:
            pieces.append(b"\r\n")
        elif match["plain"]:
            pieces.append(match["plain"].encode())
    return b"".join(pieces)


def read_outcome(name: str, data: bytes, outcome: dict[str, Any]) -> Case:
    """Return the case that `outcome`, the content of a .toml file, describes. Raise CorpusError."""
    fields = dict(outcome)
    requests = tuple(_read_request(table) for table in fields.pop("request", []))
    try:
        limits = RequestLimits(**fields.pop("limits", {}))
        case = Case(
            name=name,
            data=data,
            requests=requests,
            limits=limits,
            rest=decode(fields.pop("rest", "")),
            **fields,
        )
    except TypeError as error:
        raise CorpusError(str(error)) from None
    if case.ends not in ENDS:
        raise CorpusError(f"`ends` is one of {', '.join(ENDS)}")
    if (case.status is not None) is not (case.ends == "refused"):
        raise CorpusError("`status` belongs to a refusal, and only to that")
    if case.ends not in ("refused", "incomplete") and not all(each.whole for each in requests):
        raise CorpusError("a request that is not whole is refused or incomplete")
    if [each for each in requests[:-1] if not (each.whole and each.keep_alive)]:
        raise CorpusError("nothing can follow a request that is not whole or ends the connection")
    if requests and (case.ends == "closed") is requests[-1].keep_alive and requests[-1].whole:
        raise CorpusError("`closed` and `keep_alive = false` come together")
    return case


def _read_request(table: dict[str, Any]) -> ExpectedRequest:
    fields = dict(table)
    headers = [line.partition(": ") for line in fields.pop("headers", [])]
    for name in ("path", "query", "body"):
        if name in fields:
            fields[name] = decode(fields[name])
    pairs = tuple((decode(name), decode(value)) for name, _, value in headers)
    try:
        return ExpectedRequest(headers=pairs, **fields)
    except TypeError as error:
        raise CorpusError(f"in a request: {error}") from None


def load(path: Path) -> Case:
    """Return the case of `path`, a .http file. Raise CorpusError that names the file at fault."""
    name = str(path.relative_to(FOLDER).with_suffix(""))
    outcome_path = path.with_suffix(".toml")
    try:
        data = decode(path.read_bytes().decode("ascii"))
        outcome = tomllib.loads(outcome_path.read_text())
        return read_outcome(name, data, outcome)
    except FileNotFoundError:
        raise CorpusError(f"{name}.http has no {outcome_path.name} beside it") from None
    except (CorpusError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(f"{name}: {error}") from None


def load_all() -> list[Case]:
    """Return every case, in the order of their names. Raise CorpusError for a file left alone."""
    paths = sorted(FOLDER.rglob("*.http"))
    alone = {path.with_suffix("") for path in FOLDER.rglob("*.toml")} - {
        path.with_suffix("") for path in paths
    }
    if alone:
        raise CorpusError(f"without a .http file: {', '.join(sorted(map(str, alone)))}")
    return [load(path) for path in paths]
