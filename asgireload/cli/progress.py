"""Show what a server waits for while a command waits for the server."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

import click

from asgireload.admin.servers import FoundServer
from asgireload.cli.render import render_waiting
from asgireload.errors import ControlError
from asgireload.log.escaping import block

LOOK_INTERVAL = 2.0
"""Seconds between two requests, and before the first one: most reloads and stops have ended by then."""
TOLD_INTERVAL = 10.0
LOOK_TIMEOUT = 5.0


class Progress:
    """A context manager for a request that waits: a thread prints what the server waits for to standard error.

    Standard output is for the verdict.
    """

    def __init__(self, server: FoundServer) -> None:
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def _look(self) -> None:
        seen = told = ""
        told_at = 0.0
        while not self._is_over.wait(LOOK_INTERVAL):
            text = render_waiting(self._ask())
            gist = gist_of(text)
            # A text is shown when it was seen twice, or when a worker has reported what is open in it.
            is_lasting = gist == seen or "\n  " in text
            seen = gist
            is_news = gist != told or time.monotonic() >= told_at + TOLD_INTERVAL
            if text and is_lasting and is_news and not self._is_over.is_set():
                click.echo(block(text), nl=False, err=True)
                told, told_at = gist, time.monotonic()

    def _ask(self) -> Mapping[str, Any]:
        try:
            status, answer = self._server.client.request("GET", "/status", LOOK_TIMEOUT)
        except ControlError:
            # The waiting request, or the end of the process, reports the failure.
            return {}
        return answer if status == 200 and isinstance(answer, dict) else {}


def gist_of(text: str) -> str:
    """Return a text without its digits, so that a change of seconds alone is no news. Pure."""
    return "".join(char for char in text if not char.isdigit())
