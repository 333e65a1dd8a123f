"""A WebSocket cut in two anywhere reads as one: what a session exports, and what a parcel carries."""

import zlib
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgireload.errors import FrameError, ParcelError
from asgireload.http1.parser import read_head, read_request_line
from asgireload.ipc.parcels import Facts, decode_parcel, encode_parcel
from asgireload.websocket._wsproto import WsprotoSession
from asgireload.websocket.deflate import DeflateParameters, Inflater
from asgireload.websocket.frames import BINARY, FIN, PING, PONG, RSV1, TEXT
from asgireload.websocket.handover import Continuation, Resumption, SessionState, pack, queued
from asgireload.websocket.session import Closed, SessionLimits, WebSocketSession
from tests.websocket.client_frames import frame

Session = WebSocketSession | WsprotoSession
SESSIONS = pytest.mark.parametrize("kind", [WebSocketSession, WsprotoSession])
ROUTES = pytest.mark.parametrize(
    ("kind", "other"),
    [
        (WebSocketSession, WebSocketSession),
        (WsprotoSession, WsprotoSession),
        # A reload may change the option --ws.
        (WebSocketSession, WsprotoSession),
        (WsprotoSession, WebSocketSession),
    ],
)
ROOM = 1000
PLAIN = None
WITH_TAKEOVER = DeflateParameters()
WITHOUT_TAKEOVER = DeflateParameters(client_no_context_takeover=True)
SMALL_WINDOW = DeflateParameters(client_max_window_bits=9)


@dataclass(frozen=True)
class Sent:
    """A message as a client may send it: cut into frames, with control frames between."""

    message: str | bytes
    cuts: tuple[int, ...] = ()
    is_compressed: bool = False
    control: int | None = None


class Client:
    """Frames messages, with one compressor for the whole connection unless it forgets after each."""

    def __init__(self, deflate: DeflateParameters | None) -> None:
        self._deflate = deflate
        self._deflater = None

    def frames(self, sent: Sent) -> bytes:
        message = sent.message
        payload = message.encode() if isinstance(message, str) else message
        first = TEXT if isinstance(message, str) else BINARY
        if sent.is_compressed and self._deflate is not None:
            payload = self._compress(payload)
            first |= RSV1
        bounds = [0, *sorted(cut % (len(payload) + 1) for cut in sent.cuts), len(payload)]
        pieces = [payload[start:stop] for start, stop in pairwise(bounds)]
        data = b""
        for index, piece in enumerate(pieces):
            last = FIN if index == len(pieces) - 1 else 0
            data += frame(last | (first if index == 0 else 0), piece)
            if sent.control is not None:
                data += frame(FIN | sent.control, b"c%d" % index)
        return data

    def _compress(self, payload: bytes) -> bytes:
        deflater = self._deflater
        if deflater is None or self._deflate.client_no_context_takeover:
            deflater = self._deflater = zlib.compressobj(
                wbits=-self._deflate.client_max_window_bits
            )
        return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read(session: Session, data: bytes) -> tuple[list[str | bytes | Closed], bytes]:
    return session.receive(data, ROOM), session.take_answer()


def move(
    session: Session,
    deflate: DeflateParameters | None,
    limits: SessionLimits | None = None,
    to: type[Session] | None = None,
) -> Session:
    """Return the session that goes on in another process, of the same kind: through bytes and back."""
    head = read_head(read_request_line(b"GET / HTTP/1.1"), list(HEADERS))
    parcel = pack(
        FACTS,
        head,
        Continuation(session.export()),
        subprotocol=None,
        deflate=deflate,
        app_state=b"",
    )
    resumption = Resumption(decode_parcel(encode_parcel(parcel)))
    assert resumption.deflate == deflate
    state = resumption.continuation.session
    successor = (to or type(session))(limits, resumption.deflate, state, is_movable=True)
    successor.resume(state)
    return successor


FACTS = Facts(("192.0.2.1", 5), ("192.0.2.2", 80))
HEADERS = [
    (b"host", b"a"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]

payloads = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.text("ab ", max_size=20).map(lambda text: text * 30),
    st.just("wörter " * 200),
)
messages = st.builds(
    Sent,
    payloads,
    st.lists(st.integers(0, 2000), max_size=4).map(tuple),
    st.booleans(),
    st.sampled_from([None, PING, PONG]),
)
agreements = st.sampled_from([PLAIN, WITH_TAKEOVER, WITHOUT_TAKEOVER, SMALL_WINDOW])


