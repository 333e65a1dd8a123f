"""Escape foreign text in log lines, so that it cannot end a line, begin a field or control a terminal. Pure."""

import re

_LOOKS_LIKE_A_LINE = re.compile(r"(?:CRITICAL|ERROR|WARNING|INFO|DEBUG|TRACE):")


def printable(text: str) -> str:
    """Return `text` with every character escaped that could forge a log line or control a terminal.

    These are the characters that are not printable by str.isprintable(): control characters, line separators, lone
    surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def field(text: str, *, is_quoted: bool) -> str:
    """Return `text` escaped as one field of a line, delimited by quotation marks (`is_quoted`) or spaces.

    Quotation marks and backslashes are escaped as in Apache's mod_log_config; without quotation marks, spaces are
    escaped as well. Empty text becomes `-`.
    """
    if not text:
        return "-"
    if text.isprintable() and '"' not in text and "\\" not in text:
        escaped = text
    else:
        escaped = printable(text.replace("\\", "\\\\").replace('"', '\\"'))
    return escaped if is_quoted else escaped.replace(" ", "\\x20")


def block(text: str) -> str:
    """Return `text` escaped except for line breaks and tabs, for text of several lines such as a traceback.

    Each line after the first that looks like the beginning of a log line is indented, because the text of an
    exception often quotes data of a client.
    """
    if text.isprintable():
        return text
    first, *others = text.split("\n")
    lines = [_line(first)]
    for line in others:
        shown = _line(line)
        lines.append(f"  {shown}" if _LOOKS_LIKE_A_LINE.match(shown) else shown)
    return "\n".join(lines)


def json_text(data: bytes) -> str:
    """Return encoded JSON as text in which every character is printable.

    RFC 8259 section 7 requires escapes for the ASCII control characters only, but terminals act on others as well,
    and some programs end lines at U+0085 or U+2028.
    """
    text = data.decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _json_escaped(c) for c in text)


def encodable(text: str) -> str:
    """Return text with lone surrogates escaped, because UTF-8 cannot encode them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _line(text: str) -> str:
    return "\t".join(printable(part) for part in text.split("\t"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escaped(character: str) -> str:
    # Characters beyond the basic plane are written as two surrogates (RFC 8259 section 7).
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
