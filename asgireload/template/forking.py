"""Fork a process that becomes a child of the supervisor: a worker, or in development a template.

    template ──fork──▶ middle ──fork──▶ worker
                         └─ exits at once; the kernel gives the worker to the next subreaper, the supervisor

The middle process gets SIGKILL when its template dies: it may hang in a fork hook (debugpy's waits for the
debugger), and no other process knows its pid.

The child must not continue before the middle process has exited: PR_SET_PDEATHSIG fires when the current parent
dies, and the first parent of the child is the middle process. So the child waits at a gate, a pipe, which the
template opens when it has collected the middle process; the adoption is complete then.

Hooks of `os.register_at_fork` run once, around the fork that makes the worker. The middle process is made by
fork(3) of the C library: handlers of `pthread_atfork` run, Python's hooks do not. A hook that starts a thread or
counts its calls sees one fork, and its thread lives in the worker. When the template has a second thread, the first
fork is Python's, too: hooks may wait for that thread to release a lock or to end (ddtrace ends its native threads
before a fork), and the thread exists in the template only.

The caller runs no event loop, and has started no second thread.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
from enum import Enum

from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import signal_on_parent_death
from asgireload.ipc.messages import ForkTemplate
from asgireload.ipc.quiet_signals import keep_handlers
from asgireload.ipc.titles import set_title

_FORKED = struct.Struct("i")
"""The report of the middle process before it exits: 0, or the errno of the second fork."""


class Side(Enum):
    """The process in which `fork_adopted` returns."""

    PARENT = "parent"
    CHILD = "child"


def fork_adopted() -> Side:
    """Fork twice, and return `Side.PARENT` in the caller and `Side.CHILD` in the child.

    All signals are blocked in the child, which unblocks them after it has set its handlers. Raise OSError in the
    parent when the fork fails.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    gate, opener = os.pipe()
    report, reporter = os.pipe()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with keep_handlers():
        try:
            middle = _fork_middle()
        except OSError:
            for descriptor in (gate, opener, report, reporter):
                os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        if middle == 0:
            _be_middle(reporter, parent)
            # Only the child gets here.
            for descriptor in (opener, report, reporter):
                os.close(descriptor)
            opened = os.read(gate, 1)
            os.close(gate)
            if not opened:
                os._exit(1)  # the parent has died; the supervisor does not know this child
            return Side.CHILD
    os.close(reporter)
    # There is no exit status when the application ignores SIGCHLD or collects all children.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(middle, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    forked = os.read(report, _FORKED.size)
    os.close(report)
    os.close(gate)
    try:
        if not forked:
            raise OSError("the process in between has died")
        if number := _FORKED.unpack(forked)[0]:
            raise OSError(number, os.strerror(number))
        os.write(opener, b"g")
    finally:
        os.close(opener)
    return Side.PARENT


def _fork_middle() -> int:
    """Fork, and return as fork(2) does. Hooks of `os.register_at_fork` run only when there is a second thread."""
    if len(os.listdir("/proc/self/task")) > 1:
        return os.fork()
    # PyDLL keeps the GIL, so the thread that continues holds the GIL in both processes.
    fork = ctypes.PyDLL(None, use_errno=True).fork
    pid: int = fork()
    if pid == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _be_middle(reporter: int, parent: int) -> None:
    """Fork the grandchild, report, and exit; return only in the grandchild, which does not inherit the parent-death
    signal."""
    try:
        signal_on_parent_death(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        worker = os.fork()
    except OSError as error:
        os.write(reporter, _FORKED.pack(error.errno or 1))
        os._exit(1)
    if worker:
        os.write(reporter, _FORKED.pack(0))
        os._exit(0)


def fork_templates(channel: Channel, name: str) -> Channel:
    """Wait for orders, and fork a template for each; return in the template, with its channel, which it owns.

    `name` is the application's, for the process title. Raise ChannelClosedError when the supervisor closes
    `channel`.
    """
    while True:
        message, descriptors = channel.receive()
        assert isinstance(message, ForkTemplate)
        try:
            side = fork_adopted()
        except OSError:
            side = Side.PARENT  # the supervisor sees the end of the template's channel
        if side is Side.CHILD:
            channel.close()
            set_title("standby", name)
            return Channel(socket.socket(fileno=descriptors[0]))
        for descriptor in descriptors:
            os.close(descriptor)
