"""What the clients of event streams note, of a server that sends what we say."""

import asyncio

import pytest

from benchmarks.reloads.clients import COMPLETION_EVENTS, DONE, Client, Order
from benchmarks.reloads.judge import judge
from benchmarks.reloads.records import KINDS, Outcome

HEAD = b"HTTP/1.1 200 OK\r\nX-Who: 1 71\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(text):
    return b"%x\r\n%b\r\n" % (len(text), text.encode())


def event(number, *, worker=71, has_id=True):
    head = f"id: {number}\n" if has_id else ""
    return chunk(f"{head}data: {number} 1 {worker}\n\n")


async def served(kind, responses):
    """Let one client of the kind ask for one response after the other; return its notes and requests."""
    requests, left = [], list(responses)
    log = []

    async def serve(reader, writer):
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(left.pop(0))
        client.stopping = not left
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client(next(k for k in KINDS if k.name == kind), 3, Order(port, (kind,), ""), log)
    try:
        await client.run()
    finally:
        client.drop()
        server.close()
    return log, requests


def ids_of(requests):
    found = [request.partition("Last-Event-ID: ")[2].partition("\r\n")[0] for request in requests]
    return [int(text) if text else None for text in found]


def test_a_client_with_ids_comes_back_with_the_last_whole_event_and_counts_over_all(run):
    responses = [
        HEAD + event(1) + event(2) + LAST,
        HEAD + event(2) + event(3) + event(4, worker=72) + event(5, worker=72) + chunk("id: 6\nda"),
        HEAD + event(7) + LAST,
        HEAD + event(8) + LAST,
    ]
    log, requests = run(served("with_ids", responses))
    assert ids_of(requests) == [None, 2, 5, 7]
    assert [r.detail for r in log if r.outcome is not Outcome.ANSWERED][:3] == [
        "ended properly",
        "eof inside an event, without the last chunk",
        "ended properly",
    ]
    found = judge(log, [])["with_ids"]
    assert (found.closed, found.cut, found.moved) == (2, 1, 1)
    assert (found.missed, found.twice) == (1, 1)


def test_a_client_without_ids_counts_within_each_stream(run):
    one, two, four = (event(number, has_id=False) for number in (1, 2, 4))
    responses = [
        HEAD + one + two + LAST,
        HEAD + one + two + four,
        HEAD + one + one + LAST,
        HEAD + one,
    ]
    log, requests = run(served("without_ids", responses))
    assert ids_of(requests) == [None] * 4
    assert [r.detail for r in log if r.outcome is not Outcome.ANSWERED][:3] == [
        "ended properly",
        "eof between events, without the last chunk",
        "ended properly",
    ]
    found = judge(log, [])["without_ids"]
    assert (found.closed, found.cut, found.missed, found.twice) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("with_ids", chunk("id: 2\ndata: 1 1 71\n\n")),
        ("with_ids", event(1, has_id=False)),
        ("without_ids", event(1)),
        ("without_ids", chunk("data: nonsense\n\n")),
    ],
)
def test_an_event_that_is_not_the_applications_is_lost(run, kind, wrong):
    log, _ = run(served(kind, [HEAD + wrong, HEAD + LAST]))
    assert log[0].outcome is Outcome.LOST


def completion(count=COMPLETION_EVENTS, last=DONE):
    events = b"".join(event(number, has_id=False) for number in range(1, count + 1))
    return HEAD + events + chunk(f"data: {last}\n\n")


@pytest.mark.parametrize(
    ("response", "outcome", "detail"),
    [
        (completion() + LAST, Outcome.ANSWERED, ""),
        (completion(last="[DO") + LAST, Outcome.CUT, "ended without [DONE]"),
        (completion(39) + LAST, Outcome.CUT, "39 events of 40"),
        (HEAD + LAST, Outcome.CUT, "ended without [DONE]"),
        (HEAD.replace(b"200", b"503") + LAST, Outcome.LOST, "status 503"),
    ],
)
def test_a_completion_is_an_answer_only_when_it_is_whole(run, response, outcome, detail):
    log, _ = run(served("completion", [response, completion() + LAST]))
    assert (log[0].outcome, log[0].detail) == (outcome, detail)
    assert log[1].outcome is Outcome.ANSWERED
