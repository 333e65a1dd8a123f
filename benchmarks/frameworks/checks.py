"""The table of features. Each is a function that asks one stack of one server and returns facts.

Seconds are told in classes, bodies as length and digest, and a log as the exceptions in it. A check waits for what
it has begun before it returns, so that what is logged then belongs to it.
"""

import http.client
import json
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from .asking import (
    Answer,
    Target,
    ask,
    connect,
    decoded,
    digest,
    read_answer,
    read_some,
    request_bytes,
    wait_log,
    wait_note,
)
from .judging import Facts, duration, log_fact

Check = Callable[[Target, str], Facts]

LEAVING_LIMIT = 3.0
"""Until an application that goes on for two seconds must have ended."""
TOLD_HEADERS = (
    "content-type",
    "content-length",
    "content-encoding",
    "content-range",
    "accept-ranges",
    "transfer-encoding",
    "connection",
    "cache-control",
    "vary",
)
UNTOLD_HEADERS = {"date", "server", "content-length", "transfer-encoding", "connection"}
"""Told by themselves, or of no interest."""
RANDOM_TYPE = "multipart/byteranges"
"""Its boundary is drawn by lot."""
ACCEPTS = "Accept-Encoding: gzip, br, zstd\r\n"
UPLOAD = bytes(range(256)) * 4096
"""1 MiB."""
REFUSED_BYTES = 20 * 1024 * 1024


class Stacks(Enum):
    """Of which stacks a feature is asked. What takes seconds is not asked of all."""

    BARE = "without middleware"
    OWN = "without middleware, with the framework's own and with some written by hand"
    ALL = "all stacks"


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    check: Check
    path: str
    """A route that it needs; a framework without it is not asked."""
    stacks: Stacks = Stacks.ALL
    over_tls: bool = False
    """Asked over TLS, too; there without middleware only."""
    not_for: tuple[str, ...] = ()
    """Stacks that make no sense with it."""


def key() -> str:
    return uuid.uuid4().hex[:12]


def facts_of(answer: Answer) -> Facts:
    """Return what is told of every answer."""
    names = sorted({name for name, _ in answer.headers} - UNTOLD_HEADERS)
    content = answer.header("content-type")
    told = {name: answer.header(name) for name in TOLD_HEADERS if answer.header(name)}
    plain = decoded(answer)
    if content.startswith(RANDOM_TYPE):
        told["content-type"] = RANDOM_TYPE
        body = f"{len(plain)} bytes"
    else:
        body = digest(plain)
    facts = {"status": str(answer.status), "headers": " ".join(names), **told, "body": body}
    if answer.header("content-encoding"):
        # No figure: Django adds bytes by lot, and each server hands out streams in pieces of its own.
        facts["compressed"] = "well" if len(answer.body) < 0.3 * len(plain) else "badly"
        if "content-length" in facts:
            facts["content-length"] = "given"
    return facts


def _told(notes: dict[str, float]) -> str:
    """Return what the application noted but counts, which depend on when its client left."""
    return " ".join(sorted(note for note in notes if "=" not in note)) or "nothing"


def simple(path: str, method: str = "GET", headers: str = "", body: bytes = b"") -> Check:
    """Return a check that asks once and tells the answer and the log."""

    def check(target: Target, stack: str) -> Facts:
        return facts_of(ask(target, stack, path, method, headers, body))

    return check


def noted(path: str) -> Check:
    """Return a check that also tells what the application's middleware noted."""

    def check(target: Target, stack: str) -> Facts:
        name = key()
        facts = facts_of(ask(target, stack, f"{path}?key={name}"))
        notes = wait_note(target, name, 0.5, only_counts=True) if stack == "count-bytes" else {}
        return {**facts, **({"noted": " ".join(notes)} if notes else {})}

    return check


def conditional(path: str) -> Check:
    """Return a check that asks for a file, and again with the validators of the answer."""

    def check(target: Target, stack: str) -> Facts:
        first = ask(target, stack, path)
        facts = {}
        for header, value in (
            ("If-None-Match", first.header("etag")),
            ("If-Modified-Since", first.header("last-modified")),
        ):
            if value:
                answer = ask(target, stack, path, headers=f"{header}: {value}\r\n")
                facts[header] = f"{answer.status} {digest(answer.body)}"
        return facts or {"validators": "none"}

    return check


def ranges(target: Target, stack: str) -> Facts:
    facts = {}
    for text in ("bytes=100-199", "bytes=-50", "bytes=0-9,20-29", "bytes=99999999-"):
        answer = ask(target, stack, "/file", headers=f"Range: {text}\r\n")
        body = (
            digest(answer.body)
            if not answer.header("content-type").startswith(RANDOM_TYPE)
            else f"{len(answer.body)} bytes"
        )
        facts[text] = f"{answer.status} {answer.header('content-range')} {body}"
    return facts


