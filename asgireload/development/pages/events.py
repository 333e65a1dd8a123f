"""What open pages are told, in the format of server-sent events. Pure.

    state   what is served: a generation, or a failure. A page that shows something else loads itself again.
    css     a style sheet changed: the page exchanges it
    image   an image changed, likewise
    page    something changed that no page can exchange: it loads itself again

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import os
from typing import Literal

STREAM_PATH = "/.asgireload/reload"
"""Below the root path. Nobody else's: the names of routes do not begin with a dot."""
RETRY_MILLISECONDS = 100
"""After which a browser comes back when its stream ended because of a reload."""
STOPPED_RETRY_MILLISECONDS = 1_000
"""The same when the server stops: it may be back, but nobody waits for milliseconds."""
HEARTBEAT = b":\n\n"
"""A comment. What stands between may take a silent stream for a dead one."""

EventName = Literal["state", "css", "image", "page"]

_STYLES = frozenset({".css"})
_IMAGES = frozenset({".avif", ".bmp", ".gif", ".ico", ".jpeg", ".jpg", ".png", ".svg", ".webp"})


def frame_event(name: EventName, data: str) -> bytes:
    """Return one event. A line end in `data` is taken for a space: it would end the field."""
    return f"event: {name}\ndata: {' '.join(data.splitlines())}\n\n".encode("utf-8", "replace")


def frame_retry(milliseconds: int) -> bytes:
    return f"retry: {milliseconds}\n\n".encode()


def event_of(path: str) -> tuple[EventName, str]:
    """Return what pages are told of a changed file that is not code.

    Only the name is told, which is what a page can compare with its links: under which address a file is
    served is the application's secret.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _STYLES:
        return "css", name
    if suffix in _IMAGES:
        return "image", name
    return "page", name


def is_exchangeable(path: str) -> bool:
    """Return whether pages can take up this file without a reload of anything."""
    return event_of(path)[0] != "page"
