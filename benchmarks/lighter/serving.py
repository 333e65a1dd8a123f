"""A server of one variant from its start to the end of its last process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.clients import LoadError
from benchmarks.suite.running import free_port, last_words, stop

from .copies import environment
from .variants import Variant

START_TIMEOUT = 60.0
PAUSE = 0.001
"""Seconds before a start is tried to be reached again."""
QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
QUIET = ("--host", "127.0.0.1", "--no-access-log", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class Live:
    """A server that answers."""

    process: "subprocess.Popen[bytes]"
    port: int
    answered_seconds: float
    """From the start of the process to the end of the first answer."""

    @property
    def pid(self) -> int:
        return self.process.pid


def ask(port: int, timeout: float = START_TIMEOUT) -> bytes:
    """Return the answer to one question over a connection of its own. Raise OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(QUESTION)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


@contextmanager
def serving(
    home: Path, variant: Variant, app: str, directory: Path, flags: Sequence[str] = ()
) -> Iterator[Live]:
    """Serve an application that lies in `directory` from the package in `home`; end it all afterwards.

    It stays in our session: the kernel may weigh sessions, and its clients come from ours. Raise LoadError with
    the last words of its log when it does not answer.
    """
    port = free_port()
    log_path = home / "server.log"
    words = [sys.executable, "-m", "asgireload", app, "--port", str(port), *QUIET]
    with log_path.open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            [*words, *flags, *variant.flags],
            cwd=directory,
            env=environment(home, directory),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        answer = _first_answer(process, port, log_path)
        answered = time.monotonic() - began
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise LoadError(f"it answered {answer[:60]!r}: {last_words(log_path)}")
        yield Live(process, port, answered)
    finally:
        stop(process)


def _first_answer(process: "subprocess.Popen[bytes]", port: int, log_path: Path) -> bytes:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            return ask(port)
        except ConnectionError:
            if process.poll() is not None:
                raise LoadError(f"it ended: {last_words(log_path)}") from None
        time.sleep(PAUSE)
    raise LoadError(f"no answer within {START_TIMEOUT:g} s")
