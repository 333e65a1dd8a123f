"""The client of the admin interface: requests to a running server over its Unix socket.

The client is synchronous and uses the standard library only, so that `asgireload status` starts fast. `servers`
finds the server that a command addresses; the command line chooses requests and shows answers.
"""

import json
import os
import socket as socket_module
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, IncompleteRead
from typing import Any

from asgireload import __version__
from asgireload.errors import ControlError
from asgireload.net.addresses import MAX_PATH_BYTES
from asgireload.net.unix_table import Peer, peer_of

CONNECT_TIMEOUT = 5.0
"""Seconds to connect; a supervisor that needs longer is stuck or overloaded."""
ANSWER_TIMEOUT = 10.0
SILENCE_INTERVAL = 5.0
"""Seconds without data after which a client that waits for longer than ANSWER_TIMEOUT checks that the server still
answers. A server that is busy for less than ANSWER_TIMEOUT passes the check."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Far above the metrics of a full scoreboard; no asgireload server sends more."""


class WrongPeerError(ControlError):
    """Another process than the addressed one listens on the socket."""


class SilentServerError(ControlError):
    """The addressed server has accepted the connection and does not answer."""


class AdminClient:
    """A client of one running server. Each request uses its own connection, so there is nothing to close.

    With `pid` a request is sent only when this process listens: another process may have bound the path.
    """

    def __init__(self, path: str, pid: int | None = None) -> None:
        self.path = path
        self.pid = pid
        self.peer: Peer | None = None
        """The process that listened when the last request was sent."""

    def request(
        self, method: str, path: str, timeout: float | None = ANSWER_TIMEOUT
    ) -> tuple[int, Any]:
        """Return the status and the decoded JSON (or the text, for other types).

        `timeout` in seconds bounds the wait for the whole answer; None, which is for `POST /reload?wait=1`, sets no
        bound. Beyond ANSWER_TIMEOUT the client waits only while the server answers other requests. Raise
        ControlError when the server cannot be reached or does not answer in time. Error statuses are returned, not
        raised.
        """
        try:
            status, content_type, body = self._exchange(method, path, timeout)
        except TimeoutError as error:
            raise SilentServerError(
                f"the server at {self.path} did not answer {method} {path} in time: {self._why_silent()}"
            ) from error
        except (OSError, HTTPException) as error:
            raise ControlError(_why_unreachable(self.path, error)) from error
        if content_type in {"application/json", "application/problem+json"}:
            try:
                return status, json.loads(body)
            except ValueError as error:
                raise ControlError(f"the answer from {self.path} is not valid JSON") from error
        return status, body.decode("utf-8", "replace")

    def check_alive(self) -> None:
        """Raise ControlError when the server listens and does not answer in time.

        A server that cannot be reached is ending, and raises nothing: the caller goes on waiting for its end.
        """
        try:
            self._exchange("GET", "/live", ANSWER_TIMEOUT)
        except (TimeoutError, BlockingIOError) as error:
            # BlockingIOError: the accept queue is full.
            raise ControlError(
                f"the server at {self.path} does not answer any more: {self._why_silent()}"
            ) from error
        except (OSError, HTTPException):
            pass

    def _exchange(self, method: str, path: str, timeout: float | None) -> tuple[int, str, bytes]:
        """Return status, content type and body. Raise OSError, HTTPException, and ControlError from
        `check_alive`."""
        is_long = timeout is None or timeout > ANSWER_TIMEOUT
        on_silence = self.check_alive if is_long else None
        connection = _UnixConnection(self.path, timeout, on_silence)
        try:
            connection.connect()
            self._check_peer(connection.sock)
            connection.request(method, path, headers={"User-Agent": f"asgireload/{__version__}"})
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
            if response.length:
                # A bounded read() raises nothing when the connection ends early.
                raise IncompleteRead(body, response.length)
            return response.status, response.headers.get_content_type(), body
        finally:
            connection.close()

    def _why_silent(self) -> str:
        # When the accept queue is full, no connection can be made to read the pid of the listener.
        pid = _listener_of(self.path) or self.pid
        if pid is not None and is_stopped(pid):
            return f"process {pid} is stopped (SIGSTOP, or a debugger); `kill -CONT {pid}` lets it go on"
        return "its supervisor may be stuck, look at its log"

    def _check_peer(self, sock: socket_module.socket) -> None:
        self.peer = peer_of(sock)
        if self.pid is not None and self.peer.pid != self.pid:
            raise WrongPeerError(
                f"on {self.path} listens process {self.peer.pid}, not {self.pid}: nothing was sent"
            )


