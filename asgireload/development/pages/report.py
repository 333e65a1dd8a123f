"""The report of a failure, as values that fit into one message.

A report contains the places, source lines and messages of a traceback. It contains neither values of variables nor
the environment, which may be secret.
"""

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["import", "lifespan", "crash", "request"]
Relation = Literal["", "cause", "context", "member"]

REPORT_LIMIT = 96 * 1024
"""Longest report in bytes of JSON; it is sent in one message, which `ipc.channel.MESSAGE_LIMIT` bounds."""


class Frame(msgspec.Struct, frozen=True):
    """One frame of a traceback, with the source around it at the time of the report."""

    file: str
    shown: str
    """The path for display: relative to the application's directory, or to the directory of the library."""
    line: int
    """Line number from 1; 0 when it is unknown."""
    function: str
    """Empty for the place of a syntax error."""
    is_user: bool
    """The file belongs to the application, not to a library."""
    first_line: int = 0
    """Line number of the first of `lines`."""
    lines: tuple[str, ...] = ()
    mark: tuple[int, int] | None = None
    """Start and end of the fault in the failing line, in characters; None: the whole line."""


class ErrorPart(msgspec.Struct, frozen=True):
    """One exception of a chain or group."""

    relation: Relation
    """The relation to the part before: its cause, its context, or a member of the group. Empty for the first."""
    type: str
    """The type of the exception; empty when the message is enough, as for errors of asgireload."""
    message: str
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    """Frames, most recent call last, without those of asgireload and of the import machinery."""
    left_out: int = 0
    """Number of omitted frames, which are missing after the first half of `frames`."""


class FailureReport(msgspec.Struct, frozen=True, tag=True):
    """Why the application cannot answer requests."""

    kind: Kind
    stage: str
    """The stage that failed: import, lifespan, health …"""
    summary: str
    """The failure in one line."""
    errors: tuple[ErrorPart, ...] = ()
    """The raised exception first, then its causes and members; empty when only a text is known."""
    text: str = ""
    """The whole traceback in Python's format."""

    @property
    def digest(self) -> str:
        """A digest that is equal for equal failures, so that a page need not reload for the same failure."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def bounded(report: FailureReport) -> FailureReport:
    """Return the report, without source lines and then without frames as long as it exceeds REPORT_LIMIT."""
    for cut in (_keep, _without_library_source, _without_source, _without_frames):
        smaller = cut(report)
        if len(msgspec.json.encode(smaller)) <= REPORT_LIMIT:
            return smaller
    return msgspec.structs.replace(report, errors=(), text="")


def _keep(report: FailureReport) -> FailureReport:
    return report


def _without_library_source(report: FailureReport) -> FailureReport:
    return _with_frames(report, lambda frame: frame if frame.is_user else _bare(frame))


def _without_source(report: FailureReport) -> FailureReport:
    return _with_frames(report, _bare)


def _without_frames(report: FailureReport) -> FailureReport:
    errors = tuple(
        msgspec.structs.replace(part, frames=(), left_out=part.left_out + len(part.frames))
        for part in report.errors
    )
    return msgspec.structs.replace(report, errors=errors)


def _bare(frame: Frame) -> Frame:
    return msgspec.structs.replace(frame, first_line=0, lines=(), mark=None)


def _with_frames(report: FailureReport, change: Callable[[Frame], Frame]) -> FailureReport:
    errors = tuple(
        msgspec.structs.replace(part, frames=tuple(map(change, part.frames)))
        for part in report.errors
    )
    return msgspec.structs.replace(report, errors=errors)
