"""Make a failure report from an exception, or from the text that a dead process has left.

The only code of the user that runs here is `__str__` of exceptions. Source files are read from disk.
"""

import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator, Sequence

import msgspec

from asgireload.app import format_user_traceback, is_hidden, split_reason, summarize
from asgireload.development.pages.report import (
    ErrorPart,
    FailureReport,
    Frame,
    Kind,
    Relation,
    bounded,
)
from asgireload.errors import AsgireloadError

MOST_ERRORS = 8
"""Most exceptions of a chain or group in a report."""
MOST_FRAMES = 40
"""Most frames of one exception; of an endless recursion both ends are kept."""
SOURCE_AROUND = 5
"""Lines before and after the failing one, in files of the application."""
LIBRARY_AROUND = 2
LINE_LIMIT = 400
"""Most characters of a source line; longer lines are data."""
SUMMARY_LIMIT = 1_000
MESSAGE_LIMIT = 4_000
NOTES_LIMIT = 10
TEXT_LIMIT = 24_000
"""Most characters of a traceback. In JSON a control character takes six bytes."""

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_BETWEEN = re.compile(rf"^({re.escape(_CAUSE)}|{re.escape(_CONTEXT)})$", re.MULTILINE)
_FRAME = re.compile(
    r'  File "(?P<file>[^"\n]+)", line (?P<line>\d{1,9})(?:,? in (?P<function>.+))?'
)
_MARKER = re.compile(r" +[~^]+ *")
_TYPE = re.compile(r"(?P<type>[^\W\d][\w.]*)(?:: (?P<message>.*))?", re.DOTALL)
_LATEST_FIRST = "(most recent call first)"
_GROUP = "+ Exception Group Traceback"


def report_of(
    error: BaseException, app_dir: str, *, kind: Kind = "import", stage: str = "import"
) -> FailureReport:
    """Return the report of an exception of the user's code, or of an AsgireloadError about that code.

    `app_dir`: an absolute path; files below it belong to the application.
    """
    places = SourcePlaces.below(app_dir)
    if isinstance(error, AsgireloadError) and error.__cause__ is None:
        # The text is complete: a wrong import string, or a traceback that a framework gave as the reason.
        summary, text = split_reason(str(error))
        return report_from_text(kind, stage, summary, text, app_dir)
    if isinstance(error, AsgireloadError):
        error = error.__cause__ or error
    return bounded(
        FailureReport(
            kind,
            stage,
            _line(summarize(error)),
            tuple(_parts(error, places)),
            _cut(format_user_traceback(error), TEXT_LIMIT),
        )
    )


def report_from_text(
    kind: Kind, stage: str, summary: str, text: str, app_dir: str
) -> FailureReport:
    """Return the report of a failure of which only a text is known.

    Tracebacks of Python and of `faulthandler` are parsed, so that their frames are shown with source lines.
    """
    errors = tuple(_parts_of_text(summary, text, SourcePlaces.below(app_dir)))
    return bounded(FailureReport(kind, stage, _line(summary), errors, _cut(text, TEXT_LIMIT)))


class SourcePlaces(msgspec.Struct, frozen=True):
    """Distinguishes the application's files from those of libraries."""

    app_dir: str
    libraries: tuple[str, ...]
    """Directories of the standard library and of installed packages, the longest path first."""

    @classmethod
    def below(cls, app_dir: str) -> "SourcePlaces":
        paths = {os.path.realpath(path) for path in sysconfig.get_paths().values()}
        return cls(os.path.realpath(app_dir), tuple(sorted(paths, key=len, reverse=True)))

    def is_user(self, file: str) -> bool:
        """Return whether a file belongs to the application. Installed files do not, also when the virtual
        environment is below the application's directory."""
        below = _below(file, self.app_dir)
        parts = (below if below is not None else file).split(os.sep)
        if file.startswith("<") or not _INSTALLED.isdisjoint(parts):
            return False
        if below is not None:
            return True
        return all(_below(file, library) is None for library in self.libraries)

    def shown(self, file: str) -> str:
        """Return the path relative to the application's directory, or to the directory in which a library is
        installed."""
        if self.is_user(file):
            return _below(file, self.app_dir) or file
        for library in self.libraries:
            below = _below(file, library)
            if below is not None:
                return below
        parts = file.split(os.sep)
        for index in range(len(parts) - 1, -1, -1):
            if parts[index] in _INSTALLED:
                return os.sep.join(parts[index + 1 :])
        return file


_INSTALLED = frozenset({"site-packages", "dist-packages"})


