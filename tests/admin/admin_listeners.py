"""Small real servers on Unix sockets, for whoever talks to one."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from asgireload.admin.sockets import open_admin_unix
from tests.admin.admin_fakes import close_unix

JSON = "application/json"


@contextmanager
def serve(path: str, answer: bytes) -> Iterator[list[bytes]]:
    """Give every connection the same bytes; yield the request heads that came in."""
    sock = open_admin_unix(path)
    sock.setblocking(True)
    heads: list[bytes] = []

    def run() -> None:
        while True:
            connection, _ = sock.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                    head += chunk
                if head == b"END\r\n\r\n":
                    return
                if head:
                    heads.append(head)
                    connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heads
    finally:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(path)
            last.sendall(b"END\r\n\r\n")
            thread.join()
        close_unix(sock)


def http(value: object, status: int = 200, content_type: str = JSON) -> bytes:
    body = json.dumps(value).encode() if content_type.endswith("json") else str(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
