"""A failure report as an HTML page. Pure. The page is readable without its script, which reloads it and copies
text.

All values of the report are escaped here. Style and script are in the page, and their digests in its content
security policy, which allows nothing else.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from itertools import groupby

from asgireload.development.pages.report import ErrorPart, FailureReport, Frame, Kind, Relation

LONG_TITLE = 160
"""Characters above which the first line of a message is shown in a smaller font."""
AROUND_CALLERS = 2
"""Source lines shown before and after a call that led to the failing one. The failing call is shown with all source
lines of the report."""

_STYLE = files(__package__).joinpath("page.css").read_text("utf-8")
_SCRIPT = files(__package__).joinpath("page.js").read_text("utf-8")
_KINDS: dict[Kind, str] = {
    "import": "The application could not be imported",
    "lifespan": "The application could not start",
    "crash": "The application’s process died",
    "request": "The application raised an exception",
}
_RELATIONS: dict[Relation, str] = {
    "": "",
    "cause": "It was caused by",
    "context": "It happened while this was handled",
    "member": "The group holds",
}


def render_page(report: FailureReport, stream: str, state: str = "") -> str:
    """Return the page. `stream`: the path of the event stream that its script follows; empty for none.

    `state`: the state in the event stream for which the page does not reload; by default, that of the failure.
    """
    first, *others = report.errors or (ErrorPart("", "", report.summary),)
    return (
        f'<!doctype html>\n<html lang="en" data-state="{_text(state or state_of(report))}"'
        f' data-stream="{_text(stream)}">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(report.summary)}</title>\n"
        # An empty icon keeps browsers from asking for /favicon.ico on every visit.
        '<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{_header(report, first)}{_frames(first)}"
        f"{''.join(_section(part) for part in others)}{_whole_text(report)}"
        "</main>\n<footer><p>Shown because the server runs with <code>--reload</code>. "
        "Values of variables and the environment are not shown.</p></footer>\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def state_of(report: FailureReport) -> str:
    """Return the state for the event stream while the failure is served; a page reloads when the state changes."""
    return f"failure-{report.digest}"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src 'sha256-{_digest(_SCRIPT)}';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)


def _header(report: FailureReport, part: ErrorPart) -> str:
    message = part.message or ("" if part.type else report.summary)
    place = next((frame for frame in reversed(part.frames) if frame.is_user), None)
    where = (
        f'<p class="where">at <code>{_text(place.shown)}:{place.line}</code>{_function(place)}</p>'
        if place is not None
        else ""
    )
    during = f" <span>during {_text(report.stage)}</span>" if report.stage != "import" else ""
    return (
        f'<header><p class="what"><strong>{_KINDS[report.kind]}</strong>{during}'
        '<span class="live" role="status" hidden>waiting for a change</span></p>'
        f"{_type(part)}{_message('h1', message)}{where}{_notes(part)}</header>\n"
    )


def _section(part: ErrorPart) -> str:
    return (
        f'<section><header><p class="relation">{_RELATIONS[part.relation]}</p>{_type(part)}'
        f"{_message('h2', part.message)}{_notes(part)}</header>\n{_frames(part)}</section>\n"
    )


def _message(element: str, message: str) -> str:
    """Return the message as HTML: the first line is the heading, and further lines, often a list, stay as they
    are."""
    title, _, more = message.strip("\n").partition("\n")
    size = ' class="long"' if len(title) > LONG_TITLE else ""
    heading = f"<{element}{size}>{_text(title)}</{element}>" if title else ""
    return heading + (f'<pre class="more">{_text(more)}</pre>' if more.strip() else "")


def _type(part: ErrorPart) -> str:
    return f'<p class="type">{_text(part.type)}</p>' if part.type else ""


def _notes(part: ErrorPart) -> str:
    return "".join(f'<p class="note">{_text(note)}</p>' for note in part.notes)


def _frames(part: ErrorPart) -> str:
    """Return the frames in Python's order. Runs of library frames are folded, unless there are no others."""
    if not part.frames and not part.left_out:
        return ""
    order = '<p class="order">Most recent call last</p>\n' if len(part.frames) > 1 else ""
    has_user = any(frame.is_user for frame in part.frames)
    last = next((frame for frame in reversed(part.frames) if frame.is_user or not has_user), None)
    pieces = []
    halves = [part.frames]
    if part.left_out:
        middle = len(part.frames) // 2
        halves = [part.frames[:middle], part.frames[middle:]]
    for index, half in enumerate(halves):
        if index:
            pieces.append(f'<p class="frame gone">{part.left_out} more calls are not shown</p>\n')
        for is_user, run in groupby(half, key=lambda frame: frame.is_user):
            frames = tuple(run)
            pieces.append(_open(frames, last) if is_user or not has_user else _folded(frames))
    return order + "".join(pieces)


