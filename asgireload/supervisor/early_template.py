"""The first template, started while the command line is still read.

It takes as long to import our code as the supervisor does, and needs to know nothing for that. So both go side
by side, and it imports the application while the supervisor imports its event loop. A program that has
just begun forks it, which spares it the start of an interpreter, and collects no garbage until then: what both
import stays for good.

    begin() ──▶ request() ──▶ take()      the supervisor's first template
       └───────────┴────────▶ end()       nobody's

This file imports little: whatever it needs is waited for before the process can start.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from asgireload.supervisor.spawning import TEMPLATE_MODULE, can_fork, fork, spawn

if TYPE_CHECKING:
    from asgireload.ipc.messages import LoadApp


class Begun(NamedTuple):
    """A template, and our end of its channel."""

    pid: int
    socket: socket.socket
    request: "LoadApp | None" = None
    """What it was told to load, if it was told."""
    fault_file: int = -1
    """Where it writes its stacks to if it was told, else -1; the owner's to close."""


class EarlyTemplate:
    """Holds at most one process. `begin()` it early; `end()` it always, which is nothing where it was taken."""

    def __init__(
        self,
        spawn: Callable[[str, int], int] = spawn,
        fork: Callable[[str, int, Callable[[], None]], int] = fork,
    ) -> None:
        """Both start a process; see `spawning.py`."""
        self._spawn = spawn
        self._fork = fork
        self._begun: Begun | None = None
        self._puts_off_collection = False

    def begin(self, *, is_program: bool = False) -> None:
        """Start the process. Where none can be had nothing is begun, and the supervisor will say why.

        `is_program`: this process has done nothing but to call us. The child may raise SystemExit then, for
        the caller to let through, and has the garbage collector off.
        """
        if is_program and gc.isenabled():
            self._puts_off_collection = True
            gc.disable()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return

        def let_go() -> None:
            ours.close()
            # The child closes it by its number, which is another file's from then on.
            theirs.detach()
            # It comes by `end()` when it is over, and has a collector of its own by then.
            self._puts_off_collection = False

        with theirs:
            try:
                if is_program and can_fork():
                    child = self._fork(TEMPLATE_MODULE, theirs.fileno(), let_go)
                else:
                    child = self._spawn(TEMPLATE_MODULE, theirs.fileno())
                self._begun = Begun(child, ours)
            except OSError:
                ours.close()

    def request(self, request: "LoadApp", scoreboard: int) -> None:
        """Tell it what to load, and give it the descriptor of the scoreboard. Where that cannot be done
        there is no early template."""
        from asgireload.errors import ChannelClosedError
        from asgireload.ipc.channel import Channel
        from asgireload.supervisor.fault import make_fault_file

        if self._begun is None:
            return
        try:
            fault_file = make_fault_file("template")
            self._begun = self._begun._replace(fault_file=fault_file)
            Channel(self._begun.socket).send(request, [scoreboard, fault_file])
        except (ChannelClosedError, OSError):
            # It is dead, or there are no descriptors. The supervisor starts another one, or says why not.
            self.end()
            return
        self._begun = self._begun._replace(request=request)

    def take(self, request: "LoadApp") -> Begun | None:
        """Return what was begun, which the caller now owns; once.

        None where there is none, and where it loads something else than `request`: then it has ended.
        """
        self._collect()
        if self._begun is not None and self._begun.request not in (None, request):
            self.end()
        begun, self._begun = self._begun, None
        return begun

    def end(self) -> None:
        """Kill and collect a process that nobody has taken."""
        self._collect()
        begun, self._begun = self._begun, None
        if begun is None:
            return
        begun.socket.close()
        if begun.fault_file != -1:
            os.close(begun.fault_file)
        os.kill(begun.pid, signal.SIGKILL)
        os.waitpid(begun.pid, 0)

    def _collect(self) -> None:
        """Have garbage collected from now on, and only what is made from now on."""
        if self._puts_off_collection:
            self._puts_off_collection = False
            gc.freeze()
            gc.enable()
