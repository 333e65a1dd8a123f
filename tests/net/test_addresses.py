import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.config import Config
from asgireload.errors import ConfigError
from asgireload.net.addresses import (
    InheritedAddress,
    ListenerTraits,
    TcpAddress,
    UnixAddress,
    addresses_of,
    check_addresses,
    has_v4_twin,
    is_loopback,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000), "127.0.0.1:8000"),
        ("example.org:0", TcpAddress("example.org", 0), "example.org:0"),
        ("[::1]:80", TcpAddress("::1", 80), "[::1]:80"),
        (":80", TcpAddress("0.0.0.0", 80), "0.0.0.0:80"),
        ("8000", TcpAddress("127.0.0.1", 8000), "127.0.0.1:8000"),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock"),
        ("unix:///run/x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock"),
        ("unix:x.sock", UnixAddress("x.sock"), "unix:x.sock"),
        ("fd://3", InheritedAddress(3), "fd://3"),
    ],
)
def test_addresses_are_read_and_shown(text, address, shown):
    assert parse_address(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("example.org", "HOST:PORT"),
        ("::1:80", "brackets"),
        ("host:", "port must be"),
        ("host:http", "port must be"),
        ("host:65536", "port must be"),
        ("99999", "port must be"),
        ("http://host:80", "HOST:PORT|brackets"),
        ("unix:", "needs a path"),
        ("unix:/" + "x" * 107, "may have 107"),
        ("fd://x", "fd://N"),
        ("", "HOST:PORT"),
    ],
)
def test_bad_addresses_are_refused_with_what_is_understood(text, error):
    with pytest.raises(ConfigError, match=error):
        parse_address(text)


@given(st.text(alphabet="[]:/.0123456789abunixfd-²"))
def test_any_text_is_an_address_or_refused(text):
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert isinstance(address, TcpAddress | UnixAddress | InheritedAddress)


def test_binds_replace_the_other_ways():
    assert addresses_of(Config()) == (TcpAddress("127.0.0.1", 8000),)
    assert addresses_of(Config(host="[::1]")) == (TcpAddress("::1", 8000),)
    assert addresses_of(Config(uds="/x")) == (UnixAddress("/x"),)
    assert addresses_of(Config(fd=3)) == (InheritedAddress(3),)
    assert len(addresses_of(Config(bind=("127.0.0.1:1", "unix:/x")))) == 2


def test_an_address_given_twice_is_refused_unless_the_port_is_any():
    with pytest.raises(ConfigError, match="twice"):
        addresses_of(Config(bind=("127.0.0.1:1", "127.0.0.1:1")))
    assert len(addresses_of(Config(bind=("127.0.0.1:0", "127.0.0.1:0")))) == 2


