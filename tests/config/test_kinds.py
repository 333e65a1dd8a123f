import math
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.config.kinds import (
    Choice,
    Duration,
    FileMode,
    FileOwner,
    Header,
    HeaderName,
    HostPattern,
    Integer,
    MismatchError,
    Network,
    Optional,
    Secret,
    Several,
    Size,
    Switch,
    Text,
    UnavailableError,
)
from asgireload.config.options import OPTIONS


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (FileMode(), "0660", "0660"),
        (FileMode(), "640", "0640"),
        (FileOwner(), "shop", "shop"),
        (FileOwner(), "shop:www-data", "shop:www-data"),
        (FileOwner(), ":33", ":33"),
        (Integer(1), "8", 8),
        (Integer(1), 8, 8),
        (Duration(), "250ms", 0.25),
        (Duration(), "5m", 300.0),
        (Duration(), "1.5h", 5400.0),
        (Duration(), 20, 20.0),
        (Size(), "512M", 512 * 2**20),
        (Size(), "2GiB", 2 * 2**30),
        (Size(), "100B", 100),
        (Size(), "1000", 1000),
        (Size(unit=2**20), "512", 512 * 2**20),
        (Size(unit=2**20), "1G", 2**30),
        (Size(unit=2**20), "7b", 7),
        (Switch(), "Yes", True),
        (Switch(), "0", False),
        (Choice(("auto", "h11")), "H11", "h11"),
        (Choice(("auto",), substitutes={"zttp": "auto"}), "zttp", "auto"),
        (Header(), "X-A: b: c", ("X-A", "b: c")),
        (Header(), ["X-A", "b"], ("X-A", "b")),
        (Network(), "127.0.0.1", "127.0.0.1"),
        (Network(), "127.0.0.1/32", "127.0.0.1"),
        (Network(), "2001:DB8::/32", "2001:db8::/32"),
        (Network(), " Unix ", "unix"),
        (Network(), "*", "*"),
        (HostPattern(), "Shop.example.", "shop.example"),
        (HostPattern(), "*.Shop.example", "*.shop.example"),
        (HostPattern(), "::1", "[::1]"),
        (HostPattern(), "[0::1]", "[::1]"),
        (Several(Network(), always_splits=True), "::1, unix", ("::1", "unix")),
        (Several(Network(), always_splits=True), ["::1,unix", "*"], ("::1", "unix", "*")),
        (Several(Network(), always_splits=True), "", ()),
        (HeaderName(), "X-Request-ID", "x-request-id"),
        (Several(Integer(0)), "1", (1,)),
        (Several(Text()), ["a", "b"], ("a", "b")),
        (Optional(Integer(1)), "none", None),
        (Optional(Integer(1)), None, None),
    ],
)
def test_good_values_are_read(kind, raw, value):
    assert kind.read(raw) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Network(), "10.0.0.1/8"),
        (Network(), "proxy.example"),
        (Network(), 5),
        (HostPattern(), "shop.example:80"),
        (HostPattern(), ""),
        (Several(Network(), always_splits=True), [5]),
        (Integer(1), "four"),
        (Integer(1), "0"),
        (Integer(1), True),
        (Integer(1), 1.5),
        (Integer(0, 65535), "65536"),
        (Duration(), "-1"),
        (Duration(), "5 minutes"),
        (Duration(), math.nan),
        (Duration(), math.inf),
        (Duration(positive=True), 0),
        (Duration(), True),
        (Size(), "0"),
        (Size(), "-5M"),
        (Size(), "5X"),
        (Switch(), "maybe"),
        (Switch(), 1),
        (Choice(("auto",)), "h2"),
        (Text(), 5),
        (Text(), "a\0b"),
        (HeaderName(), "no header"),
        (HeaderName(), ""),
        (Header(), "no colon"),
        (Header(), "Bad Name: x"),
        (Header(), "X-A: a\r\nX-B: b"),
        (Header(), "X-A: \u20ac"),
        (Several(Integer(0)), 5),
        (Optional(Integer(1)), "0"),
    ],
)
def test_bad_values_are_refused_with_what_was_expected(kind, raw):
    with pytest.raises(MismatchError) as caught:
        kind.read(raw)
    assert str(caught.value)


