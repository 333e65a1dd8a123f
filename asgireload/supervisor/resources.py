"""What a supervisor works with: resources whose opening can fail, opened before the supervisor runs."""

from collections.abc import Mapping, Sequence

import msgspec

from asgireload.admin.entrances import AdminEntrance
from asgireload.ipc.scoreboard import Scoreboard
from asgireload.net.listeners import Listeners
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.pidfile import PidFile


class Resources(msgspec.Struct, frozen=True):
    """The resources of a supervisor. `start.open_resources` registers their closing; they may be closed earlier."""

    directory: str
    """The working directory as the user typed it."""
    certificates: Certificates
    listeners: Listeners
    entrances: Sequence[AdminEntrance]
    scoreboard: Scoreboard
    refused_calls: Mapping[str, str]
    """System calls for CPU priorities that must not be made, each with the reason."""
    pid_file: PidFile | None = None
