import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http.request_id import RequestIds

MADE = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"0b6c2e0c-2c53-4f6b-9c3e-6f1f6a3f3c11",
        b"Root=1-5759e988-bd862e3fe1be46a994272793",
        b"x" * 128,
    ],
)
def test_a_safe_id_of_the_client_is_taken(value):
    ids = RequestIds("x-request-id")
    assert ids.of([(b"host", b"a"), (b"x-request-id", value)]) == value.decode()


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"x" * 129], [b"a b"], [b'a"b'], [b"a\tb"], [b"\xff"], [b"a", b"a"], [b"a\n"]],
)
def test_otherwise_one_is_made(values):
    headers = [(b"x-request-id", value) for value in values]
    ids = RequestIds("x-request-id")
    assert MADE.fullmatch(ids.of(headers))
    assert ids.of(headers) != ids.of(headers)


def test_the_line_that_answers():
    assert RequestIds("x-request-id").default_line("r1") == (
        b"x-request-id",
        b"x-request-id: r1\r\n",
    )


@given(st.binary())
def test_whatever_is_sent_the_id_can_stand_in_a_header_and_in_a_log(value):
    ids = RequestIds("x-request-id")
    chosen = ids.of([(b"x-request-id", value)])
    assert 1 <= len(chosen) <= 128
    assert chosen.isascii()
    assert chosen.isprintable()
    assert not set(chosen) & set(' "\\,;')
