"""What an application raises because its client has left is told from what is its own."""

import asyncio
import gc
import logging
import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from asgireload.errors import ClientDisconnectedError
from asgireload.http.refusals import application_error
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_context_variables import HANDSHAKE
from tests.http.test_exchange import GET, OK
from tests.http.test_senders import leave


def caught(raising: Any) -> BaseException:
    try:
        raising()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("raised nothing")


def refused() -> None:
    raise ClientDisconnectedError("the client has left")


def wrapping(wrapper: BaseException, *, explicit: bool = False, hides: bool = False) -> Any:
    def raising() -> None:
        try:
            refused()
        except OSError as error:
            if explicit:
                raise wrapper from error
            if hides:
                raise wrapper from None
            raise wrapper  # noqa: B904 - that is what is tried

    return raising


DEPARTURES = {
    "itself": refused,
    "implicit": wrapping(ClientDisconnect()),
    "explicit": wrapping(ValueError("wrapped"), explicit=True),
    "hidden": wrapping(ClientDisconnect(), hides=True),
    "connection error": wrapping(BrokenPipeError()),
}


@pytest.mark.parametrize("name", DEPARTURES)
def test_a_departure_is_no_error_however_it_is_wrapped(name: str) -> None:
    error = caught(DEPARTURES[name])
    assert application_error(error) is None
    group = BaseExceptionGroup("g", [error, BaseExceptionGroup("h", [error])])
    assert application_error(group) is None
    cancelled = BaseExceptionGroup("g", [error, asyncio.CancelledError()])
    assert application_error(cancelled) is None
    around = wrapping(RuntimeError())
    around_group = caught(around)
    around_group.__cause__ = group
    assert application_error(around_group) is None


OWN = {
    "value": lambda: int("x"),
    "its connection": lambda: (_ for _ in ()).throw(ConnectionResetError("the database")),
    "its file": wrapping(FileNotFoundError("f")),
    "mistake while it handles the departure": wrapping(AttributeError("x")),
    "exit while it handles the departure": wrapping(SystemExit(1)),
}


@pytest.mark.parametrize("name", OWN)
def test_what_is_the_applications_own_stays_an_error(name: str) -> None:
    raising = OWN[name]
    error = caught(lambda: next(raising()) if name == "its connection" else raising())
    assert application_error(error) is error
    group = BaseExceptionGroup("g", [error])
    assert application_error(group) is group
    mixed = BaseExceptionGroup("g", [caught(refused), error, asyncio.CancelledError()])
    part = application_error(mixed)
    assert isinstance(part, BaseExceptionGroup)
    assert part.exceptions == (error,)
    assert part.message == "g"


def test_chains_without_an_end() -> None:
    error = RuntimeError()
    other = RuntimeError()
    error.__context__, other.__context__ = other, error
    assert application_error(error) is error
    group = ExceptionGroup("g", [error])
    other.__context__ = group
    assert application_error(group) is group
    assert application_error(error) is error


# What frameworks make of it.


async def fail_later(request: Any) -> Any:
    await asyncio.sleep(0.2)
    raise ValueError("a mistake of the application")


async def fail_of_its_own(request: Any) -> Any:
    await asyncio.sleep(0.2)
    raise ConnectionResetError("the database has reset the connection")


ran: list[str] = []


async def note() -> None:
    ran.append("background")


async def answer_later(request: Any) -> Any:
    await asyncio.sleep(0.2)
    return PlainTextResponse("late", background=BackgroundTask(note))


async def stream(request: Any) -> Any:
    async def pieces() -> Any:
        try:
            while True:
                yield b"x" * 100
                if request.url.path == "/stream":
                    await asyncio.sleep(0.01)
        finally:
            ran.append("finally")

    return StreamingResponse(pieces(), background=BackgroundTask(note))


async def wait_forever(request: Any) -> Any:
    async def pieces() -> Any:
        try:
            yield b"x" * 100
            await asyncio.Event().wait()
        finally:
            ran.append("finally")

    return StreamingResponse(pieces(), background=BackgroundTask(note))


async def passed_on(request: Any, call_next: Any) -> Any:
    return await call_next(request)


ROUTES = [
    Route("/error", fail_later),
    Route("/own", fail_of_its_own),
    Route("/late", answer_later),
    Route("/stream", stream),
    Route("/busy", stream),
    Route("/silent", wait_forever),
]
MIDDLEWARES = {"plain": [], "base": [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]}


@pytest.mark.parametrize("middleware", MIDDLEWARES)
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    ("path", "errors", "expected"),
    [
        ("/error", ["ValueError: a mistake of the application"], []),
        ("/own", ["ConnectionResetError: the database has reset the connection"], []),
        ("/late", [], ["background"]),
        ("/stream", [], ["finally", "background"]),
        ("/busy", [], ["finally", "background"]),
        ("/silent", [], ["finally", "background"]),
    ],
)
def test_starlette_whose_client_has_left(
    run: Any,
    caplog: Any,
    middleware: str,
    how: str,
    path: str,
    errors: list[str],
    expected: list[str],
) -> None:
    ran.clear()
    caplog.set_level(logging.INFO)
    app = Starlette(routes=ROUTES, middleware=MIDDLEWARES[middleware])

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b" / ", b" %b " % path.encode()))
            if path in ("/stream", "/busy", "/silent"):
                await client.read_until(b"xxx\r\n")
            else:
                await server.wait_until(lambda: server.count(Field.EXCHANGES))
            leave(client, how)
            await server.wait_until(lambda: server.live.is_idle)
            assert server.count(Field.APP_ERRORS_TOTAL) == len(errors)

    run(main())
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == len(errors)
    for record, error in zip(lines, errors, strict=True):
        assert record.exc_info is not None
        assert str(record.exc_info[1]) in error
    # Which of the two comes first is Starlette's own affair.
    assert sorted(ran) == sorted(expected)


@pytest.mark.parametrize("how", ["running", "paused"])
def test_a_generator_whose_client_has_left_is_closed_without_the_garbage_collector(
    run: Any, how: str
) -> None:
    ended: list[bool] = []

    async def pieces() -> Any:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            ended.append(True)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            if how == "paused":
                client.writer.transport.pause_reading()
            client.send(GET)
            await server.wait_until(lambda: server.count(Field.BYTES_SENT_TOTAL) > 100_000)
            (connection,) = server.live.connections
            if how == "paused":
                await server.wait_until(lambda: connection.writer.is_paused)  # type: ignore[attr-defined]
            leave(client, "reset")
            await server.wait_until(lambda: ended)

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_an_application_sees_no_exception_that_it_has_handled(run: Any) -> None:
    """As it would where what runs it is compiled."""
    seen: list[Any] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise FileNotFoundError("x")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
        try:
            await asyncio.ensure_future(fail())
        except FileNotFoundError:
            pass
        seen.append(sys.exc_info()[1])
        await asyncio.sleep(0)
        error = caught(lambda: int("x"))
        seen.append(error.__context__)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            await server.exchange(GET.replace(b"Host", b"Connection: close\r\nHost"))
            await server.exchange(HANDSHAKE)
        assert seen == [None] * 4

    run(main())


def test_what_ends_a_response_is_taken_for_a_client_that_has_left(run: Any) -> None:
    done: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(OK)
        await send({"type": "http.response.body", "body": b"whole"})
        done.append(True)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES))
            leave(client, "reset")
            await server.wait_until(lambda: done)

    run(main())