@ROUTES
@given(st.lists(messages, min_size=1, max_size=5), agreements, st.data())
def test_two_sessions_deliver_and_answer_what_one_does(kind, other, sent, deflate, data):
    client = Client(deflate)
    stream = b"".join(client.frames(each) for each in sent)
    whole, whole_answer = read(kind(None, deflate), stream)
    assert whole == [each.message for each in sent]

    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), min_size=1, max_size=3)))
    session = kind(None, deflate, is_movable=True)
    received, answer, position = [], b"", 0
    for cut in [*cuts, len(stream)]:
        more, answered = read(session, stream[position:cut])
        received += more
        answer += answered
        position = cut
        session = move(session, deflate, to=other)
        kind, other = other, kind
    assert received == whole
    assert answer == whole_answer


@ROUTES
@pytest.mark.parametrize("deflate", [WITH_TAKEOVER, WITHOUT_TAKEOVER, SMALL_WINDOW])
def test_every_split_of_a_compressed_fragmented_stream(kind, other, deflate):
    client = Client(deflate)
    sent = [
        Sent("first grüße " * 5, (7, 9), is_compressed=True, control=PING),
        Sent("second grüße " * 5, (3,), is_compressed=True),
        Sent(b"plain", (2,), control=PONG),
        Sent("third grüße " * 5, is_compressed=True),
    ]
    stream = b"".join(client.frames(each) for each in sent)
    for cut in range(len(stream) + 1):
        session = kind(None, deflate, is_movable=True)
        before, answer = read(session, stream[:cut])
        after, more_answer = read(move(session, deflate, to=other), stream[cut:])
        assert before + after == [each.message for each in sent], cut
        assert (answer + more_answer).count(b"\x8a") == 3, cut


@ROUTES
def test_a_full_window_moves(kind, other):
    client = Client(WITH_TAKEOVER)
    old = "".join(chr(33 + index * 7919 % 90) for index in range(40_000))
    session = kind(None, WITH_TAKEOVER, is_movable=True)
    read(session, client.frames(Sent(old, is_compressed=True)))
    repeated = client.frames(Sent(old[-32_000:], is_compressed=True))
    assert len(repeated) < 1000  # it refers to the message before
    for cut in (0, len(repeated) // 2):
        before, _ = read(session, repeated[:cut])
        session = move(session, WITH_TAKEOVER, to=other)
        after, _ = read(session, repeated[cut:])
        assert before + after == [old[-32_000:]]
        repeated = client.frames(Sent(old[-32_000:], is_compressed=True))


@ROUTES
def test_what_there_was_no_room_for_is_read_over_there(kind, other):
    session = kind(is_movable=True)
    stream = b"".join(frame(FIN | TEXT, b"%d" % number) for number in range(5))
    assert session.receive(stream, 2) == ["0", "1"]
    successor = move(session, PLAIN, to=other)
    assert successor.has_unread_frames
    assert successor.receive(b"", ROOM) == ["2", "3", "4"]


@ROUTES
def test_a_ping_is_answered_over_there(kind, other):
    session = kind(is_movable=True)
    ping = session.ping()
    successor = move(session, PLAIN, to=other)
    assert successor.is_pong_awaited
    read(successor, frame(FIN | PONG, ping[2:]))
    assert not successor.is_pong_awaited


@ROUTES
def test_limits_count_what_came_before(kind, other):
    session = kind(is_movable=True)
    read(session, frame(TEXT, b"x" * 60))
    for limits, more in (
        (SessionLimits(message_bytes=100), b"x" * 41),
        (SessionLimits(fragments=1), b"x"),
    ):
        received, _ = read(move(session, PLAIN, limits, to=other), frame(FIN, more))
        assert isinstance(received[0], Closed)
    received, _ = read(
        move(session, PLAIN, SessionLimits(message_bytes=100), to=other), frame(FIN, b"y")
    )
    assert received == ["x" * 60 + "y"]


@ROUTES
def test_lower_limits_over_there_refuse_what_has_come_already(kind, other):
    session = kind(is_movable=True)
    read(session, frame(TEXT, b"x" * 60))
    if (kind, other) == (WebSocketSession, WebSocketSession):
        with pytest.raises(FrameError, match="too big") as raised:
            move(session, PLAIN, SessionLimits(message_bytes=50))
        assert raised.value.code == 1009
        return
    # What wsproto has, or is to have, is read again: that tells.
    successor = move(session, PLAIN, SessionLimits(message_bytes=50), to=other)
    assert successor.has_unread_frames
    ((closed,), _) = read(successor, b"")
    assert (closed.code, closed.reason) == (1009, "the message is too big")


@SESSIONS
def test_what_is_kept_of_a_message_in_part_is_no_more_than_came_of_it(kind):
    """Control frames between its fragments, which nothing counts, are not kept."""
    session = kind(is_movable=True)
    read(session, frame(TEXT, b"x" * 60))
    for number in range(100):
        read(session, frame(FIN | PING, b"%d" % number) + frame(FIN | PONG))
    state = session.export()
    partial = len(state.partial.payload) if state.partial is not None else 0
    assert len(state.unread) + partial < 80


@SESSIONS
def test_a_window_is_not_that_of_the_message_in_part(kind):
    client = Client(WITH_TAKEOVER)
    session = kind(None, WITH_TAKEOVER, is_movable=True)
    read(session, client.frames(Sent("first " * 10, is_compressed=True)))
    read(session, client.frames(Sent("second " * 10, (5,), is_compressed=True))[:-3])
    assert session.export().window == b"first " * 10


@ROUTES
def test_half_a_character_is_no_fault(kind, other):
    session = kind(is_movable=True)
    read(session, frame(TEXT, "grü".encode()[:3]))
    assert read(move(session, PLAIN, to=other), frame(FIN, "ü".encode()[1:]))[0] == ["grü"]


@ROUTES
def test_half_a_character_is_not_forgotten(kind, other):
    session = kind(is_movable=True)
    read(session, frame(TEXT, "grü".encode()[:3]))
    (closed,), _ = read(move(session, PLAIN, to=other), frame(0, b"a"))
    assert closed.code == 1007


@given(
    st.builds(
        DeflateParameters,
        server_no_context_takeover=st.booleans(),
        client_no_context_takeover=st.booleans(),
        server_max_window_bits=st.integers(9, 15),
        client_max_window_bits=st.integers(8, 15),
    )
)
def test_our_own_answer_tells_what_was_agreed_on(deflate):
    assert move(WebSocketSession(None, deflate, is_movable=True), deflate)


@given(st.binary(max_size=200), st.binary(max_size=50))
@example(b"", b"")
def test_a_copied_inflater_goes_on_by_itself(one, other):
    deflater = zlib.compressobj(wbits=-15)
    first, second = (
        deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH) for data in (one, one + other)
    )
    inflater = Inflater(15, resets=False)
    assert inflater.finish(first[:-4], 1000) == one
    twin = inflater.copy()
    assert twin.finish(second[:-4], 1000) == inflater.finish(second[:-4], 1000) == one + other
    assert twin.window() == inflater.window()


