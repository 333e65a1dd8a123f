"""Clients that ask all the time or keep a stream open, and what they count as a failure.

`failure_of` and `ending_told` are pure.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from .known import Ask

TIMEOUT = 60.0
"""Longer than any answer takes on a busy machine: who waits longer has been forgotten."""
PAUSE = 0.02
"""Between two requests of a client. Connections are idle, busy and new when a worker leaves."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def failure_of(ask: Ask, answer: Answer | Exception) -> str:
    """Return why a request has failed; empty: it has not."""
    if isinstance(answer, Exception):
        text = str(answer)
        return f"{type(answer).__name__}: {text}" if text else type(answer).__name__
    if answer.status != ask.status:
        return f"status {answer.status}"
    if ask.expected.encode() not in answer.body:
        return f"{ask.expected!r} is not in the body"
    return ""


def ending_told(code: int) -> tuple[str, bool]:
    """Return how a WebSocket ended, and whether its client was told so.

    Code 1006 stands for a connection that ends without a close frame, 1011 for an error of the application.
    """
    return f"WebSocket {code}", code not in {1006, 1011}


@dataclass(slots=True)
class Count:
    """What several clients of one kind have seen."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, failure: str) -> None:
        self.requests += 1
        if failure:
            self.failures[failure] += 1


class Connection:
    """A connection of HTTP/1.1 that is opened when it is needed."""

    def __init__(self, port: int, timeout: float = TIMEOUT) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(self, path: str, method: str = "GET") -> Answer:
        """Raise OSError or HTTPException when there is no whole answer. The next call opens a new connection."""
        try:
            self._connection.request(method, path)
            response = self._connection.getresponse()
            return Answer(response.status, response.read())
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


def ask_once(port: int, path: str, method: str = "GET", timeout: float = TIMEOUT) -> Answer:
    """Ask over a connection of its own. Raise OSError or HTTPException when there is no whole answer."""
    connection = Connection(port, timeout)
    try:
        return connection.ask(path, method)
    finally:
        connection.close()


class Load:
    """Clients in threads: some keep their connection, others open one for each request."""

    def __init__(self, port: int, ask: Ask, kept: int, fresh: int) -> None:
        self._port, self._ask = port, ask
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.kept, self.fresh = Count(), Count()
        self._threads = [threading.Thread(target=self._keep) for _ in range(kept)]
        self._threads += [threading.Thread(target=self._open) for _ in range(fresh)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def asked(self) -> int:
        with self._lock:
            return self.kept.requests + self.fresh.requests

    def wait_asked(self, more: int, timeout: float) -> None:
        """Wait until so many more requests have been answered, or failed."""
        deadline, goal = time.monotonic() + timeout, self.asked() + more
        while self.asked() < goal and time.monotonic() < deadline:
            time.sleep(PAUSE)

    def _keep(self) -> None:
        connection = Connection(self._port)
        self._repeat(self.kept, lambda: connection.ask(self._ask.path))
        connection.close()

    def _open(self) -> None:
        self._repeat(self.fresh, lambda: ask_once(self._port, self._ask.path))

    def _repeat(self, count: Count, ask: Callable[[], Answer]) -> None:
        while not self._ended.wait(PAUSE):
            answer: Answer | Exception
            try:
                answer = ask()
            except (OSError, http.client.HTTPException) as error:
                answer = error
            failure = failure_of(self._ask, answer)
            with self._lock:
                count.add(failure)


class Held:
    """Clients that open a stream or a WebSocket, read until the server ends it, and open it again."""

    def __init__(self, port: int, path: str, subprotocol: str, clients: int) -> None:
        self._port, self._subprotocol = port, subprotocol
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.endings: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._hold, args=(path.replace("{client}", str(number)),))
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the server has ended what is open."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def open_no_more(self) -> None:
        """The server is about to stop."""
        self._ended.set()

    def _hold(self, path: str) -> None:
        read = self._read_socket if path.startswith("ws:") else self._read_stream
        while not self._ended.wait(PAUSE):
            try:
                told, is_told = read(path)
            except (OSError, http.client.HTTPException, WebSocketException) as error:
                if self._ended.is_set():
                    return  # it was about to open one when the server stopped
                told, is_told = f"{type(error).__name__}: {error}", False
            with self._lock:
                (self.endings if is_told else self.failures)[told] += 1

    def _read_socket(self, path: str) -> tuple[str, bool]:
        """Return how it ended, and whether in order. What is raised has kept it from being opened."""
        url = f"ws://127.0.0.1:{self._port}{path.removeprefix('ws:')}"
        offered = [Subprotocol(self._subprotocol)] if self._subprotocol else None
        with connect(url, subprotocols=offered, open_timeout=TIMEOUT, proxy=None) as socket:
            while True:
                try:
                    socket.recv(TIMEOUT)
                except TimeoutError:
                    continue
                except ConnectionClosed as error:
                    return ending_told(error.rcvd.code if error.rcvd is not None else 1006)

    def _read_stream(self, path: str) -> tuple[str, bool]:
        """Return how it ended, and whether in order. What is raised has kept it from being opened."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200:
                raise http.client.HTTPException(f"status {response.status}")
            try:
                while response.read1():
                    pass
            except (OSError, http.client.HTTPException) as error:
                return f"stream: {type(error).__name__}: {error}", False
            return "stream ended", True
        finally:
            connection.close()
