"""An import checkpoint: a process that sleeps in the middle of an import, just before a module that is edited.

    template ──imports a, b─┬─ imports c, d ─▶ loaded
                            └─ fork: checkpoint, asleep ─┬─ fork ─▶ imports the new c, d ─▶ loaded
                                                         └─ fork ─▶ imports the newer c, d ─▶ …

It holds the live stack of the import, so whatever is forked from it goes on exactly where the first one was,
and modules are executed in the order in which they always are. It is of use as long as nothing that it has
read is changed; the supervisor sees to that.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable

from asgireload.development.template.import_watch import ImportWatch
from asgireload.errors import ChannelClosedError
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import signal_on_parent_death
from asgireload.ipc.messages import CheckpointTaken, ChildStarted
from asgireload.ipc.records import FilesRead, seal
from asgireload.ipc.titles import set_title
from asgireload.template.ending import written_files
from asgireload.template.forking import Side, fork_adopted, fork_templates
from asgireload.template.hazard_search import find_hazards
from asgireload.template.session import Session
from asgireload.worker.inherited import flush_all, has_cleanup


def take_checkpoint(
    session: Session, watch: ImportWatch, begin_again: Callable[[Channel], None]
) -> None:
    """Leave a checkpoint behind, unless what is imported so far forbids forking.

    Returns in the template, and later in each template that is forked from the checkpoint: then as another
    session, which `begin_again` makes of this one. Called by the import system, so no exception may pass into the
    user's code.
    """
    written = written_files(session)
    if has_cleanup() or not all(file.is_appended for file in written):
        return  # templates that are forked later would find it removed; a temporary file is, by who drops it first
    if find_hazards(session.descriptors).unsafe:
        return  # they would lose it
    if written:
        flush_all()  # each of them would write the text that is in a buffer now
    module = session.order.checkpoint
    with contextlib.ExitStack() as opened:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.enter_context(ours)
            opened.enter_context(theirs)
            record = seal(FilesRead(watch.signatures))
            opened.callback(os.close, record)
            side = fork_adopted()
        except OSError:
            return  # the system has no room for it: the next load takes longer, and that is all
        if side is Side.PARENT:
            try:
                session.channel.send(CheckpointTaken(module), [ours.fileno(), record])
            except ChannelClosedError:
                os._exit(0)
            return
        channel = Channel(theirs.dup())
    session.channel.close()
    _sleep(session, channel, module)
    _go_on(session, watch, begin_again)


def _sleep(session: Session, channel: Channel, module: str) -> None:
    """Wait for commands to fork; return in each template that was forked, with its channel in `session`."""
    signal_on_parent_death(signal.SIGKILL)
    if os.getppid() != session.supervisor:
        os._exit(1)
    set_title("checkpoint", f"{session.order.name} before {module}")
    try:
        channel.send(ChildStarted(os.getpid()))
        session.channel = fork_templates(channel, session.order.name)
    except ChannelClosedError:
        os._exit(0)


def _go_on(session: Session, watch: ImportWatch, begin_again: Callable[[Channel], None]) -> None:
    """Be the template of another generation from here on."""
    try:
        begin_again(session.channel)
    except ChannelClosedError:
        os._exit(0)
    watch.read_before = len(watch.files)
    watch.stop_before = session.order.checkpoint
