"""Starlette, with its own middleware and what PyPI has for it."""

import asyncio
import hashlib
import os
import re
import time
from contextlib import asynccontextmanager

import common
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect


def key_of(request):
    return request.query_params.get("key", "none")


async def plain(request):
    return PlainTextResponse("hello")


async def json(request):
    return JSONResponse(common.JSON)


async def file(request):
    how = request.query_params.get("how")
    return FileResponse(
        common.FILE if how == "relative" else os.path.join(common.DATA, common.FILE)
    )


async def stream(request):
    return StreamingResponse(common.pieces(), media_type="text/plain")


async def busy(request):
    return StreamingResponse(common.busy(key_of(request)), media_type="text/plain")


async def busy_sync(request):
    return StreamingResponse(common.busy_sync(key_of(request)), media_type="text/plain")


async def waiting(request):
    return StreamingResponse(common.waiting(key_of(request)), media_type="text/plain")


async def ticking(request):
    return StreamingResponse(common.ticking(key_of(request)), media_type="text/plain")


async def failing(request):
    return StreamingResponse(common.failing(key_of(request)), media_type="text/plain")


async def events(request):
    from sse_starlette import EventSourceResponse

    key = key_of(request)

    async def numbers():
        try:
            for number in range(80):
                yield {"event": "number", "data": number}
                await asyncio.sleep(0.05)
        finally:
            common.note(key, "ended")

    return EventSourceResponse(numbers())


async def fault(request):
    raise RuntimeError("a fault of the endpoint")


async def late_fault(request):
    await common.slow(key_of(request))
    raise RuntimeError("a late fault")


async def slow(request):
    await common.slow(key_of(request))
    return PlainTextResponse("slow")


