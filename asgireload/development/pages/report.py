"""What a failure looks like, as values: small enough for one message, and free of anything secret.

A report holds what a traceback holds (places, source lines, messages) and nothing else of the process: no
values of variables and no environment.
"""

import hashlib
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["import", "lifespan", "crash", "request"]
Relation = Literal["", "cause", "context", "member"]

REPORT_LIMIT = 96 * 1024
"""Longest report in bytes of JSON: it travels in one message, of which `ipc.channel.MESSAGE_LIMIT` is the bound."""


class Frame(msgspec.Struct, frozen=True):
    """One place in the code, with the source around it as it was when the failure was reported."""

    file: str
    shown: str
    """The path as people want to read it: below the application's directory, or below the library's."""
    line: int
    """From 1; 0 where it is not known."""
    function: str
    """Empty for the place of a syntax error."""
    is_user: bool
    """It belongs to the application, not to a library."""
    first_line: int = 0
    """Number of the first of `lines`."""
    lines: tuple[str, ...] = ()
    mark: tuple[int, int] | None = None
    """From and to which character of the failing line the fault lies; None: all of it."""


class ErrorPart(msgspec.Struct, frozen=True):
    """One exception of a chain or group."""

    relation: Relation
    """How it belongs to the one before it: its cause, what was being handled, or a member of the group."""
    type: str
    """Empty where the message says all, as with errors of our own."""
    message: str
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    """Most recent call last. Frames of asgireload and of the import machinery are left out."""
    left_out: int = 0
    """How many frames more there were; they are missing behind the first half."""


class FailureReport(msgspec.Struct, frozen=True, tag=True):
    """Why the application cannot answer."""

    kind: Kind
    stage: str
    """What was being done: import, lifespan, health …"""
    summary: str
    """One line."""
    errors: tuple[ErrorPart, ...] = ()
    """The one that came out first; empty where only a text is known."""
    text: str = ""
    """The whole traceback as Python writes it."""

    @property
    def digest(self) -> str:
        """Equal for equal failures: a page need not be shown anew for the same one."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def bounded(report: FailureReport) -> FailureReport:
    """Return the report, without source lines or even frames where it would be longer than REPORT_LIMIT."""
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
