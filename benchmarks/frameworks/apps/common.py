"""What the applications share: notes for the driver, the data they send, and many middleware stacks in one process.

A note is a line `KEY WHAT SECONDS` in the file that FRAMEWORKS_NOTES names. Seconds are of the monotonic
clock, which all processes of the machine share. The driver reads notes also while the server answers nobody.
"""

import asyncio
import contextvars
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

NOTES = os.environ.get("FRAMEWORKS_NOTES", os.devnull)
DATA = os.environ.get("FRAMEWORKS_DATA", ".")
"""The working directory of the server, with `data.txt` in it."""
FILE = "data.txt"
ROW = b"a row of text that compresses well, as most of them do\n"
PIECES = 20
BUSY_SECONDS = 2.0
"""How long a stream runs that never waits, if nobody ends it."""
LONG_SECONDS = 2.0
"""How long others run."""
BLOCKING_SECONDS = 0.8
SLOW_SECONDS = 0.3
JSON = {"rows": [{"number": number, "text": "some text"} for number in range(60)]}

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


def note(key: str, what: str) -> None:
    """Append a note."""
    line = f"{key} {what} {time.monotonic():.6f}\n".encode()
    descriptor = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def name_of(error: BaseException) -> str:
    return type(error).__name__


async def pieces():
    for number in range(PIECES):
        await asyncio.sleep(0.002)
        yield b"piece %d: " % number + ROW * 20


async def busy(key):
    """Stream for a while and never wait for anything."""
    until = time.monotonic() + BUSY_SECONDS
    try:
        while time.monotonic() < until:
            yield ROW * 200
    finally:
        note(key, "ended")


def busy_sync(key):
    until = time.monotonic() + BUSY_SECONDS
    try:
        while time.monotonic() < until:
            yield ROW * 200
    finally:
        note(key, "ended")


async def waiting(key):
    """Send one piece, then wait for what never comes."""
    try:
        yield b"first\n" * 200
        async with asyncio.timeout(LONG_SECONDS):
            await asyncio.Queue().get()
    except TimeoutError:
        pass
    finally:
        note(key, "ended")


async def ticking(key):
    """Send a piece every 50 ms."""
    until = time.monotonic() + LONG_SECONDS
    try:
        while time.monotonic() < until:
            yield b"tick\n" * 200
            await asyncio.sleep(0.05)
    finally:
        note(key, "ended")


async def failing(key):
    """Send a piece, and fail a moment later."""
    yield b"first\n" * 200
    try:
        await asyncio.sleep(SLOW_SECONDS)
    finally:
        note(key, "ended")
    raise RuntimeError("a fault of the generator")


async def slow(key):
    """Take a while; tell whether it was cancelled."""
    try:
        await asyncio.sleep(SLOW_SECONDS)
    except asyncio.CancelledError:
        note(key, "cancelled")
        raise
    note(key, "done")


def block(key: str) -> None:
    """Keep the loop from running, as code does that should be in a thread."""
    time.sleep(BLOCKING_SECONDS)
    note(key, "ended")


def swap_seen(value: str) -> str:
    """Return what the context variable holds, and set it."""
    before = seen.get()
    seen.set(value)
    return before


class Stacks:
    """Serves `/NAME/path` by the application of that name as `/path`; lifespans run one inside the other."""

    def __init__(self, apps: dict[str, App]) -> None:
        self.apps = apps
        """Whoever wants to make another of them may add it until the lifespan begins."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        name, _, rest = scope["path"][1:].partition("/")
        if not name:
            # The driver asks whether anybody is there.
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here"})
            return
        raw = scope.get("raw_path")
        inner = {**scope, "path": f"/{rest}"}
        if raw:
            inner["raw_path"] = b"/" + raw[1:].partition(b"/")[2]
        await self.apps[name](inner, receive, send)

    async def _lifespan(self, scope, receive, send):
        await receive()
        running = []
        for name, app in self.apps.items():
            heard = asyncio.Queue()
            said = asyncio.Queue()
            heard.put_nowait({"type": "lifespan.startup"})
            task = asyncio.create_task(app(scope, heard.get, said.put))
            answer = asyncio.ensure_future(said.get())
            await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
                task.exception()  # it knows no lifespan
                continue
            if answer.result()["type"] != "lifespan.startup.complete":
                await send({**answer.result(), "message": f"{name}: {answer.result()}"})
                return
            running.append((task, heard, said))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task, heard, said in reversed(running):
            heard.put_nowait({"type": "lifespan.shutdown"})
            answer = asyncio.ensure_future(said.get())
            await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
            answer.cancel()
        note("lifespan", "shutdown")
        await send({"type": "lifespan.shutdown.complete"})


# Middleware as people write it by hand.


class HoldStart:
    """Holds the start of the response until the first piece of the body, as GZipMiddleware does."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope, receive, send):
        held: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
            elif message["type"] == "http.response.body":
                if held:
                    await send(held.pop())
                await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)


