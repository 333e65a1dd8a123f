"""The supervisor's calls to the operating system: one value, which tests replace.

`LinuxSystem` is the only implementation; another platform needs another class beside it.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Protocol

from asgireload.ipc import linux
from asgireload.ipc.linux import ProcessHandle
from asgireload.supervisor.fault import Fault, make_fault_file, read_fault_file
from asgireload.supervisor.out_of_memory import read_counters
from asgireload.supervisor.spawning import leave_deleted_directory, spawn


class Process(Protocol):
    """A process that cannot be confused with a later one of the same pid. The owner calls `close()`."""

    @property
    def pid(self) -> int: ...

    def send(self, number: signal.Signals) -> None:
        """Send a signal. A process that has ended already is ignored."""

    def close(self) -> None:
        """Close the descriptor. Idempotent."""


class System(Protocol):
    """The operating system as the supervisor uses it."""

    def clock(self) -> float:
        """Return monotonic seconds."""

    def spawn(self, module: str, channel: int) -> Process:
        """Start an interpreter that runs `module` with one end of a channel. Raise OSError."""

    def open_process(self, pid: int) -> Process:
        """Return a handle. Raise ProcessLookupError for a missing process, OSError when no descriptor is left."""

    def socket_pair(self) -> tuple[socket.socket, socket.socket]:
        """Return a pair of sockets that keep message boundaries. Raise OSError."""

    def make_fault_file(self, role: str) -> int:
        """Return a descriptor of a file for the stacks of a child of this role. Raise OSError."""

    def read_fault_file(self, descriptor: int) -> Fault:
        """Return what a dead child left in its fault file, and close the descriptor."""

    def find_exited(self) -> int | None:
        """Return the pid of a child that has ended and is not yet collected; None when there is none."""

    def collect(self, pid: int) -> int:
        """Collect a child that has ended; return its exit status, or the negative number of a fatal signal."""

    def children(self) -> list[int]:
        """Return the pids of all children of this process. Raise OSError when no descriptor is left."""

    def descendants_of(self, pid: int) -> list[int]:
        """Return the pids of all descendants of a process. Raise OSError when no descriptor is left."""

    def sockets_of(self, pid: int) -> set[int]:
        """Return the inodes of the sockets that a process has open; empty when it has ended."""

    def resident_bytes(self, pid: int) -> int | None:
        """Return the resident memory of a process in bytes, None when it is gone."""

    def is_sleeping(self, pid: int) -> bool:
        """Return whether a process sleeps in the kernel, so that it uses no CPU."""

    def cpu_of(self, pid: int) -> int | None:
        """Return the index of the CPU on which a process runs or last ran; None when it is gone."""

    def can_lower_priority(self) -> bool:
        """Return whether the CPU priority of a child can be lowered and restored afterwards."""

    def lower_priority(self, pid: int) -> None:
        """Let a process, and what it starts, run only while no other process wants the CPU. Raise OSError."""

    def restore_priority(self, pid: int) -> None:
        """Give a process and its descendants the priority of this process. Raise OSError."""

    def out_of_memory_kills(self) -> Mapping[str, int]:
        """Return how many processes the kernel has killed for lack of memory, by the file with that count."""


class LinuxSystem:
    """`System` on Linux."""

    def clock(self) -> float:
        return time.monotonic()

    def spawn(self, module: str, channel: int) -> ProcessHandle:
        leave_deleted_directory()
        return ProcessHandle(spawn(module, channel))

    def open_process(self, pid: int) -> ProcessHandle:
        return ProcessHandle(pid)

    def socket_pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def make_fault_file(self, role: str) -> int:
        return make_fault_file(role)

    def read_fault_file(self, descriptor: int) -> Fault:
        return read_fault_file(descriptor)

    def find_exited(self) -> int | None:
        try:
            # WNOWAIT: a child whose first message is unread must not be reaped before its pid has become a
            # handle, so that no signal can reach another process with that pid.
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return seen.si_pid if seen is not None else None

    def collect(self, pid: int) -> int:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def children(self) -> list[int]:
        return linux.children_of(os.getpid())

    def descendants_of(self, pid: int) -> list[int]:
        return linux.descendants_of(pid)

    def sockets_of(self, pid: int) -> set[int]:
        found: set[int] = set()
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                link = os.readlink(f"/proc/{pid}/fd/{name}")
                if link.startswith("socket:["):
                    found.add(int(link[8:-1]))
        except OSError:
            return found
        return found

    def resident_bytes(self, pid: int) -> int | None:
        return linux.resident_bytes(pid)

    def is_sleeping(self, pid: int) -> bool:
        return linux.process_state(pid) == "S"

    def cpu_of(self, pid: int) -> int | None:
        return linux.processor_of(pid)

    def can_lower_priority(self) -> bool:
        return linux.can_give_way()

    def lower_priority(self, pid: int) -> None:
        linux.give_way(pid)

    def restore_priority(self, pid: int) -> None:
        linux.stop_giving_way(pid)

    def out_of_memory_kills(self) -> dict[str, int]:
        return read_counters()