def _below(file: str, directory: str) -> str | None:
    prefix = directory.rstrip(os.sep) + os.sep
    return file[len(prefix) :] if file.startswith(prefix) else None


# --- from an exception ----------------------------------------------------------------------------


def _parts(error: BaseException, places: SourcePlaces) -> Iterator[ErrorPart]:
    """Yield the exception, then the members of its group, then its cause or context."""
    waiting: list[tuple[BaseException, Relation]] = [(error, "")]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_ERRORS:
        error, relation = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield _part(error, relation, places)
        if error.__cause__ is not None:
            waiting.append((error.__cause__, "cause"))
        elif error.__context__ is not None and not error.__suppress_context__:
            waiting.append((error.__context__, "context"))
        if isinstance(error, BaseExceptionGroup):
            waiting += [(member, "member") for member in reversed(error.exceptions)]


def _part(error: BaseException, relation: Relation, places: SourcePlaces) -> ErrorPart:
    spots = [
        _Spot(frame.filename, frame.lineno or 0, frame.name, _columns(frame))
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_hidden(frame.filename)
    ]
    message = _message(error)
    if isinstance(error, SyntaxError) and error.filename is not None:
        spots.append(_syntax_spot(error))
        message = str(error.msg)
    notes = getattr(error, "__notes__", None)
    kept, left_out = _halves(spots)
    return ErrorPart(
        relation,
        _type_name(error),
        _cut(message, MESSAGE_LIMIT),
        tuple(_cut(note, MESSAGE_LIMIT) for note in notes[:NOTES_LIMIT] if isinstance(note, str))
        if isinstance(notes, list)
        else (),
        tuple(_frame(spot, places) for spot in kept),
        left_out,
    )


class _Spot(msgspec.Struct, frozen=True):
    """A frame before its source is read."""

    file: str
    line: int
    function: str
    columns: tuple[int, int | None] | None = None
    """Start and end of the fault in the source line, in characters; end None: the end of the line."""
    text: str | None = None
    """The source line, for a file that cannot be read."""


def _columns(frame: traceback.FrameSummary) -> tuple[int, int | None] | None:
    """Return the columns of a frame, which are UTF-8 bytes (PEP 657), in characters; None when they are unknown."""
    if frame.colno is None or frame.lineno is None:
        return None
    line = linecache.getline(frame.filename, frame.lineno).encode("utf-8", "replace")
    start = len(line[: frame.colno].decode("utf-8", "replace"))
    if frame.end_lineno != frame.lineno or frame.end_colno is None:
        return start, None
    return start, len(line[: frame.end_colno].decode("utf-8", "replace"))


def _syntax_spot(error: SyntaxError) -> _Spot:
    line, offset, end = error.lineno or 0, error.offset or 0, error.end_offset or 0
    columns: tuple[int, int | None] | None = None
    if offset > 0:
        is_one_line = error.end_lineno in (None, line)
        columns = offset - 1, max(end - 1, offset) if is_one_line else None
    return _Spot(error.filename or "", line, "", columns, error.text)


def _frame(spot: _Spot, places: SourcePlaces) -> Frame:
    is_user = places.is_user(spot.file)
    around = SOURCE_AROUND if is_user else LIBRARY_AROUND
    source = _source(spot.file)
    if 0 < spot.line <= len(source):
        first = max(spot.line - around, 1)
        lines = source[first - 1 : spot.line + around]
    elif spot.text is not None:
        first, lines = spot.line, spot.text.splitlines()[:1]
    else:
        first, lines = 0, []
    shown = tuple(_encodable(line.rstrip("\r\n")[:LINE_LIMIT]) for line in lines)
    mark = None
    if shown and spot.columns is not None:
        mark = _mark(shown[spot.line - first], spot.columns)
    return Frame(
        _encodable(spot.file),
        _encodable(places.shown(spot.file)),
        spot.line,
        _encodable(spot.function),
        is_user,
        first,
        shown,
        mark,
    )


def _source(file: str) -> list[str]:
    """Return the present lines of a file; an empty list when it cannot be read as Python source."""
    try:
        # The path may come from a text, and name a device, which would be read for ever.
        if not os.path.isfile(file):
            return []
        linecache.checkcache(file)
        return linecache.getlines(file)
    except ValueError:
        return []  # an invalid path, such as one with NUL


