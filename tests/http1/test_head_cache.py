"""Remembering heads, of requests and of responses, changes nothing but the time that it takes."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import AppProtocolError, PeerError
from asgireload.http.clock import Clock
from asgireload.http.endpoints import Endpoints
from asgireload.http.request import RequestHead, RequestLimits
from asgireload.http.scope import http_scope
from asgireload.http.server import Server
from asgireload.http.settings import HttpSettings
from asgireload.http1.head_cache import MOST_BYTES, MOST_HEADS, TABLE_BYTES, HeadCache
from asgireload.http1.parsers import parse_fields
from asgireload.http1.reader import RequestReader
from asgireload.http1.writer import MOST_PREPARED, PreparedHeads, prepare_head
from tests.http.server import serving
from tests.http.test_exchange import OK
from tests.http.test_proxies import Transport, forwarding
from tests.http1.test_parser import Recorder, requests


def read(data: bytes, cache: HeadCache, limits: RequestLimits) -> tuple[list[Any], int | None]:
    recorder = Recorder()
    reader = RequestReader(recorder, parse_fields, limits, cache)
    try:
        while data:
            data = reader.feed(data)
    except PeerError as error:
        return recorder.events, error.status
    return recorder.events, None


@pytest.fixture(scope="module")
def warm() -> HeadCache:
    """A cache that lives through all examples, and fills."""
    return HeadCache()


SMALL_LIMITS = RequestLimits(line=60, head=200, fields=4, body=150)


@given(
    stream=st.lists(requests(), min_size=1, max_size=3),
    limits=st.just(RequestLimits()),
    version=st.sampled_from([b"1.1", b"1.0", b"1.2"]),
    method=st.sampled_from([b"GET", b"HEAD", b"BREW"]),
)
def test_a_warm_cache_reads_as_a_cold_one(
    warm: HeadCache, stream: list[bytes], limits: RequestLimits, version: bytes, method: bytes
) -> None:
    whole = b"".join(stream)
    first = stream[0]
    variants = [whole, *stream]
    # The same header lines behind other request lines: another version, method, form of the target.
    line, _, rest = first.lstrip(b"\r\n").partition(b"\r\n")
    variants += [method + b" /other?q HTTP/" + version + b"\r\n" + rest]
    variants += [method + b" http://elsewhere/x HTTP/" + version + b"\r\n" + rest]
    variants += [line + b"\r\n" + rest]
    for data in variants:
        for _ in range(2):
            assert read(data, warm, limits) == read(data, HeadCache(), limits)


@given(data=st.lists(requests(), min_size=1, max_size=2).map(b"".join))
def test_limits_hold_for_heads_that_are_known(data: bytes) -> None:
    cache = HeadCache()
    for _ in range(2):
        assert read(data, cache, SMALL_LIMITS) == read(data, HeadCache(), SMALL_LIMITS)


def test_the_cache_is_bounded() -> None:
    cache = HeadCache()
    for number in range(3 * MOST_HEADS):
        head = b"GET /%d HTTP/1.1\r\nHost: a\r\nx-request-id: %d\r\n\r\n" % (number, number)
        read(head, cache, RequestLimits())
        assert len(cache.whole) <= MOST_HEADS
        assert len(cache.blocks) <= MOST_HEADS
    large = b"y" * (MOST_BYTES // 2)
    for number in range(TABLE_BYTES // MOST_BYTES * 6):
        read(
            b"GET / HTTP/1.1\r\nHost: a\r\nx: %d%b\r\n\r\n" % (number, large),
            cache,
            RequestLimits(),
        )
        assert cache.whole
        assert sum(map(len, cache.whole)) <= TABLE_BYTES
        assert sum(map(len, cache.blocks)) <= TABLE_BYTES
    cache = HeadCache()
    read(
        b"GET / HTTP/1.1\r\nHost: a\r\nx: %b\r\n\r\n" % (b"y" * MOST_BYTES), cache, RequestLimits()
    )
    assert not cache.whole
    assert not cache.blocks


@given(heads=st.lists(requests(), min_size=1, max_size=4), behind=st.binary(max_size=9))
def test_what_begins_with_a_known_head_is_that_head(heads: list[bytes], behind: bytes) -> None:
    cache = HeadCache()
    for data in heads:
        read(data, cache, RequestLimits())
    for data in [*heads, *cache.whole]:
        for place in range(len(cache.whole) + 2):
            known = cache.begins(data + behind, place)
            size = (data + behind).find(b"\r\n\r\n") + 4
            found = cache.whole.get((data + behind)[:size])
            assert known is (found if found is not None and found.place == place else None)
            assert cache.repeats(data + behind, place) is (
                known if known is not None and size == len(data + behind) else None
            )


@given(
    stream=st.lists(requests(), min_size=1, max_size=3),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=8),
)
def test_what_is_read_again_is_what_was_fed(stream: list[bytes], order: list[int]) -> None:
    fed, again = Recorder(), Recorder()
    limits = RequestLimits()
    feeding = RequestReader(fed, parse_fields, limits, HeadCache())
    reading = RequestReader(again, parse_fields, limits, HeadCache())
    for number in order:
        data = stream[number % len(stream)]
        while data:
            head = reading.read_again(data)
            rest = feeding.feed(data)
            if head is None:
                assert reading.feed(data) == rest
            else:
                assert not rest
                again.on_head(head)
                again.on_complete()
            data = rest
        assert again.events == fed.events


def test_a_request_is_read_again_only_where_it_is_all_there_is() -> None:
    reader = RequestReader(Recorder(), parse_fields, RequestLimits(), HeadCache())
    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert reader.read_again(get) is None
    for _ in range(2):
        reader.feed(get)
        head = reader.read_again(get)
        assert head is not None
        assert head.method == "GET"
    assert reader.read_again(get + get) is None
    assert reader.read_again(get[:-1]) is None
    reader.feed(get[:5])
    assert reader.read_again(get) is None
    reader.feed(get[5:])
    assert reader.read_again(get) is not None
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n")
    assert reader.read_again(get) is None


def test_a_client_that_repeats_itself_is_understood_after_the_table_was_emptied() -> None:
    cache = HeadCache()
    recorder = Recorder()
    reader = RequestReader(recorder, parse_fields, RequestLimits(), cache)
    mine = b"GET /mine HTTP/1.1\r\nHost: a\r\n\r\n"
    expected = []
    for number in range(MOST_HEADS + 2):
        read(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number, cache, RequestLimits())
        reader.feed(mine)
        expected += read(mine, HeadCache(), RequestLimits())[0]
    assert recorder.events == expected


def test_heads_whose_meaning_hangs_on_more_than_their_bytes_are_not_kept() -> None:
    cache = HeadCache()
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    read(head, cache, RequestLimits())
    assert not cache.whole
    assert not cache.blocks


@pytest.mark.parametrize(
    ("line", "body"),
    [(b"Content-Length: 3", b"abc"), (b"Transfer-Encoding: chunked", b"1\r\na\r\n0\r\n\r\n")],
)
def test_header_lines_that_frame_a_body_are_kept_and_frame_the_next(
    line: bytes, body: bytes
) -> None:
    cache = HeadCache()
    for target in (b"/one", b"/two"):
        data = b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (target, line, body)
        for cut in range(len(data)):
            assert read(data[:cut], cache, RequestLimits()) == read(
                data[:cut], HeadCache(), RequestLimits()
            )
        assert read(data, cache, RequestLimits())[0][-1] == "complete"
    assert len(cache.whole) == 2
    assert len(cache.blocks) == 1


def test_a_body_over_the_limit_is_refused_behind_known_lines_too() -> None:
    cache = HeadCache()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 151\r\n\r\n"
    for _ in range(2):
        assert read(head, cache, SMALL_LIMITS) == ([], 413)
    assert not cache.blocks


def test_an_application_may_change_its_headers(run: Any, parser: str) -> None:
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(len(scope["headers"]))
        scope["headers"].append((b"x-mine", b"1"))
        scope["headers"].remove((b"host", b"a"))
        scope["extensions"].clear()
        await send(OK)
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            for _ in range(3):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n")
                assert (await client.read_response())[0] == 200

    run(main())
    assert seen == [2, 2, 2]


@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("has_state", [False, True])
def test_scopes_of_a_repeated_head_are_alike_and_each_requests_own(
    root_path: str, has_state: bool
) -> None:
    lines = [
        b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n",
        b"POST /c HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: 0\r\n\r\n",
    ]
    settings = HttpSettings(root_path=root_path, forwarding=forwarding("127.0.0.1"))

    def scopes(times: int, endpoints: Endpoints) -> list[Any]:
        server = Server(
            None,  # type: ignore[arg-type]
            settings,
            Clock(None),  # type: ignore[arg-type]
            state={"a": 1} if has_state else None,
        )
        cache = HeadCache()
        made: list[Any] = []

        class Sink(Recorder):
            def on_head(self, head: RequestHead) -> bool:
                scope = http_scope(
                    head,
                    server,
                    endpoints,
                    can_inform=head.http_version == "1.1",
                    can_send_trailers=head.takes_trailers,
                )
                made.append(deepcopy({**scope, "extensions": [*scope["extensions"]]}))
                for value in scope.values():
                    if isinstance(value, dict | list):
                        value.clear()
                scope.clear()
                return False

        for _ in range(times):
            for line in lines:
                reader = RequestReader(Sink(), parse_fields, RequestLimits(), cache)
                reader.feed(line)
        return made

    for peer in (Transport(), Transport(peer=("192.0.2.9", 5))):
        endpoints = Endpoints(peer)
        assert scopes(4, endpoints) == scopes(1, endpoints) * 4


DEFAULT_LINES = ((b"server", b"server: us\r\n"), (b"x-a", b"x-a: default\r\n"))
NAMES = st.sampled_from([b"x-a", b"Content-Length", b"connection", b"date", b"bad name", b"server"])
VALUES = st.sampled_from([b"1", b"2", b"close", b"a\r\nb", b""])


def prepared(prepare: Any, status: int, headers: Any) -> Any:
    try:
        head = prepare(status, headers)
    except AppProtocolError as error:
        return str(error)
    return head.status, head.lines, head.length, head.closes, head.has_date


@given(
    status=st.sampled_from([200, 204, 304, 99]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=3),
)
def test_response_heads_are_prepared_alike_each_time(status: int, headers: Any) -> None:
    heads = PreparedHeads(DEFAULT_LINES)
    fresh = prepared(lambda s, h: prepare_head(s, h, DEFAULT_LINES), status, headers)
    for form in (headers, tuple(headers), [list(pair) for pair in headers], iter(headers)):
        assert prepared(heads.prepare, status, form) == fresh
    assert prepared(heads.prepare, status, headers) == fresh


@pytest.mark.parametrize(
    "pair",
    [(bytearray(b"x-a"), b"1"), (b"x-a", bytearray(b"1")), [b"x-a", b"1"]],
)
def test_headers_that_only_equal_the_last_ones_are_judged_by_themselves(pair: Any) -> None:
    heads = PreparedHeads(DEFAULT_LINES)
    heads.prepare(200, [(b"x-a", b"1")])
    fresh = prepared(lambda s, h: prepare_head(s, h, DEFAULT_LINES), 200, [pair])
    assert prepared(heads.prepare, 200, [pair]) == fresh


def test_the_last_head_is_not_taken_for_another() -> None:
    heads = PreparedHeads(())
    first = heads.prepare(200, [(b"x-a", b"1"), (b"x-b", b"2")])
    again = [(bytes(bytearray(b"x-a")), b"1"), (b"x-b", bytes(bytearray(b"2")))]
    assert heads.prepare(200, again) is first
    assert heads.prepare(404, again).status == 404
    assert heads.prepare(200, again[:1]).lines == b"x-a: 1\r\n".join([b"HTTP/1.1 200 OK\r\n", b""])
    assert heads.prepare(200, [again[0], (b"x-b", b"3")]).lines.endswith(b"x-b: 3\r\n")
    assert heads.prepare(200, again) is first


def test_prepared_heads_are_bounded() -> None:
    heads = PreparedHeads(())
    for number in range(3 * MOST_PREPARED):
        heads.prepare(200, [(b"content-length", b"%d" % number)])
        assert len(heads._heads) <= MOST_PREPARED
