"""The life of a worker as the supervisor sees it: one table for every worker.

    STARTING ──started──▶ BOOTING ──ready──▶ READY ──drain──▶ DRAINING ──exited──▶ GONE
        │                    │                 │                 │
        └────────────────────┴──────kill───────┴─────────────────┴──▶ DYING ──exited──▶ GONE

STARTING: the fork was asked for and the worker has not spoken yet. BOOTING: it runs, and imports or
starts the application. READY: it accepts connections. DRAINING: it was told to leave and finishes what
is open. DYING: it was sent a signal that it cannot refuse. GONE: its exit was collected.

An exit is possible in every state. An event without an entry is a mistake of ours and raises.
"""

from enum import Enum


class State(Enum):
    STARTING = "starting"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    DYING = "dying"
    GONE = "gone"

    @property
    def is_live(self) -> bool:
        """It serves or is on its way to serve."""
        return self in (State.STARTING, State.BOOTING, State.READY)


class Change(Enum):
    STARTED = "started"
    READY = "ready"
    DRAIN = "drain"
    KILL = "kill"
    EXITED = "exited"


TRANSITIONS: dict[tuple[State, Change], State] = {
    (State.STARTING, Change.STARTED): State.BOOTING,
    (State.STARTING, Change.KILL): State.DYING,
    (State.BOOTING, Change.READY): State.READY,
    (State.BOOTING, Change.KILL): State.DYING,
    (State.READY, Change.DRAIN): State.DRAINING,
    (State.READY, Change.KILL): State.DYING,
    (State.DRAINING, Change.KILL): State.DYING,
    # Notices that were on their way when the signal was sent.
    (State.DYING, Change.STARTED): State.DYING,
    (State.DYING, Change.READY): State.DYING,
    # A second signal: the first asked for a stack dump, this one does not ask.
    (State.DYING, Change.KILL): State.DYING,
    **{(state, Change.EXITED): State.GONE for state in State if state is not State.GONE},
}


def advance(state: State, change: Change) -> State:
    """Return the state after `change`. Raise ValueError, naming both, where the table has no entry."""
    try:
        return TRANSITIONS[state, change]
    except KeyError:
        raise ValueError(f"a worker that is {state.value} cannot see {change.value!r}") from None
