"""The first template, started while the command line is still being read.

The template needs as long as the supervisor to import asgireload, and needs no configuration for that. So both
processes import side by side, and the template imports the application while the supervisor imports its event loop.
A program that has just started forks the template, which saves the start of an interpreter. Until the template is
taken the program collects no garbage, because the modules that both import stay for good.

    begin() ──▶ request() ──▶ take()      it becomes the supervisor's first template
       └───────────┴────────▶ end()       it is not used

This module imports little, because the process can start only after its imports.
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
    """A started template, and the supervisor's end of its channel."""

    pid: int
    socket: socket.socket
    request: "LoadApp | None" = None
    """The load request that was sent to it, if any."""
    fault_file: int = -1
    """The descriptor of its fault file if a request was sent, else -1; the owner closes it."""


class EarlyTemplate:
    """Holds at most one process. Call `begin()` early, and always `end()`, which does nothing after `take()`."""

    def __init__(
        self,
        spawn: Callable[[str, int], int] = spawn,
        fork: Callable[[str, int, Callable[[], None]], int] = fork,
    ) -> None:
        """`spawn` and `fork` start a process; see `spawning.py`."""
        self._spawn = spawn
        self._fork = fork
        self._begun: Begun | None = None
        self._puts_off_collection = False

    def begin(self, *, is_program: bool = False) -> None:
        """Start the process. On failure nothing is started; the supervisor then reports the reason.

        `is_program`: this process has done nothing but call asgireload. Then the child may raise SystemExit, which
        the caller must not catch, and has the garbage collector off.
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
            # The child closes this descriptor by its number, which may belong to another file later.
            theirs.detach()
            # `end()` is called in the child when it exits; by then the child controls its collector itself.
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
        """Tell the process what to load, and pass it the descriptor of the scoreboard. On failure the process is
        ended."""
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
            # It is dead, or no descriptors are left. The supervisor starts another one, or reports why not.
            self.end()
            return
        self._begun = self._begun._replace(request=request)

    def take(self, request: "LoadApp") -> Begun | None:
        """Return the started process, which the caller now owns; once.

        Return None if there is none, or if it was told to load anything but `request`; then it was ended.
        """
        self._collect()
        if self._begun is not None and self._begun.request not in (None, request):
            self.end()
        begun, self._begun = self._begun, None
        return begun

    def end(self) -> None:
        """Kill and collect a process that was not taken."""
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
        """Turn garbage collection on again, only for objects that are created from now on."""
        if self._puts_off_collection:
            self._puts_off_collection = False
            gc.freeze()
            gc.enable()
