"""Put one script into pages on their way out. Pure: decides by headers, and changes bytes piece by piece."""

import re
from collections.abc import Iterable
from html import escape

_END = b"</body"
HOLD_LIMIT = 4 * 1024
"""Bytes held back behind what may be the end of the body. More than some comments behind it are no end: the tag
stood in a script or a text, and what was held goes on."""

Header = tuple[bytes, bytes]

_DOCUMENTS = frozenset({b"document", b"iframe", b"frame"})
_FRAGMENTS = frozenset({b"hx-request", b"turbo-frame", b"x-requested-with"})
"""What libraries add when they ask for a part of a page; a script in each part would run many times."""
_VALIDATORS = frozenset({b"etag", b"last-modified", b"content-md5", b"digest", b"content-digest"})
"""They are about the page without the script, and a page that is not modified would name a former generation."""
_WIDE = re.compile(rb"charset\s*=\s*\"?utf-?(16|32)", re.IGNORECASE)
_NONCE = re.compile(r"'nonce-([A-Za-z0-9+/_=-]+)'")
_BODILESS = frozenset({204, 205, 304})
_PARTIAL = 206


def is_navigation(method: str, headers: Iterable[Header]) -> bool:
    """Return whether a whole page is asked for, to be shown.

    Browsers say so in Sec-Fetch-Dest, but only to secure origins and localhost; elsewhere the Accept header
    tells a page from what scripts fetch.
    """
    if method not in {"GET", "POST"}:
        return False
    accepts_html = False
    for name, value in headers:
        if name == b"sec-fetch-dest":
            return value in _DOCUMENTS
        if name in _FRAGMENTS:
            return False
        if name == b"accept" and b"text/html" in value.lower():
            accepts_html = True
    return accepts_html


def takes_script(status: int, headers: Iterable[Header]) -> bool:
    """Return whether a response is a whole page in an encoding whose bytes can be read."""
    if status < 200 or status in _BODILESS or status == _PARTIAL:
        return False
    is_html, is_readable, is_shown = False, True, True
    for raw_name, value in headers:
        name = raw_name.lower()
        if name == b"content-type":
            kind = value.split(b";", 1)[0].strip().lower()
            is_html = kind == b"text/html" and not _WIDE.search(value)
        elif name == b"content-encoding":
            is_readable = value.strip().lower() in {b"", b"identity"}
        elif name == b"content-disposition":
            is_shown = not value.strip().lower().startswith(b"attachment")
    return is_html and is_readable and is_shown


def script_tag(address: str, stream: str, state: str, headers: Iterable[Header]) -> bytes:
    """Return the element. A nonce of the response's content security policy is given to it."""
    nonce = _nonce(headers)
    allowed = f' nonce="{escape(nonce)}"' if nonce else ""
    return (
        f'<script async src="{escape(address)}" data-stream="{escape(stream)}"'
        f' data-state="{escape(state)}"{allowed}></script>'
    ).encode()


def adapted(headers: Iterable[Header], added: int) -> list[Header]:
    """Return the headers of a page that becomes longer by `added` bytes."""
    kept = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in _VALIDATORS:
            continue
        if lowered == b"content-length" and value.isdigit():
            kept.append((name, str(int(value) + added).encode()))
        else:
            kept.append((name, value))
    return kept


def _nonce(headers: Iterable[Header]) -> str:
    """Return the nonce that scripts of the page need, if there is one."""
    for name, value in headers:
        if name.lower() != b"content-security-policy":
            continue
        directives = {
            words[0].lower(): " ".join(words[1:])
            for part in value.decode("latin-1").split(";")
            if (words := part.split())
        }
        for directive in ("script-src-elem", "script-src", "default-src"):
            if directive in directives:
                found = _NONCE.search(directives[directive])
                return found[1] if found else ""
    return ""


class Injector:
    """Takes the pieces of a page and gives them back with `inserted` before the last `</body>`, or at the end.

    What has passed is gone, so the end of the body is held back until nothing follows it: `</body>` may
    stand in a script, too, where an insertion would do harm.
    """

    def __init__(self, inserted: bytes) -> None:
        self._inserted = inserted
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return what can be sent now."""
        page = self._held + piece
        found = page.lower().rfind(_END)
        if found < 0 or len(page) - found > HOLD_LIMIT:
            found = len(page) - _begun(page)
        self._held = page[found:]
        return page[:found]

    def finish(self) -> bytes:
        """Return the rest with what was to be inserted."""
        held, self._held = self._held, b""
        if held[: len(_END)].lower() == _END:
            return self._inserted + held
        return held + self._inserted


def _begun(page: bytes) -> int:
    """Return how many bytes at the end may be the beginning of `</body`."""
    tail = page[-(len(_END) - 1) :].lower()
    for length in range(len(tail), 0, -1):
        if _END.startswith(tail[-length:]):
            return length
    return 0
