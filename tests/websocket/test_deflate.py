"""permessage-deflate: what is agreed on, and what the windows hold."""

import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import FrameError
from asgireload.ipc.scoreboard import Limit
from asgireload.websocket.deflate import (
    FINAL_BLOCKS_LIMIT,
    DeflateParameters,
    Deflater,
    Inflater,
    negotiate,
)
from asgireload.websocket.handshake import parse_extensions
from tests.websocket.client_frames import deflated, final_block


def answer(header: str) -> str | None:
    parameters = negotiate(parse_extensions(header))
    return None if parameters is None else parameters.header_value.decode()


@pytest.mark.parametrize(
    ("offer", "response"),
    [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate;client_max_window_bits=15", ""),
        ("permessage-deflate; client_max_window_bits=8", "client_max_window_bits=8"),
        ('permessage-deflate; client_max_window_bits="10"', "client_max_window_bits=10"),
        (r'permessage-deflate; client_max_window_bits="1\0"', "client_max_window_bits=10"),
        ("permessage-deflate ; server_max_window_bits = 9", "server_max_window_bits=9"),
        ("permessage-deflate; server_no_context_takeover", "server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", "client_no_context_takeover"),
        (
            "permessage-deflate; client_max_window_bits=12; server_max_window_bits=11;"
            "client_no_context_takeover; server_no_context_takeover",
            "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11;"
            " client_max_window_bits=12",
        ),
    ],
)
def test_an_offer_that_can_be_met_is_accepted(offer: str, response: str) -> None:
    assert answer(offer) == "; ".join(filter(None, ("permessage-deflate", response)))


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        'permessage-deflate; client_no_context_takeover="true"',
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=1e1",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=010",
        "permessage-deflate; client_max_window_bits=x",
    ],
)
def test_any_other_offer_is_declined(offer: str) -> None:
    assert answer(offer) is None
    fallback = f"{offer}, permessage-deflate; client_max_window_bits=9, permessage-deflate"
    assert answer(fallback) == "permessage-deflate; client_max_window_bits=9"


MESSAGES = st.lists(st.binary(max_size=300).map(lambda data: data * 3), max_size=8)


@settings(deadline=None)
@given(
    messages=MESSAGES,
    bits=st.integers(9, 15),
    resets=st.booleans(),
    cut=st.integers(1, 200),
    handover=st.integers(0, 8),
)
def test_messages_survive_however_they_are_cut_and_whoever_goes_on(
    messages: list[bytes], bits: int, resets: bool, cut: int, handover: int
) -> None:
    deflater = Deflater(bits, resets=resets)
    inflater = Inflater(bits, resets=resets)
    history = b""
    for index, message in enumerate(messages):
        if index == handover:
            inflater = Inflater(bits, resets=resets, window=inflater.window())
        data = deflater.deflate(message)
        pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
        output = b"".join(inflater.inflate(piece, len(message)) for piece in pieces)
        assert output + inflater.finish(b"", len(message) - len(output)) == message
        history = b"" if resets else history + message
        assert inflater.window() == history[-(1 << bits) :]


@pytest.mark.parametrize(
    "size", [1, 2, 3, 4, 5, 257, 258, 259, 24576, 24577, 32767, 32768, 32769, 100_000]
)
def test_the_window_is_the_end_of_what_was_inflated(size: int) -> None:
    data = os.urandom(size)
    inflater = Inflater(15, resets=False)
    assert inflater.finish(deflated(data), size) == data
    assert inflater.window() == data[-32768:]
    assert inflater.window() == data[-32768:]


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_server_window_is_kept_to(bits: int) -> None:
    noise = os.urandom(1 << bits)
    data = Deflater(bits, resets=False).deflate(noise + noise)
    strict = zlib.decompressobj(-bits)
    assert strict.decompress(data + b"\x00\x00\xff\xff") == noise + noise


def test_what_left_the_agreed_window_cannot_be_referred_to() -> None:
    noise = os.urandom(1200)
    deflater = zlib.compressobj(wbits=-15)
    inflater = Inflater(9, resets=False)
    first, second = (
        (deflater.compress(part) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        for part in (noise, noise[:100])
    )
    assert inflater.finish(first, 2000) == noise
    with pytest.raises(FrameError) as caught:
        inflater.finish(second, 2000)
    assert caught.value.code == 1007


def test_no_context_takeover_forgets_in_both_directions() -> None:
    deflater = Deflater(15, resets=True)
    first, second = deflater.deflate(b"abcd" * 30), deflater.deflate(b"abcd" * 30)
    assert first == second
    inflater = Inflater(15, resets=True)
    kept = Deflater(15, resets=False)
    noise = os.urandom(200)
    assert inflater.finish(kept.deflate(noise), 200) == noise
    with pytest.raises(FrameError) as caught:
        inflater.finish(kept.deflate(noise), 200)
    assert caught.value.code == 1007


def test_never_more_is_inflated_than_allowed() -> None:
    bomb = deflated(bytes(50_000_000))
    inflater = Inflater(15, resets=False)
    assert len(Inflater(15, resets=False).finish(bomb, 50_000_000)) == 50_000_000
    with pytest.raises(FrameError) as caught:
        inflater.inflate(bomb, 1000)
    assert (caught.value.code, caught.value.limit) == (1009, Limit.WS_INFLATION)


def test_a_message_may_end_its_deflate_stream() -> None:
    inflater = Inflater(15, resets=False)
    for message in (b"one", b"two" * 100, b"", b"three"):
        assert inflater.finish(final_block(message), 1000) == message
        assert inflater.window() == b""
    assert inflater.finish(deflated(b"four"), 1000) == b"four"
    joined = final_block(b"a" * 70)[:-1] * 2 + deflated(b"b")
    assert inflater.finish(joined, 1000) == b"a" * 140 + b"b"
    for index in range(len(joined)):
        output = inflater.inflate(joined[:index], 1000)
        assert output + inflater.finish(joined[index:], 1000) == b"a" * 140 + b"b"


def test_a_message_of_many_streams_is_refused() -> None:
    stream = b"\x03\x00"
    Inflater(15, resets=False).finish(stream * FINAL_BLOCKS_LIMIT + b"\x00", 1000)
    with pytest.raises(FrameError) as caught:
        Inflater(15, resets=False).finish(stream * (FINAL_BLOCKS_LIMIT + 1), 1000)
    assert (caught.value.code, caught.value.limit) == (1009, Limit.WS_INFLATION)


def test_the_limit_holds_across_streams() -> None:
    data = final_block(b"a" * 100)[:-1] * 2
    assert Inflater(15, resets=False).inflate(data, 200) == b"a" * 200
    with pytest.raises(FrameError):
        Inflater(15, resets=False).inflate(data, 199)


def test_damaged_data_is_1007() -> None:
    with pytest.raises(FrameError) as caught:
        Inflater(15, resets=False).inflate(b"\xff\xff", 1000)
    assert (caught.value.code, caught.value.reason) == (1007, "the compressed data is damaged")


def test_defaults_need_no_parameters() -> None:
    assert DeflateParameters().header_value == b"permessage-deflate"
