"""While a command waits for a server, say what the server waits for."""

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
"""Seconds between two looks, and before the first: most reloads and stops are over by then."""
TOLD_INTERVAL = 10.0
LOOK_TIMEOUT = 5.0


class Progress:
    """`with Progress(server):` around what waits. Lines go to standard error: what is printed is the verdict."""

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
            # What is seen once may be over in a moment, unless a worker has said what holds it.
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
            # Whoever waits is told by the request that waits, or by the end of the process.
            return {}
        return answer if status == 200 and isinstance(answer, dict) else {}


def gist_of(text: str) -> str:
    """Return a text without its figures: seconds go by in it, and that alone is not worth a line. Pure."""
    return "".join(char for char in text if not char.isdigit())
