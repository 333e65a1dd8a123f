"""An import checkpoint: a process that sleeps in the middle of an import, just before a module that is edited.

    template ──imports a, b─┬─ imports c, d ─▶ loaded
                            └─ fork: checkpoint, asleep ─┬─ fork ─▶ imports the new c, d ─▶ loaded
                                                         └─ fork ─▶ imports the newer c, d ─▶ …

The checkpoint holds the live stack of the import, so a template forked from it continues exactly where the first
template was, and modules are executed in their usual order. A checkpoint is valid until a file that it has read
changes; the supervisor drops it then (`development/supervisor/preload_cache.py`).
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
    """Fork a checkpoint, unless the modules imported so far forbid a fork.

    Return in the template, and later in each template that is forked from the checkpoint, where `begin_again` has
    given `session` a new channel and order. The function is called by the import system, so it raises no exception,
    which would pass into the user's code.
    """
    written = written_files(session)
    if has_cleanup() or not all(file.is_appended for file in written):
        # The first process that exits, or drops a temporary file, would remove what later templates need.
        return
    if find_hazards(session.descriptors).unsafe:
        return  # forked templates would lose threads or share connections
    if written:
        flush_all()  # otherwise each forked template would write the text that is buffered now
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
            return  # no memory, process or descriptor is left: the next load takes longer
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
    """Wait for commands to fork; return in each forked template, with its channel in `session`."""
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
    """Continue the import in a forked template, which receives its own order."""
    try:
        begin_again(session.channel)
    except ChannelClosedError:
        os._exit(0)
    watch.read_before = len(watch.files)
    watch.stop_before = session.order.checkpoint
