"""The states of a child as the supervisor sees them: one table for every role.

    STARTING ──started──▶ BOOTING ──ready──▶ READY ──drain──▶ DRAINING ──exited──▶ GONE
        │                    │                 │                 │
        └────────────────────┴──────kill───────┴─────────────────┴──▶ DYING ──exited──▶ GONE

STARTING: the process was requested and its pid is not known yet. BOOTING: the process runs; a worker starts the
application, a template imports it. READY: a worker accepts connections, a template can fork. DRAINING: the child
was told to leave; a worker finishes what is open, a template removes what its import has created. DYING: the child
was sent SIGABRT or SIGKILL. GONE: its exit was collected.

An exit is possible in every state. A change without an entry is a bug in the supervisor and raises.
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
        """Whether the child serves its purpose or is booting."""
        return self in (State.STARTING, State.BOOTING, State.READY)

    @property
    def is_booting(self) -> bool:
        """Whether the child has been requested and is not ready yet."""
        return self in (State.STARTING, State.BOOTING)


class Change(Enum):
    STARTED = "started"
    READY = "ready"
    DRAIN = "drain"
    KILL = "kill"
    TURNED = "turned"
    """Its process becomes another child: in development a template becomes the only worker."""
    EXITED = "exited"


TRANSITIONS: dict[tuple[State, Change], State] = {
    (State.STARTING, Change.STARTED): State.BOOTING,
    (State.STARTING, Change.KILL): State.DYING,
    # A template whose fork source may be at fault is started once more, in a fresh interpreter.
    (State.BOOTING, Change.STARTED): State.BOOTING,
    (State.BOOTING, Change.READY): State.READY,
    (State.BOOTING, Change.KILL): State.DYING,
    # A template whose import failed ends by itself, even one that was not started.
    (State.BOOTING, Change.DRAIN): State.DRAINING,
    (State.STARTING, Change.DRAIN): State.DRAINING,
    (State.READY, Change.DRAIN): State.DRAINING,
    (State.READY, Change.KILL): State.DYING,
    (State.READY, Change.TURNED): State.GONE,
    (State.DRAINING, Change.KILL): State.DYING,
    # These messages were under way when the signal was sent.
    (State.DYING, Change.STARTED): State.DYING,
    (State.DYING, Change.READY): State.DYING,
    # SIGKILL follows a SIGABRT that asked for a dump of the stacks.
    (State.DYING, Change.KILL): State.DYING,
    **{(state, Change.EXITED): State.GONE for state in State if state is not State.GONE},
}


def advance(role: Role, state: State, change: Change) -> State:
    """Return the state after `change`. Raise ValueError, naming role, state and change, when there is no entry."""
    try:
        return TRANSITIONS[state, change]
    except KeyError:
        raise ValueError(
            f"a {role.name} that is {state.value} cannot see {change.value!r}"
        ) from None
