"""Processes that a killed child leaves behind: those that its import has started, and forks that never sent a pid.

A template ends the processes that its import has started. A template that is killed cannot do that, and its
children become children of the supervisor (PR_SET_CHILD_SUBREAPER), as do forks that hang in a hook of
`os.register_at_fork` with all signals blocked and the listening sockets open. No other process would end them.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Collection

from asgireload.supervisor.system import Process, System

_logger = logging.getLogger("asgireload.error")

PATIENCE = 1.0
"""Seconds between SIGTERM and SIGKILL for processes that an import has started."""


class Leftovers:
    """Sends signals without waiting. `end()` kills the processes that remain."""

    def __init__(self, loop: asyncio.AbstractEventLoop, system: System) -> None:
        self._loop = loop
        self._system = system
        self._told: list[Process] = []
        """Processes that were sent SIGTERM."""
        self._timer: asyncio.TimerHandle | None = None
        self._nameless: set[int] = set()
        """Inodes of sockets, each held only by a process that is to be killed."""

    def end_below(self, pid: int) -> None:
        """Send SIGTERM to all descendants of a process that is about to be killed; kill them PATIENCE s later."""
        try:
            for descendant in self._system.descendants_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    handle = self._system.open_process(descendant)
                    handle.send(signal.SIGTERM)
                    self._told.append(handle)
        except OSError as error:  # no descriptor is left; the kill itself needs none
            _logger.warning("Processes that an import has started may be left: %s", error)
        if self._told and self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._kill)

    def end_holder(self, inode: int, known: Collection[int]) -> None:
        """Kill the process that holds the socket with this inode, now or when it becomes a child of the supervisor.

        `known` are the pids of children that have handles.
        """
        self._nameless.add(inode)
        self.look(known)

    def look(self, known: Collection[int]) -> None:
        """Kill children of the supervisor, except the `known` pids, that hold one of the recorded sockets."""
        if not self._nameless:
            return
        try:
            children = set(self._system.children())
        except OSError:
            return  # no descriptor is left; try again at the next call
        for pid in children.difference(known):
            if found := self._system.sockets_of(pid) & self._nameless:
                with contextlib.suppress(ProcessLookupError):
                    handle = self._system.open_process(pid)
                    handle.send(signal.SIGKILL)
                    handle.close()
                self._nameless -= found

    def end(self, known: Collection[int] = ()) -> None:
        """Kill the processes that remain."""
        self._kill()
        self.look(known)

    def _kill(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        told, self._told = self._told, []
        for handle in told:
            handle.send(signal.SIGKILL)
            handle.close()