def _mark(line: str, columns: tuple[int, int | None]) -> tuple[int, int] | None:
    """Return the marked part of a line; None when the mark covers the whole line or is invalid."""
    start = columns[0]
    end = len(line.rstrip()) if columns[1] is None else columns[1]
    if start < 0 or end <= start or start > len(line):
        return None
    if line[:start].strip() == "" and line[end:].strip() == "" and start < len(line.rstrip()):
        return None
    # A mark after the last character, such as for a bracket that was never closed, has the width 1.
    return start, max(min(end, len(line)), start + 1)


def _halves(spots: list[_Spot]) -> tuple[list[_Spot], int]:
    if len(spots) <= MOST_FRAMES:
        return spots, 0
    half = MOST_FRAMES // 2
    return spots[:half] + spots[-half:], len(spots) - 2 * half


def _type_name(error: BaseException) -> str:
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return summarize(error)
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the place of the failure
        return "<its __str__ fails>"


# --- from text ------------------------------------------------------------------------------------


def _parts_of_text(summary: str, text: str, places: SourcePlaces) -> list[ErrorPart]:
    if not _FRAME.search(text) or _GROUP in text:
        return []
    if _LATEST_FIRST in text:
        return [_thread_part(summary, text, places)]
    pieces = _BETWEEN.split(text)
    blocks, separators = pieces[::2], pieces[1::2]
    parts = []
    relation: Relation = ""
    # Python writes the oldest first.
    for index in range(len(blocks) - 1, max(-1, len(blocks) - 1 - MOST_ERRORS), -1):
        parts.append(_block_part(blocks[index], relation, places))
        if index > 0:
            relation = "cause" if separators[index - 1] == _CAUSE else "context"
    return parts


def _block_part(block: str, relation: Relation, places: SourcePlaces) -> ErrorPart:
    spots = _spots(block.splitlines())
    title, _ = split_reason(block)
    said = block[block.rfind(title) :].strip() if title else ""
    match = _TYPE.fullmatch(said)
    kept, left_out = _halves([spot for spot in spots if not is_hidden(spot.file)])
    return ErrorPart(
        relation,
        match["type"] if match else "",
        _cut((match["message"] or "") if match else said, MESSAGE_LIMIT),
        frames=tuple(_frame(spot, places) for spot in kept),
        left_out=left_out,
    )


def _thread_part(summary: str, text: str, places: SourcePlaces) -> ErrorPart:
    """Parse the output of `faulthandler`: the stack of the thread that died, most recent call first."""
    stacks = text.split(_LATEST_FIRST)
    heads = ["", *(stack.rstrip().rpartition("\n")[2] for stack in stacks[:-1])]
    chosen = next((index for index, head in enumerate(heads) if "Current thread" in head), 1)
    spots = _spots(re.split(r"\n\n|\n(?=\S)", stacks[chosen].lstrip(":\n"))[0].splitlines())
    kept, left_out = _halves([spot for spot in reversed(spots) if not is_hidden(spot.file)])
    return ErrorPart(
        "",
        "",
        _cut(summary, MESSAGE_LIMIT),
        frames=tuple(_frame(spot, places) for spot in kept),
        left_out=left_out,
    )


def _spots(lines: Sequence[str]) -> list[_Spot]:
    """Return the frames of one traceback, with the source lines that it shows."""
    spots = []
    for index, line in enumerate(lines):
        match = _FRAME.fullmatch(line)
        if match is None:
            continue
        source = lines[index + 1] if index + 1 < len(lines) else ""
        if not source.startswith("    ") or _FRAME.fullmatch(source):
            source = ""
        marker = lines[index + 2] if source and index + 2 < len(lines) else ""
        file, number = match["file"], int(match["line"])
        columns = None
        if _MARKER.fullmatch(marker):
            # A traceback shows the source line stripped, and indented by four blanks.
            lines_of_file = _source(file)
            real = lines_of_file[number - 1] if 0 < number <= len(lines_of_file) else ""
            shift = len(real) - len(real.lstrip()) - 4 if real.strip() else -4
            start = len(marker) - len(marker.lstrip()) + shift
            columns = start, start + len(marker.strip())
        spots.append(_Spot(file, number, match["function"] or "", columns, source.strip() or None))
    return spots


def _cut(text: str, limit: int) -> str:
    """Return `text`, cut in the middle when it is longer than `limit`, since the ends of a traceback matter
    most."""
    text = _encodable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _line(text: str) -> str:
    return _encodable(text[:SUMMARY_LIMIT])


def _encodable(text: str) -> str:
    """Return `text` without surrogates: file names may contain undecodable bytes (PEP 383), which UTF-8 cannot
    encode."""
    return text.encode("utf-8", "backslashreplace").decode()