def two_requests(target: Target, stack: str) -> Facts:
    """Two requests over one connection: does the second see the context variables of the first?"""
    facts = {}
    with connect(target) as sock:
        for number in ("first", "second"):
            sock.sendall(request_bytes(stack, f"/context?value={number}"))
            answer = read_answer(sock, "GET", time.monotonic())
            facts[number] = answer.body.decode(errors="replace")[:60]
            if answer.header("x-seen"):
                facts[f"{number}, middleware"] = answer.header("x-seen")
    return facts


def scope(target: Target, stack: str) -> Facts:
    answer = ask(target, stack, "/scope?a=b%20c", headers="X-Some: thing\r\n")
    return {name: str(value) for name, value in json.loads(answer.body).items()}


def fault(target: Target, stack: str) -> Facts:
    """The log line may come after the answer: wait for it, so that it is not taken for the next check's."""
    since = target.log.stat().st_size
    facts = facts_of(ask(target, stack, "/fault"))
    deadline = time.monotonic() + 0.5
    while target.log.stat().st_size == since and time.monotonic() < deadline:
        time.sleep(0.02)
    return facts


# Uploads.


def refused(target: Target, stack: str) -> Facts:
    """Send 20 MB as http.client does, all of it before the answer is read, to who answers 401 at once."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=20)
    if target.is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", target.port, timeout=20, context=context
        )
    path = request_bytes(stack, "/refuse").split()[1].decode()
    try:
        connection.request("POST", path, b"x" * REFUSED_BYTES, {"Host": "localhost"})
        response = connection.getresponse()
        return {"status": str(response.status), "body": digest(response.read())}
    except (OSError, http.client.HTTPException) as error:
        return {"status": type(error).__name__}
    finally:
        connection.close()


def continued(target: Target, stack: str) -> Facts:
    """Send a body only after 100 Continue."""
    with connect(target) as sock:
        request = request_bytes(stack, "/upload", "POST", "Expect: 100-continue\r\n", b"x" * 5000)
        head, _, body = request.partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                break
            interim += piece
        sock.sendall(body)
        answer = read_answer(sock, "POST", time.monotonic())
    return {"interim": interim[:12].decode(errors="replace"), "status": str(answer.status)}


def broken_upload(target: Target, stack: str) -> Facts:
    """Leave in the middle of the body."""
    name = key()
    sock = connect(target)
    request = request_bytes(stack, f"/upload?key={name}", "POST", body=UPLOAD)
    sock.sendall(request[: len(request) // 2])
    time.sleep(0.1)
    began = time.monotonic()
    sock.close()
    notes = wait_note(target, name, 2.0)
    return {
        "application is told": _told(notes),
        "after": duration(min(notes.values()) - began if notes else None),
    }


# Departures.


def _reset(sock: socket.socket) -> None:
    """Close with a reset, as who is killed with unread bytes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def departure(path: str, *, resets: bool = False, pause: float = 0.0) -> Check:
    """Return a check that leaves a stream in the middle, and asks something else at once.

    `pause`: seconds in which it reads nothing before it leaves.
    """

    def check(target: Target, stack: str) -> Facts:
        name = key()
        sock = connect(target)
        sock.sendall(request_bytes(stack, f"{path}?key={name}"))
        first = read_some(sock)
        time.sleep(pause)
        began = time.monotonic()
        if resets:
            _reset(sock)
        else:
            sock.close()
        other = ask(target, stack, "/plain")
        # One that never saw its client's departure ends by itself.
        notes = wait_note(target, name, LEAVING_LIMIT)
        ended = min(notes.values()) - began if notes else None
        return {
            "begun": first[9:12].decode(errors="replace"),
            "another is answered": f"{other.status} in {duration(other.seconds)}",
            "application is told": _told(notes),
            "after": duration(ended),
        }

    return check


def departure_before(path: str) -> Check:
    """Return a check that leaves before the answer has begun."""

    def check(target: Target, stack: str) -> Facts:
        name = key()
        sock = connect(target)
        sock.sendall(request_bytes(stack, f"{path}?key={name}"))
        time.sleep(0.1)
        began = time.monotonic()
        sock.close()
        notes = wait_note(target, name, LEAVING_LIMIT)
        return {
            "application is told": _told(notes),
            "after": duration(min(notes.values()) - began if notes else None),
        }

    return check