class CountBytes:
    """Counts body bytes and tells of them in a note under the request's key."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope, receive, send):
        count = 0

        async def counting(message: Message) -> None:
            nonlocal count
            if message["type"] == "http.response.body":
                count += len(message.get("body", b""))
                if not message.get("more_body"):
                    note(query_key(scope), f"counted={count}")
            await send(message)

        await self.app(scope, receive, counting if scope["type"] == "http" else send)


class RewriteBodies:
    """Makes every body upper case."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope, receive, send):
        async def rewriting(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": message.get("body", b"").upper()}
            await send(message)

        await self.app(scope, receive, rewriting if scope["type"] == "http" else send)


class BufferResponse:
    """Keeps start and body until the end, then sends both at once with a length of its own."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope, receive, send):
        start: dict[str, Any] = {}
        body = bytearray()

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                kept = [(n, v) for n, v in start["headers"] if n.lower() != b"content-length"]
                kept.append((b"content-length", b"%d" % len(body)))
                await send({**start, "headers": kept})
                await send({"type": "http.response.body", "body": bytes(body)})

        await self.app(scope, receive, keeping if scope["type"] == "http" else send)


def query_key(scope) -> str:
    """Return the value of `key` in the query string."""
    for pair in scope.get("query_string", b"").decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        if name == "key":
            return value
    return "none"


def wrap(app: App, *layers) -> App:
    """Put ASGI middleware around an application; the first is outermost."""
    for layer in reversed(layers):
        app = layer(app)
    return app


def optional(make: Callable[[], App]) -> App | None:
    """Return what `make` makes, or None where a package it imports is not installed."""
    try:
        return make()
    except ModuleNotFoundError:
        return None


def all_of(apps: dict[str, App | None]) -> Stacks:
    return Stacks({name: app for name, app in apps.items() if app is not None})


BY_HAND = {
    "hold-start": HoldStart,
    "count-bytes": CountBytes,
    "rewrite-bodies": RewriteBodies,
    "buffer-response": BufferResponse,
}


def packaged() -> dict[str, Callable[[App], App]]:
    """Return middleware from PyPI that any ASGI application may have around it, each with its name.

    A factory raises ModuleNotFoundError where its package is not installed.
    """

    def brotli(app):
        from brotli_asgi import BrotliMiddleware

        return BrotliMiddleware(app, minimum_size=400)

    def zstd(app):
        from zstd_asgi import ZstdMiddleware

        return ZstdMiddleware(app)

    def gzip(app):
        from asgi_gzip import GZipMiddleware

        return GZipMiddleware(app)

    def compress(app):
        from starlette_compress import CompressMiddleware

        return CompressMiddleware(app)

    def correlation(app):
        from asgi_correlation_id import CorrelationIdMiddleware

        return CorrelationIdMiddleware(app)

    def logger(app):
        from asgi_logger import AccessLoggerMiddleware

        silent = logging.getLogger("silent")
        silent.propagate = False
        silent.addHandler(logging.NullHandler())
        return AccessLoggerMiddleware(app, format="%(status)s", logger=silent)

    def cors(app):
        from asgi_cors import asgi_cors

        return asgi_cors(app, allow_all=True)

    def csrf(app):
        from asgi_csrf import asgi_csrf

        return asgi_csrf(app, signing_secret="secret", skip_if_scope=lambda scope: True)

    def timing(app):
        from timing_asgi import TimingClient, TimingMiddleware

        class Client(TimingClient):
            def timing(self, metric_name, timing, tags=None):
                pass

        return TimingMiddleware(app, Client(), metric_namer=lambda scope: scope["path"])

    def telemetry(app):
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        return OpenTelemetryMiddleware(app)

    def sentry(app):
        from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

        return SentryAsgiMiddleware(app)

    def headers(app):
        from secure import Secure
        from secure.middleware import SecureASGIMiddleware

        return SecureASGIMiddleware(app, secure=Secure.with_default_headers())

    return {
        "asgi-correlation-id": correlation,
        "asgi-cors": cors,
        "asgi-csrf": csrf,
        "asgi-gzip": gzip,
        "asgi-logger": logger,
        "brotli-asgi": brotli,
        "opentelemetry-instrumentation-asgi": telemetry,
        "secure": headers,
        "sentry-sdk": sentry,
        "starlette-compress": compress,
        "timing-asgi": timing,
        "zstd-asgi": zstd,
    }
