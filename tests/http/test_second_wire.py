"""An exchange means the same over a wire that is not HTTP/1.1: nothing of that is asked for."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from asgireload.errors import AppProtocolError, ClientDisconnectedError
from asgireload.http import response_stream
from asgireload.ipc.scoreboard import Field, Limit
from tests.http.test_exchange import OK, echo, hello, read_body

if not response_stream.__file__.endswith(".py"):
    pytest.skip("a class of a test cannot inherit from a compiled one", allow_module_level=True)

from tests.http.second_wire import RecordingStream, second_wire

START = ("start", 200, OK["headers"])
SSE = {**OK, "headers": [(b"content-type", b"text/event-stream")]}


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def started(stream: RecordingStream) -> Any:
    """Return status and headers of the response."""
    return next((each[1], [*each[2]]) for each in stream.sent if each[0] == "start")


def test_a_response_is_a_start_a_body_and_an_end(run: Any) -> None:
    async def main() -> None:
        async with second_wire(hello) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream))
            assert stream.sent == [
                ("start", 200, tuple(OK["headers"])),
                ("data", b"hello", False),
                ("complete",),
            ]
            assert wire.count(Field.RESPONSES_2XX_TOTAL) == 1

    run(main())


def test_the_scope_says_what_the_wire_can_carry(run: Any) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    async def main() -> None:
        async with second_wire(app) as wire:
            await wire.finish(wire.exchange(RecordingStream(can_send_trailers=True), version="2"))
            await wire.finish(wire.exchange(RecordingStream(can_inform=False), version="1.1"))
        able, unable = scopes
        assert able["http_version"] == "2"
        assert able["path"] == "/a"
        assert able["query_string"] == b"b=c"
        assert {"http.response.early_hint", "http.response.trailers"} <= {*able["extensions"]}
        assert "http.response.early_hint" not in unable["extensions"]
        assert "http.response.trailers" not in unable["extensions"]

    run(main())


def test_pieces_go_one_by_one(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        for body in (b"a", b"", b"b"):
            await send(piece(body))
        await send(piece(b"", more=False))

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream))
            assert stream.body == b"ab"
            assert stream.kinds == ["start", *["data"] * 4, "complete"]

    run(main())


def test_the_request_body_is_read_in_pieces_and_slows_the_client_down(run: Any) -> None:
    async def main() -> None:
        async with second_wire(echo) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream, "POST", body_follows=True)
            await asyncio.sleep(0)
            assert not exchange.feed_body(b"first ")
            assert exchange.feed_body(b"x" * 70_000)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert "resume_body" in stream.kinds
            exchange.feed_body(b" last")
            exchange.complete_request()
            await wire.finish(exchange)
            assert stream.body == b"first " + b"x" * 70_000 + b" last"

    run(main())


def test_a_client_is_told_to_go_on_when_its_body_is_asked_for(run: Any) -> None:
    async def main() -> None:
        async with second_wire(echo) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream, "POST", body_follows=True)
            exchange.needs_continue = True
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            exchange.feed_body(b"a")
            exchange.complete_request()
            await wire.finish(exchange)
            assert stream.body == b"a"

    run(main())


def test_a_response_without_a_body_is_complete_with_its_head(run: Any) -> None:
    taken: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send(piece(b"a"))
        await send(piece(b"b"))
        await send(piece(b"c", more=False))
        taken.append("all")

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream, "HEAD"))
            assert stream.kinds == ["start", "data", "complete"]
            assert stream.body == b""
            assert taken == ["all"]

    run(main())


@pytest.mark.parametrize("takes", [True, False])
def test_trailers_are_sent_where_the_client_takes_them(run: Any, takes: bool) -> None:
    fields = [(b"checksum", b"1")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**OK, "trailers": True})
        await send(piece(b"a", more=False))
        await send({"type": "http.response.trailers", "headers": fields, "more_trailers": False})

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream(can_send_trailers=takes)
            await wire.finish(wire.exchange(stream))
            expected = ["start", "data", "trailers", "complete"]
            assert stream.kinds == (expected if takes else ["start", "data", "complete"])
            if takes:
                assert stream.sent[2] == ("trailers", tuple(fields), False)

    run(main())


@pytest.mark.parametrize("can_inform", [True, False])
def test_early_hints_come_before_the_response(run: Any, can_inform: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
        await hello(scope, receive, send)

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream(can_inform=can_inform)
            await wire.finish(wire.exchange(stream))
            assert stream.kinds == [*["hints"] * can_inform, "start", "data", "complete"]

    run(main())


def test_a_file_is_sent_by_the_wire(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": str(path)})

    async def parts(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        with path.open("rb") as file:
            kind = "http.response.zerocopysend"
            await send({"type": kind, "file": file, "count": 3, "more_body": True})
            await send({"type": kind, "file": file, "offset": 8})

    async def main() -> None:
        for serve, expected in ((app, b"0123456789"), (parts, b"01289")):
            async with second_wire(serve, sendfile=True) as wire:
                stream = RecordingStream()
                await wire.finish(wire.exchange(stream))
                assert stream.body == expected
                assert stream.kinds[0] == "start"
                assert stream.kinds[-1] == "complete"
            async with second_wire(serve, sendfile=True) as wire:
                stream = RecordingStream()
                await wire.finish(wire.exchange(stream, "HEAD"))
                assert stream.body == b""
                assert stream.kinds == ["start", "data", "complete"]

    run(main())


def test_a_client_that_leaves_within_a_file_breaks_the_response_off(
    run: Any, tmp_path: Any
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": str(path)})

    async def main() -> None:
        async with second_wire(app, sendfile=True) as wire:
            stream = RecordingStream()
            stream.file_may_go_on.clear()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            stream.has_left = True
            stream.file_may_go_on.set()
            await wire.finish(exchange)
            assert stream.kinds == ["start", "abort"]

    run(main())


def test_headers_that_cannot_be_sent_are_answered_with_500(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**OK, "headers": [(b"a", b"b\nc")]})
        await send(piece(b"a", more=False))

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream))
            assert started(stream)[0] == 500
            assert wire.count(Field.RESPONSES_5XX_TOTAL) == 1

    run(main())
    assert "a line break" in caplog.text


def test_a_body_that_does_not_fit_breaks_off_once_it_has_begun(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(*bodies: bytes) -> Any:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({**OK, "headers": [(b"content-length", b"3")]})
            for body in bodies:
                await send(piece(body))
            await send(piece(b"", more=False))

        return serve

    async def main() -> None:
        for bodies, expected in (
            ([b"abcd"], ["start", "data", "complete"]),
            ([b"ab", b"cd"], ["start", "data", "abort"]),
            ([b"ab"], ["start", "data", "abort"]),
            ([b"ab", b"c"], ["start", "data", "data", "data", "complete"]),
        ):
            async with second_wire(app(*bodies)) as wire:
                stream = RecordingStream()
                await wire.finish(wire.exchange(stream))
                assert stream.kinds == expected
                if bodies == [b"abcd"]:
                    assert started(stream)[0] == 500

    run(main())
    assert "bytes off" in caplog.text


def test_an_application_that_fails_is_answered_for_or_broken_off(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def app(*messages: Any, ends: bool) -> Any:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)
            if not ends:
                raise RuntimeError("a mistake")

        return serve

    async def main() -> None:
        for ends in (True, False):
            async with second_wire(app(ends=ends)) as wire:
                stream = RecordingStream()
                await wire.finish(wire.exchange(stream))
                assert started(stream)[0] == 500
                assert stream.kinds == ["start", "data", "complete"]
            async with second_wire(app(OK, piece(b"a"), ends=ends)) as wire:
                stream = RecordingStream()
                await wire.finish(wire.exchange(stream))
                assert stream.kinds == ["start", "data", "abort"]

    run(main())
    assert "a mistake" in caplog.text


def test_an_application_that_takes_too_long_is_answered_for(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with second_wire(app, request_timeout=1.0) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            exchange.time_out()
            await wire.finish(exchange)
            assert started(stream)[0] == 504
            assert stream.kinds == ["start", "data", "complete"]
            assert wire.count(Field.LIMIT_0 + Limit.REQUEST_TIMEOUT) == 1  # type: ignore[arg-type]

    run(main())


def test_a_request_too_many_gets_503(run: Any) -> None:
    async def main() -> None:
        async with second_wire(hello, limit_concurrency=0) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream))
            status, headers = started(stream)
            assert status == 503
            assert (b"retry-after", b"1") in headers

    run(main())


def test_a_client_that_leaves_is_told_of_and_sent_to_in_vain(run: Any) -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await read_body(receive) == b""
        heard.append(await receive())
        await send(OK)
        await send(piece(b"a", more=False))
        heard.append(await receive())

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert stream.kinds == ["watch"]
            stream.has_left = True
            exchange.disconnect()
            await wire.finish(exchange)
            assert heard == [{"type": "http.disconnect"}] * 2
            assert stream.kinds == ["watch"]

    run(main())


def test_an_application_that_only_sends_is_ended_when_its_client_has_left(run: Any) -> None:
    raised: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        try:
            while True:
                await send(piece(b"a"))
        except ClientDisconnectedError as error:
            raised.append(error)
            raise

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            stream.has_left = True
            exchange.disconnect()
            await wire.finish(exchange)
            assert len(raised) == 1

    run(main())


def test_a_client_that_may_have_left_is_probed_when_the_application_asks(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await receive()

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            exchange.note_peer_closed()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ("probe", False) in stream.sent
            stream.has_left = True
            exchange.disconnect()
            await wire.finish(exchange)

    run(main())


def test_an_application_waits_for_a_client_that_reads_slowly(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send(piece(b"a"))
        await send(piece(b"b", more=False))

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            stream.is_paused = True
            exchange = wire.exchange(stream)
            for _ in range(5):
                await asyncio.sleep(0)
            assert stream.body == b"a"
            stream.writable.set()
            await wire.finish(exchange)
            assert stream.body == b"ab"
            assert stream.kinds[-1] == "complete"

    run(main())


def test_a_head_whose_body_takes_its_time_leaves_by_itself(run: Any) -> None:
    async def main() -> None:
        may_go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(OK)
            await may_go_on.wait()
            await send(piece(b"a", more=False))

        async with second_wire(app) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            async with asyncio.timeout(5):
                while "flush" not in stream.kinds:  # noqa: ASYNC110 - nothing to wait for
                    await asyncio.sleep(0.001)
            assert stream.kinds == ["start", "data", "flush"]
            may_go_on.set()
            await wire.finish(exchange)
            assert stream.kinds[-2:] == ["data", "complete"]

    run(main())


def test_an_event_stream_is_known_and_can_be_ended_between_two_events(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(SSE)
        await send(piece(b"id: 1\ndata: a\n\n"))
        await read_body(receive)
        await receive()

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            exchange = wire.exchange(stream)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert exchange.events is not None
            assert exchange.events.last_event_id == b"1"
            assert "event_stream_begun" in stream.kinds
            exchange.detach()
            exchange.end_stream()
            assert stream.sent[-2:] == [("data", b"", False), ("complete",)]
            await wire.finish(exchange)

    run(main())


def test_a_message_that_is_not_allowed_is_an_error(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(piece(b"a"))
        except AppProtocolError as error:
            raised.append(str(error))
        await hello(scope, receive, send)
        try:
            await send(OK)
        except AppProtocolError as error:
            raised.append(str(error))

    async def main() -> None:
        async with second_wire(app) as wire:
            stream = RecordingStream()
            await wire.finish(wire.exchange(stream))
            assert stream.kinds == ["start", "data", "complete"]
        assert "before http.response.start" in raised[0]
        assert "after the response was completed" in raised[1]

    with caplog.at_level(logging.ERROR):
        run(main())
