import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.config.kinds import (
    Choice,
    Duration,
    Header,
    HeaderName,
    HostPattern,
    Integer,
    MismatchError,
    Network,
    Optional,
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
