"""The server-sent events for open pages. Pure.

    state   the served generation or failure; a page of another one reloads
    css     a style sheet has changed; the page replaces it
    image   an image has changed; the page replaces it
    page    a file has changed that a page cannot replace; the page reloads

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import os
from typing import Literal

STREAM_PATH = "/.asgireload/reload"
"""The path of the stream below the root path. Routes of applications do not begin with a dot."""
RETRY_MILLISECONDS = 100
"""Time after which a browser reconnects when its stream has ended because of a reload."""
STOPPED_RETRY_MILLISECONDS = 1_000
"""Time after which a browser reconnects when the server has stopped; it may be started again later."""
HEARTBEAT = b":\n\n"
"""A comment, sent so that proxies do not close a silent stream."""

EventName = Literal["state", "css", "image", "page"]

_STYLES = frozenset({".css"})
_IMAGES = frozenset({".avif", ".bmp", ".gif", ".ico", ".jpeg", ".jpg", ".png", ".svg", ".webp"})


def frame_event(name: EventName, data: str) -> bytes:
    """Return one event. Line ends in `data`, which would end the field, are replaced by spaces."""
    return f"event: {name}\ndata: {' '.join(data.splitlines())}\n\n".encode("utf-8", "replace")


def frame_retry(milliseconds: int) -> bytes:
    """Return the field that sets the time after which a browser reconnects."""
    return f"retry: {milliseconds}\n\n".encode()


def event_of(path: str) -> tuple[EventName, str]:
    """Return the event for a changed file that is not code: the name of the event, and the name of the file.

    A page compares the file name with its links, since the server does not know the URL under which the application
    serves the file.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _STYLES:
        return "css", name
    if suffix in _IMAGES:
        return "image", name
    return "page", name


def is_exchangeable(path: str) -> bool:
    """Return whether pages can replace this file without a reload."""
    return event_of(path)[0] != "page"
