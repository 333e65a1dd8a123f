"""Insert a script into HTML pages. Pure: it decides by headers, and changes the body piece by piece."""

import re
from collections.abc import Iterable
from html import escape

_END = b"</body"
HOLD_LIMIT = 4 * 1024
"""Most bytes that are held from a `</body>` on. When more follow, the tag was in a script or a text and not the end
of the body, and the held bytes are sent."""

Header = tuple[bytes, bytes]

_DOCUMENTS = frozenset({b"document", b"iframe", b"frame"})
_FRAGMENTS = frozenset({b"hx-request", b"turbo-frame", b"x-requested-with"})
"""Headers of requests by libraries for a part of a page; a script in each part would run many times."""
_VALIDATORS = frozenset({b"etag", b"last-modified", b"content-md5", b"digest", b"content-digest"})
"""Removed headers: they describe the page without the script, and a cached page (304) would name an old
generation."""
_WIDE = re.compile(rb"charset\s*=\s*\"?utf-?(16|32)", re.IGNORECASE)
_NONCE = re.compile(r"'nonce-([A-Za-z0-9+/_=-]+)'")
_BODILESS = frozenset({204, 205, 304})
_PARTIAL = 206


def is_navigation(method: str, headers: Iterable[Header]) -> bool:
    """Return whether a request is for a whole page.

    Browsers send Sec-Fetch-Dest, but only to secure origins and localhost; for other origins the Accept header
    distinguishes pages from requests of scripts.
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
    """Return whether a response is a whole HTML page, neither compressed nor in UTF-16 or UTF-32."""
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
    """Return the script element, with the nonce of the response's content security policy if there is one."""
    nonce = _nonce(headers)
    allowed = f' nonce="{escape(nonce)}"' if nonce else ""
    return (
        f'<script async src="{escape(address)}" data-stream="{escape(stream)}"'
        f' data-state="{escape(state)}"{allowed}></script>'
    ).encode()


def adapted(headers: Iterable[Header], added: int) -> list[Header]:
    """Return the headers for a page with `added` more bytes: without validators, with a new Content-Length."""
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
    """Return the nonce for scripts in the content security policy; empty when there is none."""
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
    """Inserts `inserted` before the last `</body>` of a page that comes in pieces, or at its end.

    Bytes from a `</body>` on are held until it is known to be the last one: `</body>` may occur in a script, too,
    where an insertion would break the script.
    """

    def __init__(self, inserted: bytes) -> None:
        self._inserted = inserted
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes that can be sent now."""
        page = self._held + piece
        found = page.lower().rfind(_END)
        if found < 0 or len(page) - found > HOLD_LIMIT:
            found = len(page) - _begun(page)
        self._held = page[found:]
        return page[:found]

    def finish(self) -> bytes:
        """Return the held bytes with `inserted`."""
        held, self._held = self._held, b""
        if held[: len(_END)].lower() == _END:
            return self._inserted + held
        return held + self._inserted


def _begun(page: bytes) -> int:
    """Return how many bytes at the end of `page` may be the beginning of `</body`."""
    tail = page[-(len(_END) - 1) :].lower()
    for length in range(len(tail), 0, -1):
        if _END.startswith(tail[-length:]):
            return length
    return 0