def _open(frames: Iterable[Frame], last: Frame | None) -> str:
    return "".join(_frame(frame, is_whole=frame is last) for frame in frames)


def _folded(frames: tuple[Frame, ...]) -> str:
    packages = ", ".join(dict.fromkeys(_package(frame) for frame in frames))
    count = "1 call" if len(frames) == 1 else f"{len(frames)} calls"
    return (
        f'<details class="library"><summary>{count} in {_text(packages)}</summary>'
        f"{_open(frames, None)}</details>\n"
    )


def _package(frame: Frame) -> str:
    return frame.shown.lstrip("/").split("/")[0].removesuffix(".py")


def _frame(frame: Frame, *, is_whole: bool) -> str:
    folder, slash, name = frame.shown.rpartition("/")
    line = f"<i>:</i>{frame.line}" if frame.line else ""
    code = "".join(_lines(frame, len(frame.lines) if is_whole else AROUND_CALLERS))
    listing = f'<ol class="code">{code}</ol>' if code else ""
    return (
        f'<div class="frame"><div class="head"><span class="place" title="{_text(frame.file)}">'
        f"<i>{_text(folder + slash)}</i><b>{_text(name)}</b>{line}</span>{_function(frame)}</div>"
        f"{listing}</div>\n"
    )


def _function(frame: Frame) -> str:
    if not frame.function or frame.function == "<module>":
        return ""
    return f' <span class="function">in <code>{_text(frame.function)}</code></span>'


def _lines(frame: Frame, around: int) -> Iterator[str]:
    """Yield at most `around` lines before and after the failing one, without empty lines at the start and end."""
    shown = [
        (number, line)
        for number, line in enumerate(frame.lines, frame.first_line)
        if abs(number - frame.line) <= around
    ]
    told = [number for number, line in shown if line.strip() or number == frame.line]
    for number, line in shown:
        if not told or not told[0] <= number <= told[-1]:
            continue
        if number == frame.line:
            yield f'<li data-line="{number}" class="failing">{_marked(line, frame.mark)}</li>'
        else:
            yield f'<li data-line="{number}">{_text(line)}</li>'


def _marked(line: str, mark: tuple[int, int] | None) -> str:
    if mark is None:
        return _text(line)
    start, end = mark
    # A mark after the last character needs a blank to be visible.
    inner = line[start:end] or " "
    return f"{_text(line[:start])}<mark>{_text(inner)}</mark>{_text(line[end:])}"


def _whole_text(report: FailureReport) -> str:
    if not report.text:
        return ""
    is_open = "" if any(part.frames for part in report.errors) else " open"
    return (
        f'<details class="text"{is_open}><summary>Traceback as text</summary>'
        f'<button type="button" id="copy" hidden>Copy</button>'
        f"<pre>{_text(report.text.rstrip())}</pre></details>\n"
    )


def _text(value: str) -> str:
    # NUL cannot be written in HTML, not even as a reference.
    return escape(value.replace("\0", "\N{SYMBOL FOR NULL}"), quote=True)