def test_a_word_of_another_server_is_refused_with_a_way_out():
    with pytest.raises(UnavailableError, match="a2wsgi"):
        OPTIONS["interface"].kind.read("wsgi")


def test_the_text_of_an_optional_value_says_that_none_is_allowed():
    with pytest.raises(MismatchError, match="or none"):
        Optional(Integer(1)).read("x")


def test_a_variable_is_split_where_its_option_says():
    assert Several(Text()).split("a:1, b:2  c") == ["a:1", "b:2", "c"]
    assert Several(Text(), separator="\n").split("A: b c\n\nD: e") == ["A: b c", "D: e"]


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_every_default_is_a_value_of_its_kind(option):
    if option.default not in (None, ""):
        assert option.kind.read(option.default) == option.default


@given(st.text())
def test_no_text_makes_a_kind_raise_anything_else(text):
    for option in OPTIONS.values():
        try:
            option.kind.read(text)
        except (MismatchError, UnavailableError):
            pass


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("ssl_version", 17, "tls1.2"),
        ("ssl_version", ssl.PROTOCOL_TLS_SERVER, "tls1.2"),
        ("ssl_version", "5", "tls1.2"),
        ("ssl_version", "TLSv1_2", "tls1.2"),
        ("ssl_version", "TLS1.3", "tls1.3"),
        ("ssl_cert_reqs", 0, "none"),
        ("ssl_cert_reqs", ssl.CERT_OPTIONAL, "optional"),
        ("ssl_cert_reqs", "2", "required"),
        ("ssl_cert_reqs", "CERT_REQUIRED", "required"),
    ],
)
def test_constants_of_the_ssl_module_are_understood(name, raw, value):
    assert OPTIONS[name].kind.read(raw) == value


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (3, "RFC 8996"),
        ("TLSv1_1", "RFC 8996"),
        (16, "not for a server"),
        ("sslv3", "not for a server"),
    ],
)
def test_versions_that_are_withdrawn_are_refused_with_the_reason(raw, error):
    with pytest.raises(UnavailableError, match=error):
        OPTIONS["ssl_version"].kind.read(raw)
    with pytest.raises(MismatchError):
        OPTIONS["ssl_version"].kind.read(True)


def test_a_secret_is_not_shown():
    kind = Optional(Secret())
    assert kind.read("geheim") == "geheim"
    assert kind.show("geheim") == '"(hidden)"'
    assert kind.show(None) == '"none"'


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a:1 b:2", ["a:1", "b:2"]),
        ("a:1,b:2", ["a:1", "b:2"]),
        ("a:1 plain, b:2 tls  cert=/a.pem c:3", ["a:1 plain", "b:2 tls cert=/a.pem", "c:3"]),
        ("8000 proxy 8001", ["8000 proxy", "8001"]),
        ("tls 80", ["tls", "80"]),
        (" , ", []),
    ],
)
def test_words_of_a_bind_stay_with_their_address_in_a_variable(text, items):
    assert OPTIONS["bind"].kind.split(text) == items


@pytest.mark.parametrize("raw", ["", "66", "8660", "1660", "0688", "u=rw", 660, 0o660, True])
def test_permissions_are_octal_digits_and_no_number(raw):
    """660 in a TOML file is 0o1224."""
    with pytest.raises(MismatchError, match="octal"):
        FileMode().read(raw)


@pytest.mark.parametrize("raw", ["", ":", "shop:", "a:b:c", "a b", 33])
def test_an_owner_names_user_or_group(raw):
    with pytest.raises(MismatchError, match="USER:GROUP"):
        FileOwner().read(raw)
