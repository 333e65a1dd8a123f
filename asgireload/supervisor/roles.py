"""The roles of supervised processes: one row each, with what the supervisor's code asks of a role.

Decisions (`reconcile`, `observe`, `transitions`) and handles treat children by their row and not by its name, so a
new kind of child is a row here and whatever is truly its own.
"""

from enum import Enum

import msgspec


class BegunFrom(Enum):
    """What a process is begun from."""

    INTERPRETER = "a fresh interpreter, or a fork source"
    TEMPLATE = "a fork of the template of its generation"
    FORK_SOURCE = "a fork of a process that has imported a part of what a template needs"
    IMPORT = "a fork that a template makes of itself in the middle of its import"


class Role(msgspec.Struct, frozen=True):
    """What a child of one kind is like. Times in seconds."""

    name: str
    """As logs, status, metrics, messages and fault files write it."""
    begun_from: BegunFrom
    has_places: bool = False
    """Its children have stable places, 0 to n - 1. A place is filled again when its child is gone."""
    drains: bool = False
    """It is told to drain, by a message. A child of another role is let go by closing its channel, and ends."""
    end_timeout: float | None = None
    """How long it may take to end when it was let go; None: as long as a drain, by the options for it."""
    serves: bool = False
    """A ready child of this role accepts connections. Without one the server is out of service."""
    has_heartbeat: bool = False
    """It has a scoreboard record, which says when its loop last turned."""
    imports_first: bool = False
    """It imports the application, which may start processes. They end with it when it is killed."""
    log_prefix: str = ""
    """Before the number of its place, in log lines about it."""

    @property
    def title(self) -> str:
        """The name as the first word of a sentence."""
        return self.name.capitalize()


TEMPLATE_END_TIMEOUT = 8.0
"""Exit handlers of the application, which a template limits to 5 s itself, and a second for processes that its
import has started."""

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
