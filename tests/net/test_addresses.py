"""How addresses are written and shown."""

import pytest

from asgireload.config import Config
from asgireload.errors import ConfigError
from asgireload.net.addresses import (
    InheritedSocket,
    TcpAddress,
    UnixAddress,
    addresses_of,
    parse_address,
    url_of,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80)),
        ("example.org", TcpAddress("example.org", 8000)),
        (":9000", TcpAddress("", 9000)),
        ("[::1]:80", TcpAddress("::1", 80)),
        ("[::]", TcpAddress("::", 8000)),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock")),
        ("unix:///run/x.sock", UnixAddress("/run/x.sock")),
        ("fd://3", InheritedSocket(3)),
    ],
)
def test_ways_to_write_an_address(text, address):
    assert parse_address(text, 8000) == address


@pytest.mark.parametrize(
    "text", ["::1:80", "[::1", "[::1]x", "h:port", "h:70000", "h:-1", "unix:", "fd://x"]
)
def test_unusable_addresses_are_named(text):
    with pytest.raises(ConfigError, match="'"):
        parse_address(text, 8000)


def test_the_configuration_names_addresses_in_several_ways():
    assert addresses_of(Config(host="h", port=1)) == [TcpAddress("h", 1)]
    assert addresses_of(Config(uds="/x")) == [UnixAddress("/x")]
    assert addresses_of(Config(fd=5)) == [InheritedSocket(5)]
    assert addresses_of(Config(bind=("a:1", "unix:/x"))) == [TcpAddress("a", 1), UnixAddress("/x")]


@pytest.mark.parametrize(
    ("address", "name", "url"),
    [
        (TcpAddress("localhost", 0), ("127.0.0.1", 1234), "http://localhost:1234"),
        (TcpAddress("::1", 0), ("::1", 1234, 0, 0), "http://[::1]:1234"),
        (TcpAddress("", 0), ("0.0.0.0", 1), "http://0.0.0.0:1"),
        (InheritedSocket(3), ("127.0.0.1", 7), "http://127.0.0.1:7"),
        (UnixAddress("/x"), "/x", "unix:/x"),
    ],
)
def test_how_an_address_is_shown(address, name, url):
    assert url_of(address, name) == url
