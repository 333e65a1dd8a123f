"""The other end of the admin surface: talking to a running server over its Unix socket.

Synchronous and made of the standard library, so that `asgireload status` starts fast. Which server is meant is
found out by `servers`; what to say to it, and how to show its answers, is left to the command line.
"""

import json
import socket as socket_module
import time
from http.client import HTTPConnection, HTTPException, IncompleteRead
from typing import Any

from asgireload import __version__
from asgireload.errors import ControlError
from asgireload.net.unix_table import Peer, peer_of

CONNECT_TIMEOUT = 5.0
"""Seconds for the connection to be taken; a supervisor that needs longer is stuck or overrun."""
ANSWER_TIMEOUT = 10.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Far above the metrics of a full scoreboard; a server that sends more is not one of ours."""


class WrongPeerError(ControlError):
    """Another process listens on the socket than the one that is meant."""


class AdminClient:
    """One running server. Each request uses a connection of its own, so there is nothing to close.

    With `pid` nothing is sent unless this process listens there: another process may have taken the path.
    """

    def __init__(self, path: str, pid: int | None = None) -> None:
        self.path = path
        self.pid = pid
        self.peer: Peer | None = None
        """Who listened when the last request was sent."""

    def request(
        self, method: str, path: str, timeout: float | None = ANSWER_TIMEOUT
    ) -> tuple[int, Any]:
        """Return the status and the decoded JSON (or the text, for other types).

        `timeout` in seconds bounds the wait for the whole answer; None waits as long as the server needs,
        which is right for `POST /reload?wait=1`. Raise ControlError when the server cannot be reached or
        does not answer in time. Error statuses are returned, not raised.
        """
        connection = _UnixConnection(self.path, timeout)
        try:
            connection.connect()
            self._check_peer(connection.sock)
            connection.request(method, path, headers={"User-Agent": f"asgireload/{__version__}"})
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
            if response.length:
                # A bounded read() returns what there is when the connection breaks off.
                raise IncompleteRead(body, response.length)
            content_type = response.headers.get_content_type()
        except TimeoutError as error:
            raise ControlError(
                f"the server at {self.path} did not answer {method} {path} in time: "
                "its supervisor may be stuck, look at its log"
            ) from error
        except (OSError, HTTPException) as error:
            raise ControlError(_why_unreachable(self.path, error)) from error
        finally:
            connection.close()
        if content_type in {"application/json", "application/problem+json"}:
            try:
                return response.status, json.loads(body)
            except ValueError as error:
                raise ControlError(f"the answer from {self.path} is not valid JSON") from error
        return response.status, body.decode("utf-8", "replace")

    def _check_peer(self, sock: socket_module.socket) -> None:
        self.peer = peer_of(sock)
        if self.pid is not None and self.peer.pid != self.pid:
            raise WrongPeerError(
                f"on {self.path} listens process {self.peer.pid}, not {self.pid}: nothing was sent"
            )


class _UnixConnection(HTTPConnection):
    """http.client over a Unix socket; the timeout covers the answer as a whole, not each read."""

    def __init__(self, path: str, answer_timeout: float | None) -> None:
        super().__init__("localhost")
        self._path = path
        self._answer_timeout = answer_timeout

    def connect(self) -> None:
        sock = _DeadlineSocket(socket_module.AF_UNIX, socket_module.SOCK_STREAM)
        # http.client closes only what it has been given.
        self.sock = sock
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(self._path)
        sock.settimeout(None)
        if self._answer_timeout is not None:
            sock.deadline = time.monotonic() + self._answer_timeout


class _DeadlineSocket(socket_module.socket):
    """A socket whose reads share one deadline: a server that trickles must not extend the wait."""

    deadline: float | None = None
    """time.monotonic(), seconds; None for no limit."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self.settimeout(left)
        return super().recv_into(*args, **kwargs)


def _why_unreachable(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no admin socket at {path}: check the path, or start the server"
        case ConnectionRefusedError():
            return f"nobody listens on {path}: the server has ended, start it again"
        case PermissionError():
            return f"{path} may not be used by this user: run this command as the user of the server, or as root"
        case ConnectionError() | HTTPException():
            return f"the server at {path} ended the connection: it is stopping, or look at its log"
        case OSError() if "path too long" in str(error):
            return f"{path} is too long for a Unix socket"
        case _:
            return f"the server at {path} cannot be reached: {error}"
