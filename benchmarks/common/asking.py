"""Requests of the driver: one after the other on one connection, and whether the answers are right."""

import re
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable

CONNECT_TIMEOUT = 10.0
POLL_INTERVAL = 0.005
"""Between two attempts to reach a starting server; start-up is measured no finer than this."""
END_TIMEOUT = 10.0
"""For a process to end that has closed its standard output."""
HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """The server gave an answer that makes the run worthless."""


def answer_length(head: bytes) -> int:
    """Return the length of a whole answer, given its head with the empty line.

    Raise LoadError for a status other than 200, or a body without Content-Length.
    """
    if not head.startswith(b"HTTP/1.1 200"):
        raise LoadError(f"answer {head[:60]!r}")
    found = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
    if found is None:
        raise LoadError("an answer without Content-Length cannot be counted")
    return len(head) + int(found[1])


def connected(port: int, *, tls: bool = False) -> socket.socket:
    """Return a new connection to the server; its certificate is not verified."""
    client = socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return client
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(client)


def ask(client: socket.socket, request: bytes) -> bytes:
    """Send a request and return the body of the answer, with the marks of chunks where it has them.

    Raise LoadError when it is not a good one.
    """
    client.sendall(request)
    answer = bytearray()
    start = wanted = 0
    is_chunked = False
    while True:
        piece = client.recv(1 << 18)
        if not piece:
            raise LoadError("the server closed a connection")
        answer += piece
        if not start:
            start = answer.find(b"\r\n\r\n") + 4
            if start < 4:
                start = 0
                continue
            head = bytes(answer[:start])
            is_chunked = CHUNKED.search(head) is not None
            wanted = 0 if is_chunked else answer_length(head)
        if answer.endswith(LAST_CHUNK) if is_chunked else len(answer) >= wanted:
            return bytes(answer[start:])


def wait_answer(port: int, is_alive: Callable[[], bool], *, tls: bool, timeout: float) -> None:
    """Wait until the server answers a request. Raise LoadError when it ends or stays silent."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not is_alive():
            raise LoadError("the server ended")
        try:
            with connected(port, tls=tls) as client:
                ask(client, HELLO)
                return
        except OSError:
            time.sleep(POLL_INTERVAL)
    raise LoadError(f"no answer within {timeout:g} s")


def read_line(process: "subprocess.Popen[str]", timeout: float) -> str:
    """Return the next line of a client process, `timeout` seconds at most.

    Raise LoadError when it prints none, with the last line of its standard error when it has ended.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    # The client writes one line at a time and flushes it, so nothing waits in our buffer unseen.
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise LoadError(f"the client was silent for {timeout:g} s")
    line = process.stdout.readline()
    if not line:
        process.wait(END_TIMEOUT)
        raise LoadError(process.stderr.read().strip().rpartition("\n")[2] or "the client ended")
    return line
