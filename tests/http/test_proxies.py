"""Scopes behind trusted and other peers, over real sockets, both parsers and both loops."""

from typing import Any

import pytest

from asgireload.http.clock import Clock
from asgireload.http.endpoints import Endpoints, label_of
from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.request import Headers, RequestHead, RequestLine
from asgireload.http.scope import http_scope, websocket_scope
from asgireload.http.server import Server
from asgireload.http.settings import HttpSettings
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.networks import TrustedNetworks
from asgireload.net.proxy_protocol import Origin
from tests.http.server import serving

FORWARDED = (
    b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.1:4711, 127.0.0.1\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 8443\r\n"
    b"X-Forwarded-Prefix: /caf%C3%A9/\r\n"
)
REQUEST = b"GET /a%20b HTTP/1.1\r\nHost: inner:8000\r\n" + FORWARDED + b"Connection: close\r\n\r\n"
ALL_FIELDS = ("for", "proto", "host", "port", "prefix")


def request_head(headers: Headers) -> RequestHead:
    head = RequestHead(RequestLine("GET", None, b"/", b"", "1.1"), headers)
    head.is_forwarded = True
    return head


def forwarding(trusted: str, *fields: str, headers: str = "x-forwarded") -> Forwarding:
    return Forwarding(TrustedNetworks.parse(trusted), headers, fields or ("for", "proto"))


class Transport:
    """What Endpoints asks of a transport."""

    def __init__(self, *, peer: Any = ("127.0.0.1", 5), own: Any = ("127.0.0.1", 8000)) -> None:
        self._info = {"peername": peer, "sockname": own}

    def get_extra_info(self, name: str) -> Any:
        return self._info.get(name)


