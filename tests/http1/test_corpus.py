"""Every request of the corpus, through every parser, split at every byte, and over a real socket."""

from dataclasses import replace
from typing import Any

import pytest

from tests.corpus.loading import Case, CorpusError, ExpectedRequest, decode, load_all, read_outcome
from tests.http.server import Server, serving
from tests.http1.reading import Reading, bytes_of, read

CASES = load_all()
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
SPLIT_BYTES = 1000
"""Longer data is not split at every byte but at these many, near its beginning and its end."""


@every_case
@pytest.mark.parametrize("parser", ["builtin", "httptools", "h11"])
def test_bytes_mean_what_the_rfc_says_however_they_are_split(case: Case, parser: str) -> None:
    data = case.data
    expected = Reading(case.ends, case.status, case.rest, case.requests)
    assert read(parser, [data], case.limits) == expected
    assert read(parser, bytes_of(data), case.limits) == expected
    places = range(1, len(data))
    if len(data) > SPLIT_BYTES:
        places = [*places[: SPLIT_BYTES // 2], *places[-SPLIT_BYTES // 2 :]]
    for place in places:
        pieces = [data[:place], data[place:]]
        assert read(parser, pieces, case.limits) == expected, f"split at {place}"


class Application:
    """Answers every request once its body is whole, and notes what it was told."""

    def __init__(self) -> None:
        self.seen: list[ExpectedRequest] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        place = len(self.seen)
        request = {
            "method": scope.get("method", "GET"),
            "path": scope["raw_path"],
            "query": scope["query_string"],
            "version": scope["http_version"],
            "headers": tuple(scope["headers"]),
        }
        self.seen.append(ExpectedRequest(**request, whole=False))
        if scope["type"] == "websocket":
            self.seen[place] = ExpectedRequest(**request)
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.close"})
            return
        body = b""
        is_whole = False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            is_whole = not message["more_body"]
        self.seen[place] = ExpectedRequest(**request, body=body)
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})


def statuses(received: bytes) -> list[int]:
    """Return the status of each final response in `received`, which must be whole."""
    found = []
    while received:
        head, mark, received = received.partition(b"\r\n\r\n")
        assert mark
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            continue
        found.append(status)
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        size = lengths[0] if lengths else 0
        assert len(received) >= size
        received = received[size:]
    return found


PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def converse(server: Server, case: Case) -> list[int]:
    """Send the case's bytes; return the statuses that come until the server closes.

    Where the server must wait for more, the client either leaves or, if nothing is begun, sends another
    request, to see that the connection was kept.
    """
    client = await server.connect()
    client.send(case.data)
    if case.ends == "incomplete":
        client.writer.write_eof()
    elif case.ends == "kept":
        client.send(PROBE)
    return statuses(await client.read_all())


def expected_statuses(case: Case) -> list[int]:
    found = [200 for request in case.requests if request.whole]
    if case.ends == "refused":
        assert case.status is not None
        found.append(case.status)
    elif case.ends == "kept":
        found.append(200)
    elif case.ends == "upgraded":
        found[-1] = 403  # the application refuses every WebSocket
    return found


def as_seen(request: ExpectedRequest) -> ExpectedRequest:
    """Return what an application can know of a request; it keeps no body that is not whole."""
    body = request.body if request.whole else b""
    return replace(request, keep_alive=True, expects_continue=False, body=body)


@every_case
def test_the_application_sees_only_whole_requests_and_the_client_its_answers(
    run: Any, case: Case
) -> None:
    application = Application()

    async def main() -> None:
        async with serving(application, "builtin", request_limits=case.limits) as server:
            assert await converse(server, case) == expected_statuses(case)

    run(main())
    seen = application.seen
    if case.ends == "kept":
        assert seen.pop().path == b"/probe"
    expected = [as_seen(request) for request in case.requests]
    if len(seen) < len(expected) and not expected[-1].whole:
        # The fault came with the head: there is no need to begin what cannot be ended.
        del expected[-1]
    assert seen == expected


BROKEN_OFF = [case for case in CASES if len(case.requests) == 1 and not case.requests[0].whole]
"""Requests whose head is in order and whose body is not, or is not complete."""


@pytest.mark.parametrize("case", BROKEN_OFF, ids=[case.name for case in BROKEN_OFF])
def test_an_application_that_was_called_never_takes_a_broken_body_for_whole(
    run: Any, case: Case
) -> None:
    application = Application()
    head, mark, body = case.data.partition(b"\r\n\r\n")

    async def main() -> None:
        async with serving(application, "builtin", request_limits=case.limits) as server:
            client = await server.connect()
            client.send(head + mark)
            await server.wait_until(lambda: application.seen)
            client.send(body)
            if case.ends == "incomplete":
                client.writer.write_eof()
            assert statuses(await client.read_all()) == expected_statuses(case)

    run(main())
    assert application.seen == [as_seen(case.requests[0])]


def test_an_upgrade_needs_an_application_for_it(run: Any) -> None:
    """With WebSocket switched off, the same bytes are ordinary requests."""
    application = Application()
    (case,) = [case for case in CASES if case.name == "upgrade/websocket"]

    async def main() -> None:
        async with serving(application, "builtin", websocket=False) as server:
            client = await server.connect()
            client.send(case.data + PROBE)
            assert statuses(await client.read_all()) == [200, 200]

    run(main())


# --- the format itself ----------------------------------------------------------------------------


def test_the_notation_can_write_any_byte() -> None:
    assert decode("a\n\\r\\n\\t\\0\\\\\\xff\\\n\\{3*x\\n}.\\\n") == (
        b"a\r\n\r\n\t\0\\\xff" + 3 * b"x\n" + b"."
    )
    for value in range(256):
        assert decode(f"\\x{value:02x}") == bytes((value,))


@pytest.mark.parametrize("text", ["\\", "\\q", "\\x4", "\\xFF", "a \nb", "a ", "\t", "é", "\r\n"])
def test_what_is_no_notation_is_refused(text: str) -> None:
    with pytest.raises(CorpusError):
        decode(text)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"ends": "refused"}, "status"),
        ({"ends": "kept", "status": 400}, "status"),
        ({"ends": "open"}, "is one of"),
        ({"ends": "kept", "colour": "red"}, "colour"),
        ({"ends": "kept", "request": [{"method": "GET", "path": "/", "size": 1}]}, "size"),
        ({"ends": "kept", "request": [{"method": "GET", "path": "/", "whole": False}]}, "whole"),
        ({"ends": "closed", "request": [{"method": "GET", "path": "/"}]}, "keep_alive"),
    ],
)
def test_an_outcome_that_contradicts_itself_is_refused(outcome: dict[str, Any], words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        read_outcome("a", b"", {"about": "", "source": "", **outcome})


def test_the_corpus_is_not_empty() -> None:
    assert len(CASES) > 200
    assert all(case.source and case.about for case in CASES)