async def upload(request):
    try:
        body = await request.body()
    except Exception as error:
        common.note(key_of(request), common.name_of(error))
        raise
    return JSONResponse({"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]})


async def refuse(request):
    """Answer without reading the body."""
    return PlainTextResponse("refused", status_code=401)


async def background(request):
    async def block():
        common.block(key_of(request))

    return PlainTextResponse("soon", background=BackgroundTask(block))


async def context(request):
    return PlainTextResponse(common.swap_seen(request.query_params["value"]))


async def disconnected(request):
    until = time.monotonic() + common.LONG_SECONDS
    while time.monotonic() < until:
        if await request.is_disconnected():
            common.note(key_of(request), "noticed")
            return PlainTextResponse("gone")
        await asyncio.sleep(0.05)
    common.note(key_of(request), "unnoticed")
    return PlainTextResponse("still there")


async def state(request):
    return JSONResponse({"state": getattr(request.state, "made", None)})


async def scope(request):
    given = request.scope
    return JSONResponse(
        {
            "http_version": given["http_version"],
            "method": given["method"],
            "scheme": given["scheme"],
            "path": given["path"],
            "raw_path": given["raw_path"].decode(),
            "query_string": given["query_string"].decode(),
            "root_path": given["root_path"],
            "headers": sorted(name.decode() for name, _ in given["headers"]),
            "client": given["client"][0],
            "server": given["server"][0],
        }
    )


async def echo(websocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as error:
        common.note(websocket.query_params.get("key", "none"), f"code={error.code}")


async def deny(websocket):
    await websocket.send_denial_response(PlainTextResponse("denied", status_code=403))


async def reject(websocket):
    await websocket.close(4003)


async def push(websocket):
    """Send without ever receiving; tell what becomes of it when the client has left."""
    key = websocket.query_params.get("key", "none")
    await websocket.accept()
    until = time.monotonic() + common.LONG_SECONDS
    try:
        while time.monotonic() < until:
            await websocket.send_text("x" * 1000)
            await asyncio.sleep(0.02)
    except Exception as error:
        common.note(key, common.name_of(error))
        raise
    common.note(key, "unnoticed")


@asynccontextmanager
async def lifespan(app):
    yield {"made": "at startup"}


def wsgi():
    from a2wsgi import WSGIMiddleware

    def app(environ, start_response):
        size = len(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d bytes\n" % size, common.ROW * 100]

    return WSGIMiddleware(app)


def routes():
    return [
        Route("/plain", plain),
        Route("/json", json),
        Route("/file", file),
        Mount("/static", StaticFiles(directory=common.DATA)),
        Route("/stream", stream),
        Route("/busy", busy),
        Route("/busy-sync", busy_sync),
        Route("/waiting", waiting),
        Route("/ticking", ticking),
        Route("/failing", failing),
        Route("/events", events),
        Route("/fault", fault),
        Route("/late-fault", late_fault),
        Route("/slow", slow),
        Route("/upload", upload, methods=["POST"]),
        Route("/refuse", refuse, methods=["POST"]),
        Route("/background", background),
        Route("/context", context),
        Route("/disconnected", disconnected),
        Route("/state", state),
        Route("/scope", scope),
        Mount("/wsgi", common.optional(wsgi) or PlainTextResponse("not installed")),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/reject", reject),
        WebSocketRoute("/push", push),
    ]


# BaseHTTPMiddleware as people write it.


class PassOn(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-passed"] = "on"
        return response


class ReadWhole(BaseHTTPMiddleware):
    """Reads the whole body and answers with a response of its own, as middleware does that logs or signs bodies."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        body = b"".join([piece async for piece in response.body_iterator])
        headers = {n: v for n, v in response.headers.items() if n != "content-length"}
        return Response(body, response.status_code, headers)


class RewriteIterator(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        inner = response.body_iterator

        async def upper():
            async for piece in inner:
                yield piece.upper()

        response.body_iterator = upper()
        return response


class ReadRequest(BaseHTTPMiddleware):
    """Reads the request's body before the endpoint does."""

    async def dispatch(self, request, call_next):
        await request.body()
        return await call_next(request)


class SetContext(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-seen"] = common.swap_seen("of the middleware")
        return response


def make(*middleware, extra=lambda app: None):
    app = Starlette(routes=routes(), middleware=list(middleware), lifespan=lifespan)
    extra(app)
    return app


def make_context():
    from starlette_context import plugins
    from starlette_context.middleware import RawContextMiddleware

    return make(Middleware(RawContextMiddleware, plugins=(plugins.RequestIdPlugin(),)))


def make_context_base():
    from starlette_context import plugins
    from starlette_context.middleware import ContextMiddleware

    return make(Middleware(ContextMiddleware, plugins=(plugins.RequestIdPlugin(),)))


def make_csrf():
    from starlette_csrf import CSRFMiddleware

    return make(Middleware(CSRFMiddleware, secret="secret", exempt_urls=[re.compile(".*")]))


def _limit(app):
    from slowapi import Limiter
    from slowapi.util import get_remote_address

    app.state.limiter = Limiter(key_func=get_remote_address, default_limits=["100000/minute"])


def make_slowapi():
    from slowapi.middleware import SlowAPIMiddleware

    return make(Middleware(SlowAPIMiddleware), extra=_limit)


def make_slowapi_asgi():
    from slowapi.middleware import SlowAPIASGIMiddleware

    return make(Middleware(SlowAPIASGIMiddleware), extra=_limit)


def make_exporter():
    from starlette_exporter import PrometheusMiddleware

    return make(Middleware(PrometheusMiddleware, app_name="compared", prefix="exporter"))


def make_prometheus():
    from starlette_prometheus import PrometheusMiddleware

    return make(Middleware(PrometheusMiddleware))


def make_instrumentator():
    from prometheus_fastapi_instrumentator import Instrumentator

    return make(extra=lambda app: Instrumentator().instrument(app))


def make_starsessions():
    from starsessions import InMemoryStore, SessionAutoloadMiddleware
    from starsessions import SessionMiddleware as Sessions

    return make(
        Middleware(Sessions, store=InMemoryStore(), lifetime=60),
        Middleware(SessionAutoloadMiddleware),
    )


def make_elastic():
    from elasticapm.contrib.starlette import ElasticAPM, make_apm_client

    client = make_apm_client(
        {
            "SERVICE_NAME": "compared",
            "DISABLE_SEND": True,
            "CENTRAL_CONFIG": False,
            "LOG_LEVEL": "off",
        }
    )
    return make(Middleware(ElasticAPM, client=client))


STACKS = {
    "none": make(),
    "GZip": make(Middleware(GZipMiddleware)),
    "GZip, BaseHTTP": make(Middleware(GZipMiddleware), Middleware(PassOn)),
    "BaseHTTP, GZip": make(Middleware(PassOn), Middleware(GZipMiddleware)),
    "BaseHTTP passes on": make(Middleware(PassOn)),
    "BaseHTTP twice": make(Middleware(PassOn), Middleware(PassOn)),
    "BaseHTTP reads body_iterator": make(Middleware(ReadWhole)),
    "BaseHTTP rewrites body_iterator": make(Middleware(RewriteIterator)),
    "BaseHTTP reads request": make(Middleware(ReadRequest)),
    "BaseHTTP sets a context variable": make(Middleware(SetContext)),
    "CORS": make(Middleware(CORSMiddleware, allow_origins=["*"])),
    "Session": make(Middleware(SessionMiddleware, secret_key="secret")),
    "TrustedHost": make(Middleware(TrustedHostMiddleware, allowed_hosts=["localhost"])),
    **{name: make(Middleware(kind)) for name, kind in common.BY_HAND.items()},
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in common.packaged().items()
    },
    "elastic-apm": common.optional(make_elastic),
    "prometheus-fastapi-instrumentator": common.optional(make_instrumentator),
    "slowapi": common.optional(make_slowapi),
    "slowapi, ASGI": common.optional(make_slowapi_asgi),
    "starlette-context": common.optional(make_context),
    "starlette-context, BaseHTTP": common.optional(make_context_base),
    "starlette-csrf": common.optional(make_csrf),
    "starlette-exporter": common.optional(make_exporter),
    "starlette-prometheus": common.optional(make_prometheus),
    "starsessions": common.optional(make_starsessions),
}
app = common.all_of(STACKS)