def test_per_slot_needs_a_tcp_address():
    with pytest.raises(ConfigError, match="TCP"):
        check_addresses(Config(uds="/x", accept="per-slot"))
    check_addresses(Config(bind=("unix:/x", "127.0.0.1:1"), accept="per-slot"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_admin_port_that_others_reach_needs_a_token(host):
    """The admin port can stop the server, so it is never open to other machines without a token."""
    with pytest.raises(ConfigError, match="admin_token_file"):
        check_addresses(Config(admin_port=9000, admin_host=host))
    check_addresses(Config(admin_port=9000, admin_host=host, admin_token_file="token"))
    check_addresses(Config(admin_host=host))


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", ""]))


def test_a_v4_address_on_the_same_port_is_seen():
    v6, v4, other = TcpAddress("::", 80), TcpAddress("0.0.0.0", 80), TcpAddress("0.0.0.0", 81)
    assert has_v4_twin(v6, [v6, v4])
    assert not has_v4_twin(v6, [v6, other])
    assert not has_v4_twin(v4, [v6, v4])


# --- words ----------------------------------------------------------------------------------------


def traits(text, **options):
    return parse_address(text, **options).traits


def test_words_after_an_address_say_how_connections_are_received():
    assert traits("127.0.0.1:80") == ListenerTraits()
    assert traits("127.0.0.1:80 proxy") == ListenerTraits(proxy=True)
    assert traits("unix:/x  cert=a.pem\tproxy") == ListenerTraits(
        tls=True, certfile="a.pem", proxy=True
    )
    assert traits("[::1]:443 tls cert=a.pem key=/k=1.key") == ListenerTraits(
        tls=True, certfile="a.pem", keyfile="/k=1.key"
    )


def test_every_address_speaks_tls_once_there_is_a_certificate_unless_it_says_otherwise():
    assert traits("fd://3", speaks_tls=True) == ListenerTraits(tls=True)
    assert traits("443 tls", speaks_tls=True) == ListenerTraits(tls=True)
    assert traits("80 plain", speaks_tls=True) == ListenerTraits()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("unix:/x mode=0o66", "mode expects permissions in octal digits"),
        ("unix:/x mode", "'mode' is not understood"),
        ("unix:/x owner=", "'owner=' is not understood"),
        ("80 mode=0660", "mode is for unix:PATH"),
        ("fd://3 owner=shop", "owner is for unix:PATH"),
        ("80 tsl", "'80 tsl': 'tsl' is not understood; the words understood are plain, tls, cert"),
        ("80 tls=1", "'tls=1' is not understood"),
        ("80 cert", "'cert' is not understood"),
        ("80 cert=", "'cert=' is not understood"),
        ("80 cert=a plain", "plain is the opposite"),
        ("80 plain tls", "plain is the opposite"),
        ("80 key=a", "key needs the certificate"),
        ("80 cert=a cert=b", "cert is given twice"),
        ("80 proxy proxy", "proxy is given twice"),
        ("80 tls", "tls needs a certificate: give --ssl-certfile, or cert=FILE"),
    ],
)
def test_bad_words_are_refused_with_those_that_are_understood(text, error):
    with pytest.raises(ConfigError, match=error):
        parse_address(text)


@given(
    st.lists(
        st.sampled_from(["plain", "tls", "proxy", "cert=a", "key=b", "x", "cert="]), max_size=4
    ),
    st.booleans(),
)
def test_any_words_are_understood_or_refused(words, speaks_tls):
    try:
        found = traits(" ".join(["80", *words]), speaks_tls=speaks_tls)
    except ConfigError:
        return
    assert found.tls == ("cert=a" in words or (speaks_tls and "plain" not in words))
    assert found.proxy == ("proxy" in words)


@pytest.mark.parametrize("option", [{"uds": "/x"}, {"fd": 3}, {"port": 80}])
def test_uds_fd_and_port_speak_tls_when_there_is_a_certificate(option):
    (address,) = addresses_of(Config(ssl_certfile="a.pem", **option))
    assert address.traits == ListenerTraits(tls=True)
    (address,) = addresses_of(Config(ssl_context_factory="m:f", **option))
    assert address.traits == ListenerTraits(tls=True)
    (address,) = addresses_of(Config(**option))
    assert address.traits == ListenerTraits()


def test_one_address_is_not_taken_twice_whatever_its_words():
    with pytest.raises(ConfigError, match="given twice"):
        addresses_of(Config(bind=("127.0.0.1:80 plain", "127.0.0.1:80 tls"), ssl_certfile="a"))


def test_a_context_factory_leaves_no_room_for_certificates_of_addresses():
    with pytest.raises(ConfigError, match=r"leave out cert=|or the factory"):
        check_addresses(Config(bind=("80 cert=a",), ssl_context_factory="m:f"))


def test_words_and_options_say_whose_a_unix_socket_is():
    config = Config(
        bind=("unix:/a", "unix:/b mode=0600", "unix:/c owner=:web proxy", "80"),
        uds_mode="0660",
        uds_owner="shop",
    )
    a, b, c, port = addresses_of(config)
    assert (a.mode, a.owner) == (0o660, "shop")
    assert (b.mode, b.owner) == (0o600, "shop")
    assert (c.mode, c.owner, c.traits.proxy) == (0o660, ":web", True)
    assert isinstance(port, TcpAddress)
    (plain,) = addresses_of(Config(uds="/x"))
    assert (plain.mode, plain.owner) == (None, None)
