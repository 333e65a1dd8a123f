"""The table of states and events of one WebSocket."""

from itertools import product

import pytest

from asgireload.websocket.states import (
    TRANSITIONS,
    WebSocketEvent,
    WebSocketState,
    is_before_open,
    next_state,
)


@pytest.mark.parametrize("state", WebSocketState)
def test_every_state_ends_when_the_socket_is_closed(state: WebSocketState) -> None:
    assert next_state(state, WebSocketEvent.LOSE) is WebSocketState.CLOSED


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in product(WebSocketState, WebSocketEvent) if pair not in TRANSITIONS],
)
def test_an_event_without_an_entry_names_itself_and_the_state(
    state: WebSocketState, event: WebSocketEvent
) -> None:
    with pytest.raises(AssertionError, match=rf"\b{state.name}\b.*\b{event.name}\b"):
        next_state(state, event)


def test_every_state_can_be_reached_from_one_in_which_a_connection_begins() -> None:
    reached = {WebSocketState.CONNECTING, WebSocketState.RESUMING}
    while (
        more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached
    ):
        reached |= more
    assert reached == set(WebSocketState)


def test_no_frame_is_expected_of_a_socket_that_is_not_open_yet() -> None:
    before_open = {state for state in WebSocketState if is_before_open(state)}
    events = {event for state, event in TRANSITIONS if state in before_open}
    assert WebSocketEvent.RECEIVE_CLOSE not in events
    assert before_open == {
        WebSocketState.CONNECTING,
        WebSocketState.DENYING,
        WebSocketState.RESUMING,
    }


def test_a_close_frame_is_taken_whatever_the_open_connection_does() -> None:
    """It may have waited for room in the queue, while the connection began to leave or was lost."""
    for state in set(WebSocketState) - {WebSocketState.REFUSED}:
        if not is_before_open(state):
            assert (state, WebSocketEvent.RECEIVE_CLOSE) in TRANSITIONS
