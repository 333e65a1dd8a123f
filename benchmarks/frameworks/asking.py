"""The client's side: HTTP/1.1 over a socket that the checks may end as they like, and what is read of an answer."""

import gzip
import hashlib
import http.client
import io
import socket
import ssl
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

TIMEOUT = 10.0
POLL_INTERVAL = 0.02
QUIET_SECONDS = 0.04
"""How long a log must have grown no more before it is read."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs, and where it and its application leave what the driver reads."""

    server: str
    port: int
    is_tls: bool
    log: Path
    notes: Path
    data: bytes
    """What is in the file that is served."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string."""
        return next((value for n, value in self.headers if n == name), "")


def connect(target: Target, timeout: float = TIMEOUT) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", target.port), timeout)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not target.is_tls:
        return raw
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(raw, server_hostname="localhost")


def request_bytes(
    stack: str, path: str, method: str = "GET", headers: str = "", body: bytes = b""
) -> bytes:
    """Return a request for `path` of a stack. `headers` are whole lines with their line ends."""
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    head = f"{method} /{quote(stack)}{path} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n"
    return head.encode() + body


def read_answer(sock: socket.socket, method: str, began: float) -> Answer:
    """Read one answer to its end. Raise OSError or http.client.HTTPException where it has none."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    body = response.read()
    headers = [(name.lower(), value) for name, value in response.getheaders()]
    return Answer(response.status, headers, body, time.monotonic() - began)


def ask(
    target: Target,
    stack: str,
    path: str,
    method: str = "GET",
    headers: str = "",
    body: bytes = b"",
) -> Answer:
    """Ask over a connection of its own."""
    with connect(target) as sock:
        began = time.monotonic()
        sock.sendall(request_bytes(stack, path, method, headers, body))
        return read_answer(sock, method, began)


def read_some(sock: socket.socket) -> bytes:
    """Read until the head and the first bytes of the body are there."""
    got = b""
    while not got.partition(b"\r\n\r\n")[2]:
        piece = sock.recv(65536)
        if not piece:
            break
        got += piece
    return got


def decoded(answer: Answer) -> bytes:
    """Return the body as it was before it was compressed; an unknown coding stays as it is."""
    coding = answer.header("content-encoding")
    try:
        if coding == "gzip":
            return gzip.decompress(answer.body)
        if coding == "deflate":
            return zlib.decompress(answer.body)
        if coding == "br":
            import brotli

            return bytes(brotli.decompress(answer.body))
        if coding == "zstd":
            return _unzstd(answer.body)
    except (OSError, EOFError, zlib.error) as error:
        return f"not decoded: {error}".encode()
    return answer.body


def _unzstd(data: bytes) -> bytes:
    try:
        import zstandard
    except ModuleNotFoundError:
        return data
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
        return bytes(reader.read())


def digest(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:8]}"


# What the application and the server have left.


def notes_of(target: Target, key: str) -> dict[str, float]:
    """Return what the application noted under a key, with the time of each."""
    found: dict[str, float] = {}
    try:
        text = target.notes.read_text()
    except FileNotFoundError:
        return found
    # The newest are at the end, and a file of a whole run is long.
    at = text.find(f"{key} ")
    for line in text[at:].splitlines() if at >= 0 else ():
        noted, what, time_noted = line.split()
        if noted == key:
            found.setdefault(what, float(time_noted))
    return found


def wait_note(
    target: Target, key: str, timeout: float, *, only_counts: bool = False
) -> dict[str, float]:
    """Wait until the application has noted something under the key; return all of it, or nothing."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = notes_of(target, key)
        # A middleware that counts may be first; it is the application that is waited for.
        if any("=" not in what for what in found) or (found and only_counts):
            return found
        time.sleep(POLL_INTERVAL)
    return notes_of(target, key)


def wait_log(target: Target, since: int) -> str:
    """Return what the server logged from offset `since`, once it has come to rest."""
    size = -1
    while size != (now := target.log.stat().st_size):
        size = now
        time.sleep(QUIET_SECONDS)
    with target.log.open("rb") as file:
        file.seek(since)
        return file.read().decode(errors="replace")