def busy_neighbour(path: str) -> Check:
    """Return a check that asks something else while a client reads a stream that never waits."""

    def check(target: Target, stack: str) -> Facts:
        name = key()
        with connect(target) as sock:
            sock.sendall(request_bytes(stack, f"{path}?key={name}"))
            read_some(sock)
            other = ask(target, stack, "/plain")
        wait_note(target, name, LEAVING_LIMIT)
        return {"another is answered": f"{other.status} in {duration(other.seconds)}"}

    return check


def half_closed(path: str) -> Check:
    """Return a check that closes its sending side behind the request and reads to the end."""

    def check(target: Target, stack: str) -> Facts:
        with connect(target) as sock:
            began = time.monotonic()
            sock.sendall(request_bytes(stack, path, headers="Connection: close\r\n"))
            if not target.is_tls:
                sock.shutdown(socket.SHUT_WR)
            try:
                answer = read_answer(sock, "GET", began)
            except (OSError, http.client.HTTPException) as error:
                return {"answer": type(error).__name__}
        return {"answer": f"{answer.status} {digest(answer.body)}"}

    return check


def background(target: Target, stack: str) -> Facts:
    """How long until the last byte, with blocking code behind the response."""
    name = key()
    answer = ask(target, stack, f"/background?key={name}")
    notes = wait_note(target, name, LEAVING_LIMIT)
    return {
        "status": str(answer.status),
        # The code behind it takes 0.8 s.
        "last byte": "at once" if answer.seconds < 0.5 else "only when it has run",
        "it has run": " ".join(notes) or "never",
    }


# WebSockets.


def _websocket(target: Target, stack: str, path: str) -> ClientConnection:
    plain = request_bytes(stack, path).split()[1].decode()
    scheme = "wss" if target.is_tls else "ws"
    return connect_websocket(
        f"{scheme}://127.0.0.1:{target.port}{plain}",
        sock=connect(target),
        ssl=None,
        open_timeout=5,
        close_timeout=1,
        proxy=None,
    )


def echo(target: Target, stack: str) -> Facts:
    name = key()
    with _websocket(target, stack, f"/echo?key={name}") as websocket:
        websocket.send("a word")
        short = websocket.recv(5)
        websocket.send("x" * 300_000)
        long = websocket.recv(5)
        websocket.close(4001, "enough")
    notes = wait_note(target, name, 3.0, only_counts=True)
    return {"short": str(short), "long": str(len(long)), "close": " ".join(notes) or "untold"}


