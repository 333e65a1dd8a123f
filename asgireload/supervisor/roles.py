"""The roles of supervised processes: one row for each, with what the supervisor's code needs to know of it.

Decisions (`reconcile`, `observe`, `transitions`) and handles use the fields of a role, not its name, so a new kind
of child needs a row here and the code that is specific to it.
"""

from enum import Enum

import msgspec


class BegunFrom(Enum):
    """What a process is started or forked from."""

    INTERPRETER = "a fresh interpreter, or a fork source"
    TEMPLATE = "a fork of the template of its generation"
    FORK_SOURCE = "a fork of a process that has imported a part of what a template needs"
    IMPORT = "a fork that a template makes of itself in the middle of its import"


class Role(msgspec.Struct, frozen=True):
    """The properties of one kind of child. Times in seconds."""

    name: str
    """The name in logs, status, metrics, messages and fault files."""
    begun_from: BegunFrom
    has_places: bool = False
    """Children of this role have stable places, 0 to n - 1. A place is filled again when its child is gone."""
    drains: bool = False
    """A child of this role is told to drain by a message. Other roles end when their channel is closed."""
    end_timeout: float | None = None
    """Time to end after the channel was closed. None for a role that drains: the options define its time."""
    serves: bool = False
    """A ready child of this role accepts connections. Without one the server is out of service."""
    has_heartbeat: bool = False
    """A child of this role has a scoreboard record with its last heartbeat."""
    imports_first: bool = False
    """A child of this role imports the application, which may start processes. They end with a killed child."""
    log_prefix: str = ""
    """Prefix of the place in log lines about a child."""

    @property
    def title(self) -> str:
        """The name, capitalized as the first word of a sentence."""
        return self.name.capitalize()


TEMPLATE_END_TIMEOUT = 8.0
"""Time for the exit handlers of the application, which a template limits to 5 s itself, and a second for processes
that its import has started."""

TEMPLATE = Role(
    "template", BegunFrom.INTERPRETER, end_timeout=TEMPLATE_END_TIMEOUT, imports_first=True
)
WORKER = Role(
    "worker",
    BegunFrom.TEMPLATE,
    has_places=True,
    drains=True,
    serves=True,
    has_heartbeat=True,
    log_prefix="w",
)

# Development. These processes hold imported modules for the next template; they are killed, never drained.
FORK_SOURCE = Role("fork source", BegunFrom.INTERPRETER)
IMPORT_CHECKPOINT = Role("import checkpoint", BegunFrom.IMPORT)
STANDBY_TEMPLATE = Role("standby template", BegunFrom.FORK_SOURCE)

ROLES = (TEMPLATE, WORKER, FORK_SOURCE, IMPORT_CHECKPOINT, STANDBY_TEMPLATE)
