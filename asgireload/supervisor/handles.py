"""The supervisor's handles on its processes, whatever their role: one registry, and one way to start, signal and
collect them and to receive their messages.

What is specific to a role, such as the handling of its messages, is in a subclass of `Handle`: `worker_handles.py`,
`template_handles.py`, and for `--reload` `development/supervisor/fork_source_processes.py`. Nothing here decides or
waits for a child.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AnyMessage, ChildStarted
from asgireload.supervisor.cpu_priority import CpuPriority
from asgireload.supervisor.events import ChildExited, ChildSaid, Event
from asgireload.supervisor.leftovers import Leftovers
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.out_of_memory import OutOfMemory
from asgireload.supervisor.roles import Role
from asgireload.supervisor.spawning import describe_exit
from asgireload.supervisor.system import Process, System

NOT_STARTED = "it was not started"
SILENT_END = "it ended before it could report"

_logger = logging.getLogger("asgireload.error")


class Ends(NamedTuple):
    """What is opened for a child before its process exists."""

    channel: Channel
    theirs: socket.socket
    """The child's end of the channel. The caller of `Handles.open` passes it on and closes it."""
    fault_file: int | None
    """The descriptor of the file to which the child writes its stacks when it crashes."""


class Handle:
    """A handle on one process. The registry closes the channel and the descriptors when the process is gone."""

    def __init__(
        self,
        role: Role,
        child_id: int | None,
        channel: Channel,
        *,
        inode: int | None = None,
        fault_file: int | None = None,
    ) -> None:
        """`child_id` is None for a process that the decisions do not track. `inode` is the inode of the child's end
        of the channel."""
        self.role = role
        self.child_id = child_id
        self.channel = channel
        self.inode = inode
        self.fault_file = fault_file
        self.process: Process | None = None
        """None until the pid is known."""
        self.state = State.STARTING

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def is_killed(self) -> bool:
        return self.state is State.DYING

    def advance(self, change: Change) -> None:
        self.state = advance(self.role, self.state, change)

    def hear(self, message: AnyMessage, descriptors: list[int]) -> ChildSaid | None:
        """Do what the message asks of the parent; return the event for the decisions, or None."""
        raise NotImplementedError

    def begin_again(self) -> bool:
        """Called when the process has ended. Return whether another process has taken its place."""
        return False

    def give_back(self, description: str, *, clean: bool) -> None:
        """Called when the process is gone: release what is specific to the role.

        `description` is how the process ended; `clean` is whether its exit status was 0.
        """


