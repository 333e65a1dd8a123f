"""Any bytes in forwarded headers: never an exception, and never more than an address and a scheme."""

import ipaddress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.net.networks import TrustedNetworks

FIELDS = ("for", "proto", "host", "port", "prefix")
PIECES = st.sampled_from(
    [
        b"for=",
        b"proto=https",
        b"host=a.example",
        b'"',
        b"\\",
        b",",
        b";",
        b"=",
        b" ",
        b"127.0.0.1",
        b"10.0.0.1:80",
        b"[::1]:",
        b"2001:db8::1",
        b"unknown",
        b"_x",
        b"/a",
        b"..",
        b"443",
    ]
)
VALUES = st.lists(PIECES | st.binary(max_size=4), max_size=12).map(b"".join)
NAMES = st.sampled_from([b"forwarded", *(b"x-forwarded-" + field.encode() for field in FIELDS)])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    HEADERS,
    st.sampled_from(["x-forwarded", "forwarded"]),
    st.sampled_from(["*", "127.0.0.1,10.0.0.0/8,::/0", ""]),
)
@example([(b"forwarded", b'"' + b"," * 60_000 + b'"')], "forwarded", "*")
@example([(b"x-forwarded-for", b"," * 60_000)], "x-forwarded", "*")
def test_any_headers_are_read(headers, style, trusted):
    said = Forwarding(TrustedNetworks.parse(trusted), style, FIELDS).read(headers)
    if said is None:
        return
    if said.client is not None:
        host, port = said.client
        assert str(ipaddress.ip_address(host)) == host
        assert 0 <= port <= 65535
    assert said.scheme in (None, "http", "https")
    assert said.host is None or not set(said.host) & set(b'/@?#,;"\\ \r\n\t')
    assert said.port is None or 0 < int(said.port) <= 65535
    if said.prefix:
        assert said.prefix.startswith(b"/")
        assert not {b"", b".", b".."} & set(said.prefix.split(b"/")[1:])


@settings(max_examples=200, deadline=None)
@given(VALUES | st.binary(max_size=300))
def test_any_host_is_judged(host):
    rules = HostRules.parse(["a.example", "*.b.example", "[::1]"])
    assert rules.allows(host) in (True, False)
