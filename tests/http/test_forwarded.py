"""What trusted proxies say: X-Forwarded-* and Forwarded, as tables and as properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.config import Config
from asgireload.http.forwarded import (
    MAX_ELEMENT_BYTES,
    MAX_HOPS,
    Forwarded,
    Forwarding,
    read_node,
    replace_host,
)
from asgireload.net.networks import TrustedNetworks

NETWORKS = TrustedNetworks.parse("127.0.0.1,10.0.0.0/8,2001:db8:ffff::/48")
ALL_FIELDS = ("for", "proto", "host", "port", "prefix")


def read(*lines, networks=NETWORKS, standard=False, fields=ALL_FIELDS):
    """Return what is said in header lines such as `for: 192.0.2.1`."""
    headers = [(b"host", b"own.example"), (b"accept", b"*/*")]
    for line in lines:
        name, _, value = line.partition(":")
        full = "forwarded" if standard else f"x-forwarded-{name}"
        headers.append((full.encode(), (line if standard else value).strip().encode("latin-1")))
    style = "forwarded" if standard else "x-forwarded"
    return Forwarding(networks, style, fields).read(headers)


def client(*lines, **options):
    said = read(*(f"for: {line}" for line in lines), **options)
    return None if said is None else said.client


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("192.0.2.1:_hidden", ("192.0.2.1", 0)),
        ("2001:DB8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        ("[::ffff:c000:201]:9", ("192.0.2.1", 9)),
        ("192.0.2.1:", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.1:-1", None),
        ("192.0.2.01", None),
        ("192.0.2", None),
        ("[192.0.2.1]:80", None),
        ("[2001:db8::1", None),
        ("2001:db8::1]:80", None),
        ("[fe80::1%eth0]", None),
        ("unknown", None),
        ("_hidden", None),
        ("shop.example", None),
        ("", None),
        ("\xb9", None),
        ("1" * 100_000, None),
    ],
)
def test_nodes(node, address):
    assert read_node(node.encode("latin-1")) == address


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1:4711"], ("192.0.2.1", 4711)),
        (["[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
        (["192.0.2.1, 10.0.0.1"], ("192.0.2.1", 0)),
        (["192.0.2.1,10.0.0.1 ,\t10.0.0.2"], ("192.0.2.1", 0)),
        (["192.0.2.1, 2001:db8:ffff::1"], ("192.0.2.1", 0)),
        # Several lines are one list.
        (["192.0.2.1", "10.0.0.1"], ("192.0.2.1", 0)),
        (["192.0.2.9", "192.0.2.1, 10.0.0.1"], ("192.0.2.1", 0)),
        # What the client wrote itself is left of its address.
        (["198.51.100.1, 192.0.2.1"], ("192.0.2.1", 0)),
        (["<script>, 192.0.2.1, 10.0.0.1"], ("192.0.2.1", 0)),
        (['127.0.0.1, "", 192.0.2.1'], ("192.0.2.1", 0)),
        # Nobody but proxies: the first of them asks for itself.
        (["10.0.0.1, 10.0.0.2:99"], ("10.0.0.1", 0)),
        (["127.0.0.1:5"], ("127.0.0.1", 5)),
        # Empty elements mean nothing.
        ([", 192.0.2.1,, ,10.0.0.1,"], ("192.0.2.1", 0)),
        (["192.0.2.1", ""], ("192.0.2.1", 0)),
        # Hidden or malformed: nothing is believed, least of all the rest of the chain.
        (["unknown"], None),
        (["192.0.2.1, unknown"], None),
        (["192.0.2.1, nonsense, 10.0.0.1"], None),
        (["192.0.2.1 10.0.0.1"], None),
        ([""], None),
        ([" , ,"], None),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(lines, expected):
    assert client(*lines) == expected


def test_when_everybody_is_trusted_the_leftmost_address_is_the_client():
    networks = TrustedNetworks.parse("*")
    assert client("192.0.2.9, 192.0.2.1", networks=networks) == ("192.0.2.9", 0)


def test_a_chain_is_followed_only_so_far():
    longest = ", ".join(["192.0.2.1"] + ["10.0.0.1"] * (MAX_HOPS - 1))
    assert client(longest) == ("192.0.2.1", 0)
    assert client(longest + ", 10.0.0.1") is None
    assert client(longest, "10.0.0.1") is None
    assert client("192.0.2.1" + "," * 60_000) is None
    standard = ", ".join(["for=192.0.2.1"] + ["for=10.0.0.1"] * (MAX_HOPS - 1))
    assert read(standard, standard=True) == Forwarded(client=("192.0.2.1", 0))
    assert read(standard + ", for=10.0.0.1", standard=True) is None
    assert read("for=192.0.2.1" + "," * 60_000, standard=True) is None


def test_an_element_is_followed_only_so_far():
    longest = "for=192.0.2.1;x=" + "a" * (MAX_ELEMENT_BYTES - 16)
    assert read(longest, standard=True) == Forwarded(client=("192.0.2.1", 0))
    assert read(longest + "a", standard=True) is None
    assert read("for=192.0.2.9, " + longest[:-2], standard=True) is not None
    assert read('"' + "," * 60_000 + '"', standard=True) is None


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        (["proto: https"], "https"),
        (["proto: HTTP"], "http"),
        (["proto: wss"], "https"),
        (["proto: ws"], "http"),
        (["proto: http", "proto: https"], "https"),
        (["proto: http, https"], "https"),
        (["proto: gopher"], None),
        (["proto: https://"], None),
        (["proto:"], None),
    ],
)
def test_schemes(lines, scheme):
    assert read(*lines).scheme == scheme


@pytest.mark.parametrize(
    ("lines", "host"),
    [
        (["host: shop.example"], b"shop.example"),
        (["host: shop.example:8443"], b"shop.example:8443"),
        (["host: [2001:db8::1]:8443"], b"[2001:db8::1]:8443"),
        (["host: other.example, shop.example"], b"shop.example"),
        (["host: shop.example:65536"], None),
        (["host: shop.example/path"], None),
        (["host: user@shop.example"], None),
        (["host: [::1::]"], None),
        (["host: "], None),
        (["host: b\xfccher.example"], None),
    ],
)
def test_hosts(lines, host):
    assert read(*lines).host == host


@pytest.mark.parametrize(
    ("value", "port"),
    [
        ("443", b"443"),
        ("80, 8443", b"8443"),
        ("0", None),
        ("65536", None),
        ("443443443443", None),
        ("https", None),
        ("", None),
    ],
)
def test_ports(value, port):
    assert read(f"port: {value}").port == port


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("/shop", b"/shop"),
        ("/shop/", b"/shop"),
        ("/a/b-c/d", b"/a/b-c/d"),
        ("/caf%C3%A9", b"/caf%C3%A9"),
        ("/a..b", b"/a..b"),
        ("/", b""),
        ("", None),
        ("shop", None),
        ("//evil.example", None),
        ("/shop//", None),
        ("/shop/../admin", None),
        ("/..", None),
        ("/./a", None),
        ("/shop?x", None),
        ("/%zz", None),
        ("/a b", None),
    ],
)
def test_prefixes(value, prefix):
    assert read(f"prefix: {value}").prefix == prefix


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["for=192.0.2.1"], Forwarded(("192.0.2.1", 0))),
        (
            ['For="[2001:db8::1]:4711";Proto=HTTPS;host="shop.example:8443";by=10.0.0.1'],
            Forwarded(("2001:db8::1", 4711), "https", b"shop.example:8443"),
        ),
        (["for=192.0.2.1 ; proto=http ;"], Forwarded(("192.0.2.1", 0), "http")),
        (
            ["for=192.0.2.1:80;host=shop.example:1"],
            Forwarded(("192.0.2.1", 80), None, b"shop.example:1"),
        ),
        # The element that names the client also tells how it asked.
        (
            ["for=192.0.2.1;proto=https, for=10.0.0.1;proto=http"],
            Forwarded(("192.0.2.1", 0), "https"),
        ),
        (
            ["for=192.0.2.1;proto=https", "for=10.0.0.1;proto=http"],
            Forwarded(("192.0.2.1", 0), "https"),
        ),
        # What stands left of it may be anything.
        (
            ["for=198.51.100.1;proto=https, for=192.0.2.1;proto=http"],
            Forwarded(("192.0.2.1", 0), "http"),
        ),
        (['for="198.51.100.1, for=192.0.2.1'], Forwarded(("192.0.2.1", 0))),
        (['x="a, for="192.0.2.1:1"'], Forwarded(("192.0.2.1", 1))),
        (["=;;=, for=192.0.2.1"], Forwarded(("192.0.2.1", 0))),
        # Commas and semicolons within quotes separate nothing.
        (['for=192.0.2.1;x="a, for=198.51.100.1; b"'], Forwarded(("192.0.2.1", 0))),
        # A proxy that hides the client still says how it asked.
        (["for=unknown;proto=https"], Forwarded(None, "https")),
        (["for=_a1b2;proto=https, for=10.0.0.1"], Forwarded(None, "https")),
        (['for="_a1b2:_c3";host=shop.example'], Forwarded(None, None, b"shop.example")),
        (["proto=https;host=shop.example"], Forwarded(None, "https", b"shop.example")),
        (['for=192.0.2.1;proto=gopher;host="a/b"'], Forwarded(("192.0.2.1", 0))),
        # Only proxies, and nobody.
        (["for=10.0.0.1;proto=https, for=10.0.0.2"], Forwarded(("10.0.0.1", 0), "https")),
        ([" , ,"], Forwarded()),
        # Malformed: nothing of it is believed.
        (["for=nonsense;proto=https"], None),
        (["for=192.0.2.1;for=192.0.2.2"], None),
        (["for=192.0.2.1, for=10.0.0.1;="], None),
        (["for 192.0.2.1"], None),
        (["for=192.0.2.1;proto"], None),
        (['for="192.0.2.1'], None),
        (['for="192.0.2.1";x="\\""'], None),
        (['for="192.0.2.1"x;proto=https'], None),
    ],
)
def test_the_standard_header(lines, said):
    assert read(*lines, standard=True) == said


def test_only_the_family_and_the_fields_that_were_named_are_believed():
    headers = [
        (b"forwarded", b"for=192.0.2.1;proto=https;host=a.example"),
        (b"x-forwarded-for", b"192.0.2.2"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-host", b"b.example"),
        (b"x-forwarded-port", b"81"),
        (b"x-forwarded-prefix", b"/b"),
    ]

    def believed(*arguments):
        return Forwarding(NETWORKS, *arguments).read(headers)

    assert believed() == Forwarded(("192.0.2.2", 0), "http")
    assert believed("x-forwarded", ["host", "prefix"]) == Forwarded(host=b"b.example", prefix=b"/b")
    assert believed("x-forwarded", ["port"]) == Forwarded(port=b"81")
    assert believed("x-forwarded", []) is None
    assert believed("forwarded") == Forwarded(("192.0.2.1", 0), "https")
    assert believed("forwarded", ["host"]) == Forwarded(host=b"a.example")


def test_a_request_without_such_headers_says_nothing():
    assert Forwarding(NETWORKS).read([(b"host", b"a"), (b"forwarded", b"for=192.0.2.1")]) is None
    assert Forwarding(NETWORKS).read([]) is None


@pytest.mark.parametrize(
    ("own", "said", "is_secure", "host"),
    [
        (b"in", Forwarded(host=b"shop.example"), False, b"shop.example"),
        (b"in", Forwarded(host=b"shop.example", port=b"8443"), True, b"shop.example:8443"),
        (b"in", Forwarded(host=b"shop.example:1", port=b"443"), True, b"shop.example"),
        (b"in", Forwarded(host=b"shop.example", port=b"443"), False, b"shop.example:443"),
        (b"in:8000", Forwarded(port=b"80"), False, b"in"),
        (b"in:8000", Forwarded(port=b"81"), False, b"in:81"),
        (b"[::1]:8000", Forwarded(port=b"81"), False, b"[::1]:81"),
        (b"[::1]", Forwarded(port=b"443"), True, b"[::1]"),
    ],
)
def test_the_host_header_is_replaced(own, said, is_secure, host):
    headers = [(b"accept", b"*/*"), (b"host", own), (b"x-forwarded-host", b"kept")]
    before = list(headers)
    replaced = replace_host(headers, said, is_secure=is_secure)
    assert dict(replaced) == {**dict(before), b"host": host}
    assert len(replaced) == len(before)
    assert headers == before


def test_a_request_without_a_host_gets_one_only_from_a_host():
    assert replace_host([], Forwarded(port=b"81"), is_secure=False) == []
    assert replace_host([], Forwarded(host=b"a"), is_secure=False) == [(b"host", b"a")]


def test_the_configuration_decides():
    forwarding = Forwarding.of(Config())
    assert forwarding is not None
    assert forwarding.networks == TrustedNetworks.parse("127.0.0.1,::1")
    assert forwarding.fields == {"for", "proto"}
    assert Forwarding.of(Config(proxy_headers=False)) is None
    assert Forwarding.of(Config(forwarded_allow_ips=())) is None


# --- properties -----------------------------------------------------------------------------------

STRANGERS = st.ip_addresses().filter(
    lambda address: (
        not NETWORKS.is_trusted((str(address), 0)) and getattr(address, "ipv4_mapped", None) is None
    )
)
TRUSTED = st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(
    v=6, network="2001:db8:ffff::/48"
)
PORTS = st.none() | st.integers(0, 65535)


def written(address, port):
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{port}" if port is not None else host


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=80),
    STRANGERS,
    PORTS,
    st.lists(st.tuples(TRUSTED, PORTS), max_size=5),
    st.booleans(),
)
def test_a_client_cannot_hide_behind_what_it_writes(forged, stranger, port, proxies, lines):
    chain = [forged, written(stranger, port), *(written(*proxy) for proxy in proxies)]
    found = client(*chain) if lines else client(", ".join(chain))
    assert found == (str(stranger), port or 0)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=80),
    STRANGERS,
    PORTS,
    st.lists(st.tuples(TRUSTED, PORTS), max_size=5),
    st.booleans(),
)
def test_nor_in_the_standard_header(forged, stranger, port, proxies, lines):
    elements = [
        forged,
        f'for="{written(stranger, port)}";proto=https;host=shop.example',
        *(f'by=10.1.1.1;for="{written(*proxy)}";proto=http' for proxy in proxies),
    ]
    said = read(*(elements if lines else [", ".join(elements)]), standard=True)
    assert said == Forwarded((str(stranger), port or 0), "https", b"shop.example")