def echo_left(target: Target, stack: str) -> Facts:
    """Leave without a closing handshake."""
    name = key()
    sock = connect(target)
    sock.sendall(
        request_bytes(
            stack,
            f"/echo?key={name}",
            headers="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        )
    )
    first = sock.recv(65536)
    began = time.monotonic()
    sock.close()
    notes = wait_note(target, name, 3.0, only_counts=True)
    return {
        "status": first[9:12].decode(errors="replace"),
        "close": " ".join(notes) or "untold",
        "after": duration(min(notes.values()) - began if notes else None),
    }


def _declined(path: str) -> Check:
    def check(target: Target, stack: str) -> Facts:
        try:
            with _websocket(target, stack, path) as websocket:
                websocket.recv(2)
        except InvalidStatus as error:
            response = error.response
            return {
                "status": str(response.status_code),
                "body": digest(bytes(response.body or b"")),
            }
        except ConnectionClosed as error:
            return {"closed": str(error.rcvd.code if error.rcvd else "without a frame")}
        return {"status": "accepted"}

    return check


def pushed(target: Target, stack: str) -> Facts:
    """Leave an application that only sends."""
    name = key()
    sock = connect(target)
    sock.sendall(
        request_bytes(
            stack,
            f"/push?key={name}",
            headers="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        )
    )
    first = read_some(sock)
    began = time.monotonic()
    sock.close()
    notes = wait_note(target, name, LEAVING_LIMIT)
    return {
        "status": first[9:12].decode(errors="replace"),
        "application is told": _told(notes),
        "after": duration(min(notes.values()) - began if notes else None),
    }


FEATURES: tuple[Feature, ...] = (
    Feature("plain answer", simple("/plain"), "/plain"),
    Feature("synchronous view", simple("/plain-sync"), "/plain-sync"),
    Feature("JSON", simple("/json"), "/json"),
    Feature("JSON, compressed", simple("/json", headers=ACCEPTS), "/json"),
    Feature("HEAD", simple("/plain", "HEAD"), "/plain"),
    Feature("file, absolute path", noted("/file"), "/file", over_tls=True),
    Feature("file, relative path", simple("/file?how=relative"), "/file"),
    Feature("file, compressed", simple("/file", headers=ACCEPTS), "/file"),
    Feature("file, HEAD", simple("/file", "HEAD"), "/file"),
    Feature("file, ranges", ranges, "/file", over_tls=True),
    Feature("file, conditional", conditional("/file"), "/file"),
    Feature("static file", simple("/static/data.txt"), "/static"),
    Feature("static file, compressed", simple("/static/data.txt", headers=ACCEPTS), "/static"),
    Feature("static file, conditional", conditional("/static/data.txt"), "/static"),
    Feature("static file, missing", simple("/static/none.txt"), "/static"),
    Feature("stream", noted("/stream"), "/stream", over_tls=True),
    Feature("stream, compressed", simple("/stream", headers=ACCEPTS), "/stream"),
    Feature("stream, HEAD", simple("/stream", "HEAD"), "/stream"),
    Feature("upload of 1 MiB", simple("/upload", "POST", body=UPLOAD), "/upload"),
    Feature("upload, client leaves", broken_upload, "/upload", stacks=Stacks.BARE),
    Feature("upload, 100-continue", continued, "/upload", stacks=Stacks.BARE),
    Feature(
        "upload of 20 MB refused with 401", refused, "/refuse", stacks=Stacks.BARE, over_tls=True
    ),
    Feature("fault in the endpoint", fault, "/fault"),
    Feature("context variables, two requests", two_requests, "/context"),
    Feature("scope", scope, "/scope"),
    Feature("lifespan state", simple("/state"), "/state", stacks=Stacks.BARE),
    Feature("WSGI application, a2wsgi", simple("/wsgi/", "POST", body=UPLOAD), "/wsgi"),
    Feature("client leaves a stream that waits", departure("/waiting"), "/waiting", over_tls=True),
    Feature(
        "client leaves a stream that waits, reset",
        departure("/waiting", resets=True),
        "/waiting",
        stacks=Stacks.BARE,
        over_tls=True,
    ),
    Feature("client leaves a stream that ticks", departure("/ticking"), "/ticking", over_tls=True),
    Feature(
        "client leaves a stream that never waits",
        departure("/busy"),
        "/busy",
        stacks=Stacks.OWN,
        over_tls=True,
        # They would hold all of it, gigabytes.
        not_for=("buffer-response", "BaseHTTP reads body_iterator"),
    ),
    Feature(
        "client leaves a stream that never waits, synchronous",
        departure("/busy-sync"),
        "/busy-sync",
        stacks=Stacks.BARE,
    ),
    Feature(
        "client stops to read a stream, then leaves",
        departure("/busy", pause=0.5),
        "/busy",
        stacks=Stacks.BARE,
        over_tls=True,
    ),
    Feature(
        "another client beside a stream that never waits",
        busy_neighbour("/busy"),
        "/busy",
        stacks=Stacks.BARE,
    ),
    Feature(
        "client leaves events", departure("/events"), "/events", stacks=Stacks.OWN, over_tls=True
    ),
    Feature("client leaves, generator fails", departure("/failing"), "/failing", stacks=Stacks.OWN),
    Feature(
        "client leaves before the answer", departure_before("/slow"), "/slow", stacks=Stacks.OWN
    ),
    Feature(
        "client leaves, endpoint fails",
        departure_before("/late-fault"),
        "/late-fault",
        stacks=Stacks.OWN,
    ),
    Feature(
        "client leaves, dependency with yield",
        departure("/dependency"),
        "/dependency",
        stacks=Stacks.BARE,
    ),
    Feature(
        "is_disconnected()",
        departure_before("/disconnected"),
        "/disconnected",
        stacks=Stacks.OWN,
        over_tls=True,
    ),
    Feature("half-closed client", half_closed("/slow"), "/slow"),
    Feature("half-closed client, stream", half_closed("/stream"), "/stream"),
    Feature("background task that blocks", background, "/background", stacks=Stacks.OWN),
    Feature("WebSocket echo", echo, "/echo", stacks=Stacks.BARE, over_tls=True),
    Feature("WebSocket, client leaves", echo_left, "/echo", stacks=Stacks.BARE, over_tls=True),
    Feature("WebSocket denial response", _declined("/deny"), "/deny", stacks=Stacks.BARE),
    Feature("WebSocket closed before accept", _declined("/reject"), "/reject", stacks=Stacks.BARE),
    Feature("WebSocket sends after the client left", pushed, "/push", stacks=Stacks.BARE),
)


def carry_out(feature: Feature, target: Target, stack: str) -> Facts:
    """Run a check; add what the server logged meanwhile. What it raises is a fact, too."""
    since = target.log.stat().st_size
    try:
        facts = feature.check(target, stack)
    except (OSError, http.client.HTTPException, ValueError) as error:
        facts = {"raised": type(error).__name__}
    return {**facts, "log": log_fact(wait_log(target, since))}
