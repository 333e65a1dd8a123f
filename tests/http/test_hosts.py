"""Which hosts are served."""

import pytest

from asgireload.config import Config
from asgireload.errors import ConfigError
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules, names_served_host
from asgireload.http.request import Headers, RequestHead, RequestLine
from asgireload.net.networks import TrustedNetworks

RULES = HostRules.parse(["shop.example", "*.shop.example", "localhost", "127.0.0.1", "[::1]"])


def request_head(headers: Headers) -> RequestHead:
    return RequestHead(RequestLine("GET", None, b"/", b"", "1.1"), headers)


class Peer:
    """A transport whose peer is on loopback."""

    def get_extra_info(self, name):
        return ("127.0.0.1", 5) if name == "peername" else None


@pytest.mark.parametrize(
    "host",
    [
        b"shop.example",
        b"SHOP.Example",
        b"shop.example.",
        b"shop.example:8443",
        b"shop.example.:8443",
        b"shop.example:",
        b"www.shop.example",
        b"a.b.shop.example:80",
        b"localhost",
        b"127.0.0.1:8000",
        b"[::1]",
        b"[::1]:8000",
        b"[0:0:0:0:0:0:0:1]",
    ],
)
def test_hosts_that_are_served(host):
    assert RULES.allows(host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b":80",
        b"example",
        b"myshop.example",
        b".shop.example.evil",
        b"shop.example.evil",
        b"shop.example..",
        b"shop.example:80:80",
        b"shop.example:x",
        b"shop.example@evil",
        b"127.0.0.2",
        b"::1",
        b"[::2]",
        b"[::1",
        b"[:::]",
        b"[::1]x",
        b"sh\xf6p.example",
        b"shop.example\n",
        b"a" * 300 + b".shop.example",
    ],
)
def test_hosts_that_are_not(host):
    assert not RULES.allows(host)


def test_a_pattern_does_not_match_the_domain_itself():
    rules = HostRules.parse(["*.shop.example"])
    assert rules.allows(b"www.shop.example")
    assert not rules.allows(b"shop.example")
    assert not rules.allows(b".shop.example")


@pytest.mark.parametrize("patterns", [[], ["*"], ["shop.example", "*"]])
def test_without_patterns_every_host_is_served(patterns):
    assert HostRules.parse(patterns) is None
    assert HostRules.of(Config(allowed_hosts=tuple(patterns))) is None


@pytest.mark.parametrize(
    "pattern", ["shop.example:80", "*shop.example", "a.*.example", "http://a", "[::1", "", "a/b"]
)
def test_a_pattern_that_cannot_be_used_is_named(pattern):
    with pytest.raises(ConfigError, match="expected a host without a port") as caught:
        HostRules.parse([pattern])
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    ("trusted", "fields", "served"),
    [
        ("127.0.0.1", ["for", "host"], True),
        ("127.0.0.1", ["for"], False),
        ("10.0.0.1", ["host"], False),
    ],
)
def test_a_forwarded_host_that_is_believed_is_judged_instead(trusted, fields, served):
    headers = [(b"host", b"inner"), (b"x-forwarded-host", b"shop.example")]
    head = request_head(headers)
    forwarding = Forwarding(TrustedNetworks.parse(trusted), "x-forwarded", fields)
    assert names_served_host(head, Endpoints(Peer()), RULES, forwarding) is served


def test_without_a_forwarded_host_the_host_header_is_judged():
    forwarding = Forwarding(TrustedNetworks.parse("*"), "x-forwarded", ["host"])
    for host, served in ((b"shop.example", True), (b"evil.example", False)):
        head = request_head([(b"host", host), (b"x-forwarded-host", b"/")])
        assert names_served_host(head, Endpoints(Peer()), RULES, forwarding) is served
        assert names_served_host(head, Endpoints(Peer()), RULES, None) is served
    assert not names_served_host(request_head([]), Endpoints(Peer()), RULES, None)
