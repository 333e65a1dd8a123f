"""The table of what a connection does: every event has its entry or is refused, and every path ends."""

import pytest

from asgireload.http1.connection_state import (
    TRANSITIONS,
    ConnectionEvent,
    ConnectionState,
    next_state,
)


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("event", ConnectionEvent)
def test_an_event_leads_where_the_table_says_or_raises_with_both_names(
    state: ConnectionState, event: ConnectionEvent
) -> None:
    expected = TRANSITIONS[state].get(event)
    if expected is not None:
        assert next_state(state, event) is expected
    else:
        with pytest.raises(AssertionError, match=f"{state.name} .*{event.name}"):
            next_state(state, event)


def test_a_connection_can_end_in_every_state() -> None:
    """Also as upgraded: the socket may be lost before the WebSocket connection has it."""
    for state in ConnectionState:
        assert next_state(state, ConnectionEvent.END) is ConnectionState.CLOSING


def test_every_state_is_reached_and_a_request_comes_only_between_two() -> None:
    reached = {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached | {ConnectionState.SILENT} == set(ConnectionState)
    begins = {state for state, row in TRANSITIONS.items() if ConnectionEvent.REQUEST in row}
    assert begins == {ConnectionState.SILENT, ConnectionState.IDLE, ConnectionState.HEAD}