def serve_scope(run: Any, parser: str, **options: Any) -> Any:
    """Return the scope that the application gets for REQUEST."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser, **options) as server:
            assert (await server.exchange(REQUEST)).startswith(b"HTTP/1.1 204")

    run(main())
    return scopes[0]


def test_a_trusted_proxy_is_believed_for_client_and_scheme(run: Any, parser: str) -> None:
    scope = serve_scope(run, parser, forwarding=forwarding("127.0.0.1"), root_path="/own")
    assert scope["client"] == ("192.0.2.1", 4711)
    assert scope["scheme"] == "https"
    assert (b"host", b"inner:8000") in scope["headers"]
    assert (scope["root_path"], scope["path"]) == ("/own", "/own/a b")


def test_more_is_believed_where_it_is_named(run: Any, parser: str) -> None:
    believed = forwarding("127.0.0.1", *ALL_FIELDS)
    scope = serve_scope(run, parser, forwarding=believed, root_path="/own")
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"shop.example:8443"]
    assert (b"x-forwarded-host", b"shop.example") in scope["headers"]
    assert scope["root_path"] == "/café"
    assert scope["path"] == "/café/a b"
    assert scope["raw_path"] == b"/caf%C3%A9/a%20b"
    assert scope["server"][0] == "127.0.0.1"


@pytest.mark.parametrize("believed", [None, forwarding("10.0.0.1", *ALL_FIELDS)])
def test_others_are_not_believed_and_their_headers_stay(
    run: Any, parser: str, believed: Forwarding | None
) -> None:
    scope = serve_scope(run, parser, forwarding=believed)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"
    assert scope["root_path"] == ""
    names = [name for name, _ in scope["headers"]]
    assert names.count(b"x-forwarded-for") == 2
    assert (b"host", b"inner:8000") in scope["headers"]


def test_malformed_headers_leave_the_facts_of_the_connection() -> None:
    head = request_head(
        [
            (b"host", b"inner"),
            (b"x-forwarded-for", b"192.0.2.1, nonsense"),
            (b"x-forwarded-proto", b"gopher"),
            (b"x-forwarded-host", b"a/b"),
            (b"x-forwarded-port", b"-1"),
            (b"x-forwarded-prefix", b"//evil"),
        ],
    )
    scope = scope_of(head, Endpoints(Transport()), forwarding("127.0.0.1", *ALL_FIELDS))
    assert scope["client"] == ("127.0.0.1", 5)
    assert (scope["scheme"], scope["root_path"], scope["path"]) == ("http", "", "/")
    assert scope["headers"] == head.headers


def scope_of(
    head: RequestHead, endpoints: Endpoints, believed: Forwarding | None, *, websocket: bool = False
) -> Any:
    settings = HttpSettings(forwarding=believed)
    server = Server(None, settings, Clock(None))  # type: ignore[arg-type]
    if websocket:
        return websocket_scope(head, server, endpoints, [])
    return http_scope(head, server, endpoints, can_inform=True, can_send_trailers=False)


@pytest.mark.parametrize(
    ("proto", "is_secure", "scheme", "websocket_scheme"),
    [
        (b"https", False, "https", "wss"),
        (b"wss", False, "https", "wss"),
        (b"http", True, "http", "ws"),
        (b"gopher", False, "http", "ws"),
        (b"gopher", True, "https", "wss"),
    ],
)
def test_the_scheme_fits_the_kind_of_scope(
    proto: bytes, is_secure: bool, scheme: str, websocket_scheme: str
) -> None:
    head = request_head([(b"x-forwarded-proto", proto)])
    endpoints = Endpoints(Transport(), Origin(("127.0.0.1", 5), ("127.0.0.1", 8000), is_secure))
    believed = forwarding("127.0.0.1")
    assert scope_of(head, endpoints, believed)["scheme"] == scheme
    assert scope_of(head, endpoints, believed, websocket=True)["scheme"] == websocket_scheme


def test_a_unix_peer_is_trusted_by_its_word() -> None:
    head = request_head([(b"x-forwarded-for", b"192.0.2.1")])
    for trusted, client in (("unix", ("192.0.2.1", 0)), ("127.0.0.1,::1", None)):
        endpoints = Endpoints(Transport(peer="", own="/run/shop.sock"))
        scope = scope_of(head, endpoints, forwarding(trusted))
        assert scope["client"] == client
        assert scope["server"] == ("/run/shop.sock", None)


def test_the_peer_is_judged_once_for_each_connection() -> None:
    head = request_head([(b"x-forwarded-for", b"192.0.2.1")])
    for trusted, verdict in (("127.0.0.1", True), ("10.0.0.1", False)):
        endpoints = Endpoints(Transport())
        believed = forwarding(trusted)
        first = scope_of(head, endpoints, believed)
        assert endpoints.is_trusted_proxy is verdict
        assert scope_of(head, endpoints, believed)["client"] == first["client"]


def test_a_proxy_header_says_who_is_at_the_ends() -> None:
    head = request_head([(b"x-forwarded-for", b"198.51.100.9")])
    origin = Origin(("192.0.2.1", 4711), ("198.51.100.2", 443), is_secure=True)
    endpoints = Endpoints(Transport(), origin)
    assert endpoints.client_label == "192.0.2.1:4711"
    assert not endpoints.is_encrypted
    # Who sent the PROXY header has nothing to do with the headers: its client is the peer.
    scope = scope_of(head, endpoints, forwarding("127.0.0.1"))
    assert scope["client"] == ("192.0.2.1", 4711)
    assert scope["server"] == ("198.51.100.2", 443)
    assert scope["scheme"] == "https"
    scope = scope_of(head, Endpoints(Transport(), origin), forwarding("192.0.2.1"))
    assert scope["client"] == ("198.51.100.9", 0)


def test_the_label_of_a_scopes_client_is_the_one_of_the_logs() -> None:
    assert label_of(("192.0.2.1", 0)) == "192.0.2.1:0"
    assert label_of(None) == ""


def test_a_head_can_be_refused_for_its_host(run: Any, parser: str) -> None:
    """What `on_head` raises becomes the answer, whichever parser calls it."""
    rules = HostRules.parse(["shop.example"])
    assert rules is not None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser, host_rules=rules) as server:
            head = b"GET / HTTP/1.1\r\nConnection: close\r\nHost: "
            assert (await server.exchange(head + b"SHOP.example:80\r\n\r\n")).startswith(
                b"HTTP/1.1 204"
            )
            answer = await server.exchange(head + b"other.example\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"names no host that is served here" in answer
            assert server.count(Field.LIMIT_0 + Limit.HOST) == 1
            assert server.count(Field.PEER_ERRORS_TOTAL) == 0

    run(main())


def test_the_host_of_a_target_is_the_one_that_is_judged_and_seen(run: Any, parser: str) -> None:
    """What caches and routers key by must not be another host than the application builds links from."""
    rules = HostRules.parse(["shop.example"])
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser, host_rules=rules) as server:
            line = b"GET http://%b/a HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
            bad = await server.exchange(line % (b"evil.example", b"shop.example"))
            assert bad.startswith(b"HTTP/1.1 400")
            assert scopes == []
            good = await server.exchange(line % (b"shop.example", b"evil.example"))
            assert good.startswith(b"HTTP/1.1 204")
        (scope,) = scopes
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        assert hosts == [b"shop.example"]
        assert (scope["path"], scope["raw_path"]) == ("/a", b"/a")

    run(main())


def test_a_name_that_only_resembles_a_forwarded_header_is_not_believed() -> None:
    """CGI makes one name of both. We do not; a framework that does must choose by itself."""
    head = request_head(
        [
            (b"host", b"inner"),
            (b"x_forwarded_for", b"192.0.2.1"),
            (b"x-forwarded_proto", b"https"),
            (b"x_forwarded-host", b"evil.example"),
        ]
    )
    scope = scope_of(head, Endpoints(Transport()), forwarding("127.0.0.1", *ALL_FIELDS))
    assert scope["client"] == ("127.0.0.1", 5)
    assert scope["scheme"] == "http"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"inner"]
