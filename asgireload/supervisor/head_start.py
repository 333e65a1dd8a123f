"""A template that starts while the command line is still read.

Its interpreter takes as long to start and to import our code as ours does, and needs to know nothing for that.
So both go side by side, and the first template of a server has the processor to itself when its order comes.
This file imports little: whatever it needs is waited for before the process can start.
"""

import os
import signal
import socket
from typing import NamedTuple

from asgireload.supervisor.spawning import TEMPLATE_MODULE, spawn


class Begun(NamedTuple):
    """A template without an order, and our end of its channel."""

    pid: int
    socket: socket.socket


class HeadStart:
    """Holds at most one process. `begin()` it early; `end()` it always, which is nothing where it was taken."""

    def __init__(self) -> None:
        self._begun: Begun | None = None

    def begin(self) -> None:
        """Start the process. Where none can be had nothing is begun, and the supervisor will say why."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with theirs:
            try:
                self._begun = Begun(spawn(TEMPLATE_MODULE, theirs.fileno()), ours)
            except OSError:
                ours.close()

    def take(self) -> Begun | None:
        """Return what was begun, which the caller now owns; once."""
        begun, self._begun = self._begun, None
        return begun

    def end(self) -> None:
        """Kill and collect a process that nobody has taken."""
        begun = self.take()
        if begun is not None:
            begun.socket.close()
            os.kill(begun.pid, signal.SIGKILL)
            os.waitpid(begun.pid, 0)
