"""Startup and shutdown as applications really behave."""

import asyncio
from typing import Any

import pytest

from asgireload.errors import LifespanError
from asgireload.worker.lifespan import Lifespan


async def good(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["pool"] = "open"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    scope["state"]["pool"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


def test_state_is_shared_and_shutdown_is_awaited(run: Any) -> None:
    async def main() -> None:
        lifespan = Lifespan(good)
        await lifespan.startup()
        state = lifespan.state
        assert state == {"pool": "open"}
        assert await lifespan.shutdown(1.0)
        assert state == {"pool": "closed"}

    run(main())


def test_off_never_calls_the_application(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def main() -> None:
        lifespan = Lifespan(app, "off")
        await lifespan.startup()
        assert lifespan.state is None
        assert await lifespan.shutdown(1.0)

    run(main())


@pytest.mark.parametrize("how", ["raise", "return"])
def test_an_application_without_lifespan_serves_in_auto_and_fails_in_on(run: Any, how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if how == "raise":
            raise KeyError("http only")

    async def main() -> None:
        lifespan = Lifespan(app, "auto")
        await lifespan.startup()
        assert lifespan.state is None
        assert await lifespan.shutdown(1.0)
        expected = "http only" if how == "raise" else "returned before"
        with pytest.raises(LifespanError, match=expected):
            await Lifespan(app, "on").startup()

    run(main())


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_failed_startup_carries_the_applications_message(run: Any, mode: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback: no database"})
        raise RuntimeError("and then it raises, as Starlette does")

    async def main() -> None:
        with pytest.raises(LifespanError, match="no database"):
            await Lifespan(app, mode).startup()

    run(main())


def test_system_exit_in_startup_is_a_failure_even_in_auto(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise SystemExit(7)

    async def main() -> None:
        with pytest.raises(LifespanError, match="SystemExit"):
            await Lifespan(app, "auto").startup()

    run(main())


def test_a_cancelled_startup_ends_the_application(run: Any) -> None:
    ended: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await Lifespan(app).startup()
        assert ended == [True]

    run(main())


def test_a_shutdown_that_hangs_is_given_up(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(60)

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert not await lifespan.shutdown(0.02)
        assert "did not complete within 0.02 s" in caplog.text

    run(main())


@pytest.mark.parametrize("how", ["message", "raise"])
def test_a_failed_shutdown_is_reported(
    run: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if how == "raise":
            raise ValueError("pool is stuck")
        await send({"type": "lifespan.shutdown.failed", "message": "pool is stuck"})

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert not await lifespan.shutdown(1.0)
        assert "pool is stuck" in caplog.text

    run(main())


def test_an_application_that_ends_after_startup_has_nothing_to_shut_down(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert lifespan.state == {}
        assert await lifespan.shutdown(1.0)

    run(main())


def test_messages_out_of_order_are_refused(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        with pytest.raises(LifespanError, match="not allowed now"):
            await Lifespan(app, "on").startup()

    run(main())


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("message", "pool is stuck"),
        ("raise", "ValueError: pool is stuck"),
        ("exit", "SystemExit: 7"),
        ("cancel", "the lifespan was cancelled"),
        ("hang", "it did not complete within 0.05 s"),
        ("earlier", "it could not run: ValueError: pool was lost"),
        ("succeed", ""),
    ],
)
def test_why_a_shutdown_failed_is_told_in_one_line(run: Any, how: str, expected: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if how == "earlier":
            raise ValueError("pool was lost")
        await receive()
        match how:
            case "message":
                await send({"type": "lifespan.shutdown.failed", "message": "pool is stuck"})
            case "raise":
                raise ValueError("pool is stuck")
            case "exit":
                raise SystemExit(7)
            case "cancel":
                raise asyncio.CancelledError
            case "hang":
                await asyncio.sleep(60)
            case _:
                await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await asyncio.sleep(0)
        assert await lifespan.shutdown(0.05) is (how == "succeed")
        assert lifespan.shutdown_failure == expected

    run(main())
