"""Parcels and messages survive the way, also between versions; anything else is a clear error."""

import contextlib

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from asgireload.errors import ParcelError
from asgireload.ipc import parcels
from asgireload.ipc.parcels import (
    Facts,
    HttpParcel,
    Offer,
    Settled,
    WebSocketParcel,
    Withdrawn,
    decode_message,
    decode_parcel,
    encode_message,
    encode_parcel,
)

numbers = st.integers(0, 2**40)
clients = st.tuples(st.text(max_size=40), st.integers(0, 65535))
facts = st.builds(
    Facts,
    client=st.none() | clients,
    server=st.none() | st.tuples(st.text(max_size=40), st.none() | st.integers(0, 65535)),
    is_secure=st.booleans(),
    is_peer_known=st.booleans(),
)
http_parcels = st.builds(
    HttpParcel,
    facts=facts,
    state=st.sampled_from(["silent", "idle", "head"]),
    deadline=st.floats(allow_nan=False),
    unread=st.binary(max_size=500),
)
websocket_parcels = st.builds(
    WebSocketParcel,
    facts=facts,
    method=st.text(max_size=8),
    target=st.binary(max_size=50),
    http_version=st.text(max_size=3),
    headers=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9))).map(tuple),
    subprotocol=st.none() | st.text(max_size=9),
    extensions=st.none() | st.text(max_size=9),
    session=st.binary(max_size=99),
    app_state=st.binary(max_size=99),
)
tuples = st.lists(numbers, max_size=64).map(tuple)
messages = st.one_of(
    st.builds(Offer, number=numbers, parcel=st.binary(max_size=99)),
    st.builds(Settled, taken=tuples, refused=tuples),
    st.just(Withdrawn()),
)


@given(http_parcels | websocket_parcels)
def test_parcels_come_out_as_they_went_in(parcel):
    assert decode_parcel(encode_parcel(parcel)) == parcel


@given(messages)
def test_messages_come_out_as_they_went_in(message):
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=200))
def test_other_bytes_are_a_clear_error_or_a_parcel(data):
    for decode in (decode_parcel, decode_message):
        with contextlib.suppress(ParcelError):
            assert decode(data) is not None


@given(http_parcels, st.dictionaries(st.text(min_size=20, max_size=24), st.integers(0, 9)))
def test_fields_of_a_newer_version_are_passed_over(parcel, more):
    known = msgspec.msgpack.decode(encode_parcel(parcel))
    assert decode_parcel(msgspec.msgpack.encode({**known, **more})) == parcel


def test_a_kind_of_a_newer_version_is_refused():
    with pytest.raises(ParcelError, match="of this version"):
        decode_parcel(msgspec.msgpack.encode({"type": "http3", "facts": {}}))


def test_a_parcel_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(parcels, "PARCEL_LIMIT", 1000)
    with pytest.raises(ParcelError, match="larger than 1000"):
        encode_parcel(HttpParcel(Facts(None, None), "head", 1.0, b"x" * 1000))
