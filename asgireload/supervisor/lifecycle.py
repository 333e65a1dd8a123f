"""The life of a child as the supervisor sees it: one table for every role.

    STARTING ──started──▶ BOOTING ──ready──▶ READY ──drain──▶ DRAINING ──exited──▶ GONE
        │                    │                 │                 │
        └────────────────────┴──────kill───────┴─────────────────┴──▶ DYING ──exited──▶ GONE

STARTING: the process was asked for and its pid is not known yet. BOOTING: it runs. A worker starts the application,
a template imports it. READY: a worker accepts connections, a template can fork. DRAINING: it was let go. A worker
finishes what is open, a template removes what its import has made. DYING: it was sent a signal that it cannot
refuse. GONE: its exit was collected.

An exit is possible in every state. A change without an entry is an error of ours and raises.
"""

from enum import Enum

from asgireload.supervisor.roles import Role


class State(Enum):
    STARTING = "starting"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    DYING = "dying"
    GONE = "gone"

    @property
    def is_live(self) -> bool:
        """It serves its purpose, or is on its way to."""
        return self in (State.STARTING, State.BOOTING, State.READY)

    @property
    def is_booting(self) -> bool:
        """It is on its way to be ready."""
        return self in (State.STARTING, State.BOOTING)


class Change(Enum):
    STARTED = "started"
    READY = "ready"
    DRAIN = "drain"
    KILL = "kill"
    TURNED = "turned"
    """Its process goes on as another child: in development a template becomes the only worker."""
    EXITED = "exited"


TRANSITIONS: dict[tuple[State, Change], State] = {
    (State.STARTING, Change.STARTED): State.BOOTING,
    (State.STARTING, Change.KILL): State.DYING,
    # A template that was forked from a process at fault is started once more, in a fresh interpreter.
    (State.BOOTING, Change.STARTED): State.BOOTING,
    (State.BOOTING, Change.READY): State.READY,
    (State.BOOTING, Change.KILL): State.DYING,
    # A template whose import failed ends by itself, as does one that could not even be started.
    (State.BOOTING, Change.DRAIN): State.DRAINING,
    (State.STARTING, Change.DRAIN): State.DRAINING,
    (State.READY, Change.DRAIN): State.DRAINING,
    (State.READY, Change.KILL): State.DYING,
    (State.READY, Change.TURNED): State.GONE,
    (State.DRAINING, Change.KILL): State.DYING,
    # Messages that were on their way when the signal was sent.
    (State.DYING, Change.STARTED): State.DYING,
    (State.DYING, Change.READY): State.DYING,
    # A second signal: the first asked for a stack dump, this one does not ask.
    (State.DYING, Change.KILL): State.DYING,
    **{(state, Change.EXITED): State.GONE for state in State if state is not State.GONE},
}


def advance(role: Role, state: State, change: Change) -> State:
    """Return the state after `change`. Raise ValueError, naming all three, when the table has no entry."""
    try:
        return TRANSITIONS[state, change]
    except KeyError:
        raise ValueError(
            f"a {role.name} that is {state.value} cannot see {change.value!r}"
        ) from None
