"""Frames as bytes, without state."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import AppProtocolError, FrameError
from asgireload.websocket.frames import (
    FIN,
    TEXT,
    encode_close,
    encode_frame,
    explain_first_byte,
    is_sendable_code,
    parse_close,
)
from asgireload.websocket.masking import unmask, unmask_slowly
from tests.websocket.client_frames import masked

Unmask = Callable[[bytes, bytes], bytes]

either = pytest.mark.parametrize(
    "unmask", sorted({unmask, unmask_slowly}, key=repr), ids=lambda f: f.__name__
)
"""The one in C, where this is compiled, and the one in Python."""


@either
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 63, 8191, 8192, 8193, 8194, 8195, 30_001])
def test_masks_of_every_length(unmask: Unmask, length: int) -> None:
    payload = bytes(index * 7 % 256 for index in range(length))
    assert unmask(payload, b"\x01\x82\x03\xff") == masked(payload, b"\x01\x82\x03\xff")


@either
@given(payload=st.binary(max_size=200), key=st.binary(min_size=4, max_size=4))
def test_a_mask_undoes_itself(unmask: Unmask, payload: bytes, key: bytes) -> None:
    assert unmask(payload, key) == masked(payload, key)
    assert unmask(unmask(payload, key), key) == payload


def test_a_key_has_four_bytes() -> None:
    if unmask is unmask_slowly:
        pytest.skip("not compiled: callers pass four bytes")
    with pytest.raises(TypeError, match="four bytes"):
        unmask(b"payload", b"key")


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_says_its_length_in_the_shortest_form(length: int, head: bytes) -> None:
    assert encode_frame(FIN | TEXT, b"x" * length) == head + b"x" * length


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (0xC1, "a reserved bit is set that no extension gives a meaning to"),
        (0x91, "a reserved bit is set that no extension gives a meaning to"),
        (0x83, "the opcode 3 is reserved"),
        (0x8B, "the opcode 11 is reserved"),
        (0x09, "a control frame is fragmented"),
    ],
)
def test_a_forbidden_first_byte_is_explained(first: int, reason: str) -> None:
    assert explain_first_byte(first) == reason


SENDABLE = [1000, 1001, 1002, 1003, 1007, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
FORBIDDEN = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", SENDABLE)
def test_close_codes_of_the_registry_pass_both_ways(code: int) -> None:
    assert is_sendable_code(code)
    assert encode_close(code, "é") == b"\x88\x04" + code.to_bytes(2, "big") + b"\xc3\xa9"
    assert parse_close(code.to_bytes(2, "big") + b"\xc3\xa9") == (code, "é")


@pytest.mark.parametrize("code", FORBIDDEN)
def test_other_close_codes_pass_neither_way(code: int) -> None:
    assert not is_sendable_code(code)
    with pytest.raises(
        AppProtocolError, match=f"^{code} is not a close code that may be sent; use"
    ):
        encode_close(code, "")
    with pytest.raises(FrameError) as caught:
        parse_close(code.to_bytes(2, "big"))
    assert (caught.value.code, caught.value.reason) == (
        1002,
        f"{code} is not a close code that may be sent",
    )


def test_a_close_reason_fits_or_is_refused() -> None:
    assert len(encode_close(1000, "é" * 61 + "x")) == 127
    with pytest.raises(AppProtocolError, match="has 124 bytes in UTF-8; a close frame has room"):
        encode_close(1000, "é" * 62)
    with pytest.raises(AppProtocolError, match="not valid Unicode"):
        encode_close(1000, "\ud800")


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"\x03", 1002, "the close frame has half a code"),
        (b"\x03\xe8\xff", 1007, "the close reason is not UTF-8"),
        (b"\x03\xe8\xed\xa0\x80", 1007, "the close reason is not UTF-8"),
    ],
)
def test_a_bad_close_payload_is_a_fault(payload: bytes, code: int, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        parse_close(payload)
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_a_close_without_a_code_is_1005() -> None:
    assert parse_close(b"") == (1005, "")