def connect(sock: socket_module.socket, path: str) -> None:
    """Connect to a Unix socket, also by a path that is longer than `sun_path` (unix(7)). Raise OSError.

    Paths can be long because the path to a server in a container begins with /proc/PID/root.
    """
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


class _UnixConnection(HTTPConnection):
    """An http.client connection over a Unix socket, with a timeout for the whole answer instead of each read."""

    def __init__(
        self, path: str, answer_timeout: float | None, on_silence: Callable[[], None] | None = None
    ) -> None:
        """`on_silence` is called after every SILENCE_INTERVAL without data, and may raise."""
        super().__init__("localhost")
        self._path = path
        self._answer_timeout = answer_timeout
        self._on_silence = on_silence

    def connect(self) -> None:
        sock = _DeadlineSocket(socket_module.AF_UNIX, socket_module.SOCK_STREAM)
        # Set before connect(2), so that close() closes it when connecting fails.
        self.sock = sock
        sock.settimeout(CONNECT_TIMEOUT)
        connect(sock, self._path)
        sock.settimeout(None)
        sock.on_silence = self._on_silence
        if self._answer_timeout is not None:
            sock.deadline = time.monotonic() + self._answer_timeout


class _DeadlineSocket(socket_module.socket):
    """A socket whose reads share one deadline, so that a server that sends slowly does not extend the wait."""

    deadline: float | None = None
    """Monotonic time in seconds; None for no limit."""
    on_silence: Callable[[], None] | None = None
    """Called after every SILENCE_INTERVAL without data."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        while self.on_silence is not None:
            left = self._left()
            self.settimeout(SILENCE_INTERVAL if left is None else min(left, SILENCE_INTERVAL))
            try:
                return super().recv_into(*args, **kwargs)
            except TimeoutError:
                if left is not None and left <= SILENCE_INTERVAL:
                    raise
                self.on_silence()
        self.settimeout(self._left())
        return super().recv_into(*args, **kwargs)

    def _left(self) -> float | None:
        """Return the seconds until the deadline, None for no limit. Raise TimeoutError when the deadline is
        past."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _listener_of(path: str) -> int | None:
    """Return the pid of the process that listens on `path`; None when it is unknown."""
    with socket_module.socket(socket_module.AF_UNIX, socket_module.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_TIMEOUT)
        try:
            connect(sock, path)
            pid = peer_of(sock).pid
        except OSError:
            return None
    return pid or None  # 0: the process is in a pid namespace that is not visible here


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal or a debugger: proc_pid_stat(5)."""
    from asgireload.ipc.linux import process_state

    return process_state(pid) in ("T", "t")


def _why_unreachable(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no admin socket at {path}: check the path, or start the server"
        case ConnectionRefusedError():
            return f"nobody listens on {path}: the server has ended, start it again"
        case BlockingIOError():
            return f"the server at {path} has a full queue of connections: it is stopped, stuck or overrun"
        case PermissionError():
            return f"{path} may not be used by this user: run this command as the user of the server, or as root"
        case ConnectionError() | HTTPException():
            return f"the server at {path} ended the connection: it is stopping, or look at its log"
        case OSError() if "path too long" in str(error):
            return f"{path} is too long for a Unix socket"
        case _:
            return f"the server at {path} cannot be reached: {error}"
