"""Which parser a connection gets: httptools, an extra in C, or h11, the strict reference in Python."""

import importlib.util

from asgireload.http._h11 import H11Parser
from asgireload.http.parser import ParserName, RequestParser, RequestSink


def choose_parser(http: str) -> ParserName:
    """Turn the option `http` ("auto", "httptools" or "h11") into a parser that is installed.

    "auto" takes httptools when it is there. Asking for a missing httptools by name fails later, with
    the ImportError of its first use.
    """
    if http == "auto":
        return "httptools" if importlib.util.find_spec("httptools") is not None else "h11"
    return "httptools" if http == "httptools" else "h11"


def make_parser(name: str, sink: RequestSink, head_bytes_limit: int) -> RequestParser:
    """Return the adapter called `name`. Raise ImportError when httptools is asked for but missing."""
    if name == "httptools":
        from asgireload.http._httptools import HttptoolsParser  # an extra: loaded only when chosen

        return HttptoolsParser(sink, head_bytes_limit)
    return H11Parser(sink, head_bytes_limit)