@given(
    st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=20)), max_size=5).map(tuple),
    st.one_of(st.none(), st.floats(0, 1e9)),
    st.one_of(st.none(), st.text("0a-", max_size=9)),
    st.binary(max_size=100),
    st.sampled_from([b"/", b"/a%20b?x=1&y", b"//x?"]),
)
def test_a_parcel_gives_back_what_was_packed(waiting, ping_at, request_id, app_state, target):
    head = read_head(read_request_line(b"GET %b HTTP/1.1" % target), list(HEADERS))
    continuation = Continuation(SessionState(b"u"), queued(waiting), ping_at, 17, 18, request_id)
    parcel = pack(FACTS, head, continuation, subprotocol="chat", deflate=None, app_state=app_state)
    resumption = Resumption(decode_parcel(encode_parcel(parcel)))
    assert resumption.continuation == continuation
    assert resumption.continuation.messages() == list(waiting)
    assert resumption.facts == FACTS
    assert resumption.subprotocol == "chat"
    assert resumption.app_state == app_state
    assert resumption.head.headers == HEADERS
    assert resumption.head.is_websocket
    assert (resumption.head.path, resumption.head.query_string) == (head.path, head.query_string)


@pytest.mark.parametrize(
    "changed",
    [
        {"session": b"nonsense"},
        {"session": b""},
        {"target": b"no path"},
        {"headers": ()},
        {"headers": tuple(HEADERS[:-1])},
        {"extensions": "permessage-of-tomorrow"},
        {"extensions": ";"},
    ],
)
def test_a_parcel_of_another_kind_is_refused(changed):
    head = read_head(read_request_line(b"GET / HTTP/1.1"), list(HEADERS))
    parcel = pack(
        FACTS, head, Continuation(SessionState()), subprotocol=None, deflate=None, app_state=b""
    )
    fields = {name: getattr(parcel, name) for name in parcel.__struct_fields__}
    Resumption(parcel)
    with pytest.raises(ParcelError):
        Resumption(type(parcel)(**{**fields, **changed}))