def inode_of(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


class Handles:
    """The registry of all processes of this supervisor. `on_event` is called in the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        system: System,
        cpu_priority: CpuPriority,
        on_event: Callable[[Event], None],
    ) -> None:
        self.loop = loop
        self.system = system
        self.cpu_priority = cpu_priority
        self._on_event = on_event
        self._all: dict[Handle, None] = {}
        self._by_id: dict[int, Handle] = {}
        self._leftovers = Leftovers(loop, system)
        self._out_of_memory = OutOfMemory(system.out_of_memory_kills())
        self._collected = asyncio.Event()

    def get(self, child_id: int) -> Handle | None:
        return self._by_id.get(child_id)

    def all(self) -> list[Handle]:
        return list(self._all)

    def holds(self, handle: Handle) -> bool:
        """Return whether the handle is registered: its process has not been collected."""
        return handle in self._all

    def pids(self) -> set[int]:
        """Return the pids of all processes whose pid is known."""
        return {handle.pid for handle in self._all if handle.pid is not None}

    # --- start ------------------------------------------------------------------------------------

    def open(self, role: Role) -> Ends:
        """Open what a child of this role needs. Raise OSError, with nothing left open."""
        with contextlib.ExitStack() as opened:
            fault_file = self.system.make_fault_file(role.name)
            opened.callback(os.close, fault_file)
            ours, theirs = self.system.socket_pair()
            opened.pop_all()
        return Ends(Channel(ours), theirs, fault_file)

    def add(self, handle: Handle) -> None:
        """Register the handle and begin to read its channel."""
        self._all[handle] = None
        if handle.child_id is not None:
            self._by_id[handle.child_id] = handle
        self.attach(handle)

    def attach(self, handle: Handle) -> None:
        """Begin to read the channel of a handle. Call this again after the channel was replaced."""
        channel = handle.channel
        channel.attach(
            self.loop,
            lambda message, descriptors: self._said(handle, message, descriptors),
            lambda: self._closed(handle, channel),
        )

    def set_process(self, handle: Handle, process: Process) -> None:
        """Record a process whose pid is known without a ChildStarted message."""
        handle.process = process
        handle.advance(Change.STARTED)
        if handle.child_id is not None:
            self.report(ChildSaid(handle.child_id, ChildStarted(process.pid)))

    def report(self, event: Event) -> None:
        """Deliver an event to the decisions after the step that is being carried out."""
        self.loop.call_soon(self._on_event, event)

    def report_not_started(self, child_id: int, error: OSError | str) -> None:
        self.report(ChildExited(child_id, f"could not be started: {error}"))

    # --- messages ---------------------------------------------------------------------------------

    def post(self, child_id: int, message: AnyMessage) -> None:
        """Send a message without descriptors to a child. Nothing happens when the child is gone."""
        handle = self._by_id.get(child_id)
        if handle is not None:
            handle.channel.post(message)

    def _said(self, handle: Handle, message: AnyMessage, descriptors: list[int]) -> None:
        if isinstance(message, ChildStarted):
            if handle.process is None:
                try:
                    handle.process = self.system.open_process(message.pid)
                except OSError as error:
                    # A process without a handle cannot be signalled or watched. It ends when its channel is closed.
                    self._end(handle, f"could not be started: {error}")
                    return
            handle.advance(Change.STARTED)
        event = handle.hear(message, descriptors)
        if event is not None:
            self._on_event(event)

    def _closed(self, handle: Handle, channel: Channel) -> None:
        """Handle end of file. A process with a known pid is handled when its exit is collected, with its status."""
        if handle.process is not None or not self.holds(handle) or handle.channel is not channel:
            return
        if not handle.begin_again():
            self._end(handle, SILENT_END)

    # --- signal -----------------------------------------------------------------------------------

    def kill_child(self, child_id: int, *, dump: bool = False) -> None:
        """Kill a child by its id; see `kill`. Nothing happens when the child is gone."""
        handle = self._by_id.get(child_id)
        if handle is not None:
            self.kill(handle, dump=dump)

    def kill(self, handle: Handle, *, dump: bool = False) -> None:
        """Send SIGKILL, or SIGABRT to get the stacks of the process first. A process that is gone is ignored."""
        if not self.holds(handle):
            return
        if handle.process is None:
            handle.channel.deliver()  # the message with the pid may be unread
            if not self.holds(handle):
                return
        handle.advance(Change.KILL)
        if handle.process is not None:
            # A process needs CPU time even to die.
            self.cpu_priority.restore(handle.process.pid)
            if handle.role.imports_first:
                self._leftovers.end_below(handle.process.pid)
            handle.process.send(signal.SIGABRT if dump else signal.SIGKILL)
        else:
            # Not forked yet, or it ends when it cannot send its pid, unless it hangs before that.
            handle.channel.close()
            self.loop.call_soon(self._end_silent, handle)

    def _end_silent(self, handle: Handle) -> None:
        if self.holds(handle):
            self._end(handle, NOT_STARTED)

    def let_go(self, child_id: int) -> None:
        """Close the channel of a child, which then cleans up and exits. A child that is gone is ignored."""
        handle = self._by_id.get(child_id)
        if handle is None:
            return
        if handle.process is None:
            self.kill(handle)
            return
        handle.advance(Change.DRAIN)
        self.cpu_priority.restore(handle.process.pid)
        handle.channel.close()

    def renew(self, handle: Handle, ends: Ends) -> None:
        """Reset a handle for another process, with new ends. Its present process, if any, is killed."""
        self._close(handle)
        handle.process = None
        handle.state = State.STARTING
        handle.channel, handle.fault_file = ends.channel, ends.fault_file
        handle.inode = inode_of(ends.theirs)
        self.attach(handle)

    def move_process(self, source: Handle, target: Handle) -> None:
        """Move the process of `source` to `target`, and remove `source`."""
        target.process, source.process = source.process, None
        source.advance(Change.TURNED)
        self._forget(source)
        self._close(source)
        source.give_back("it goes on in another role", clean=True)

    def release(self, handle: Handle) -> None:
        """Remove a handle; the caller takes over its channel and process."""
        self._forget(handle)

    def drop(self, handle: Handle) -> None:
        """Remove a handle whose process was not started, and close its descriptors."""
        self._forget(handle)
        self._close(handle)

    def _forget(self, handle: Handle) -> None:
        del self._all[handle]
        if handle.child_id is not None:
            del self._by_id[handle.child_id]

    def _close(self, handle: Handle) -> None:
        handle.channel.close()
        if handle.process is not None:
            self._leftovers.end_below(handle.process.pid)
            handle.process.send(signal.SIGKILL)
            handle.process.close()
        if handle.fault_file is not None:
            os.close(handle.fault_file)

    def end_leftovers(self) -> None:
        """Kill the processes that killed children have left behind."""
        self._leftovers.end(self.pids())

    # --- collect ----------------------------------------------------------------------------------

    def reap(self) -> None:
        """Collect every child that has ended. For pid 1 or a subreaper these include processes it did not start."""
        while (pid := self.system.find_exited()) is not None:
            for handle in self.all():
                if handle.process is None:
                    handle.channel.deliver()
            self.cpu_priority.forget(pid)
            self._collect(pid, self.system.collect(pid))

    def _collect(self, pid: int, code: int) -> None:
        handle = next((known for known in self._all if known.pid == pid), None)
        if handle is None:
            _logger.debug("Collected process %d, not one of ours (%s)", pid, describe_exit(code))
            return
        handle.channel.deliver()
        if not self.holds(handle) or handle.pid != pid or handle.begin_again():
            return  # another process has taken its place
        self._end(handle, self._describe_exit(handle, code), clean=code == 0)

    def _end(self, handle: Handle, description: str, *, clean: bool = False) -> None:
        self._forget(handle)
        handle.channel.close()
        if handle.process is not None:
            handle.process.close()
            self._leftovers.look(self.pids())
        elif handle.inode is not None:
            # The process ends before it serves, unless it hangs in a hook of the fork.
            self._leftovers.end_holder(handle.inode, self.pids())
        handle.give_back(description, clean=clean)
        handle.advance(Change.EXITED)
        fault, doing = "", ""
        if handle.fault_file is not None:
            fault, doing = self.system.read_fault_file(handle.fault_file)
        self._collected.set()
        if handle.child_id is not None:
            self._on_event(ChildExited(handle.child_id, description, clean, fault, doing))

    def _describe_exit(self, handle: Handle, code: int) -> str:
        """Return how a process ended, with the likely cause of a SIGKILL that the supervisor did not send."""
        description = describe_exit(code)
        if code == -signal.SIGKILL and not handle.is_killed:
            kills = self.system.out_of_memory_kills()
            cause = self._out_of_memory.explain(kills, self.system.clock())
            if cause:
                return f"{description}, {cause}"
        return description

    async def wait_collected(self, is_awaited: Callable[[Handle], bool], timeout: float) -> None:
        """Return when `is_awaited` is true for no registered handle, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(is_awaited(handle) for handle in self._all):
                    self._collected.clear()
                    await self._collected.wait()
