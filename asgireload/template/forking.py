"""Fork a process that becomes a child of the supervisor: a worker, or in development a template.

    template ──fork──▶ middle ──fork──▶ worker
                         └─ exits at once; the kernel gives the worker to the next subreaper, the supervisor

The child must not go on before that has happened: PR_SET_PDEATHSIG fires when the parent of the moment
dies, and the parent of the first moment is the middle process. So it waits at a gate that the one that forks
opens once it has collected the middle process, by when the adoption is complete.

The caller has no second thread and no event loop.
"""

import os
import signal
import socket
import sys
from enum import Enum

from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import ForkTemplate
from asgireload.ipc.titles import set_title


class Side(Enum):
    PARENT = "parent"
    CHILD = "child"


def fork_adopted() -> Side:
    """Fork twice and return in both processes, saying which one this is.

    All signals are blocked in the child, which unblocks them when its own handlers stand. Raise
    OSError in the parent when no process could be made.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    gate, opener = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        middle = os.fork()
    except OSError:
        os.close(gate)
        os.close(opener)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if middle == 0:
        _be_middle()
        # Only the child gets here.
        os.close(opener)
        opened = os.read(gate, 1)
        os.close(gate)
        if not opened:
            os._exit(1)  # the parent died meanwhile; nobody has heard of this child
        return Side.CHILD
    _, status = os.waitpid(middle, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(gate)
    try:
        if status != 0:
            raise OSError(os.waitstatus_to_exitcode(status), "the second fork failed")
        os.write(opener, b"g")
    finally:
        os.close(opener)
    return Side.PARENT


def _be_middle() -> None:
    """Fork once more and leave; return only in the grandchild."""
    try:
        worker = os.fork()
    except OSError as error:
        os._exit(error.errno or 1)
    if worker:
        os._exit(0)


def fork_templates(channel: Channel, name: str) -> Channel:
    """Sleep, and fork a template for each order; return in the template, with its channel, which it owns.

    `name` is the application's, for its title. Raise ChannelClosedError when nobody gives orders any more.
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
            set_title("spare", name)
            return Channel(socket.socket(fileno=descriptors[0]))
        for descriptor in descriptors:
            os.close(descriptor)
