"""Handles on templates: start their processes, tell them what to load, and handle their messages."""

import logging
import os
import socket
from collections.abc import Callable

from asgireload.errors import TlsError
from asgireload.failures import Failure
from asgireload.ipc.messages import (
    AnyMessage,
    AppFailed,
    AppImported,
    AppLoaded,
    AppUnsafe,
    CheckpointTaken,
    ChildStarted,
    ForkFailed,
    VariablesDiffer,
)
from asgireload.supervisor.events import ChildExited, ChildSaid, StartTemplate
from asgireload.supervisor.handles import NOT_STARTED, Ends, Handle, Handles, inode_of
from asgireload.supervisor.lifecycle import Change, State
from asgireload.supervisor.roles import TEMPLATE
from asgireload.supervisor.template_source import TemplateOrigin, TemplateSource

_logger = logging.getLogger("asgireload.error")


class TemplateHandle(Handle):
    """A handle on the process that imports the application for one generation."""

    def __init__(self, step: StartTemplate, ends: Ends, templates: "TemplateHandles") -> None:
        inode = inode_of(ends.theirs)
        super().__init__(
            TEMPLATE, step.child_id, ends.channel, inode=inode, fault_file=ends.fault_file
        )
        self.step = step
        self.theirs: socket.socket = ends.theirs
        """The template's end of the channel, until it has been passed on."""
        self.origin: TemplateOrigin | None = None
        """How its process is started; None until that is decided."""
        self._templates = templates

    def hear(self, message: AnyMessage, descriptors: list[int]) -> ChildSaid | None:
        return self._templates.hear(self, message, descriptors)

    def begin_again(self) -> bool:
        return self._templates.begin_again(self)

    def give_back(self, description: str, *, clean: bool) -> None:
        self.theirs.close()
        self._templates.forget(self)


class TemplateHandles:
    """Starts templates and handles their messages. The caller closes the source and the scoreboard."""

    def __init__(
        self,
        handles: Handles,
        source: TemplateSource,
        scoreboard: int,
        on_generation: Callable[[int], None],
    ) -> None:
        """`scoreboard` is a descriptor. `on_generation` is called with the generation of each template before the
        template is started, and raises TlsError when it must not be started."""
        self._handles = handles
        self._source = source
        self._scoreboard = scoreboard
        self._on_generation = on_generation

    # --- start ------------------------------------------------------------------------------------

    def start(self, step: StartTemplate) -> None:
        """Start the template of `step`, at once or when its source is ready."""
        try:
            self._on_generation(step.generation)
        except TlsError as error:
            self._handles.report(ChildSaid(step.child_id, AppFailed(Failure("tls", str(error)))))
            self._handles.report(ChildExited(step.child_id, NOT_STARTED))
            return
        try:
            ends = self._handles.open(TEMPLATE)
        except OSError as error:
            self._handles.report_not_started(step.child_id, error)
            return
        handle = TemplateHandle(step, ends, self)
        self._handles.add(handle)
        self._source.prepare(step, lambda origin: self._launch(handle, origin))

    def _launch(self, handle: TemplateHandle, origin: TemplateOrigin) -> None:
        """Start the process, and tell it what to load."""
        if not self._handles.holds(handle) or handle.state is not State.STARTING:
            return  # the template was killed while it waited for its source
        handle.origin = origin
        try:
            started = origin.start(handle.theirs)
        except OSError as error:
            self._drop(handle, error)
            return
        handle.theirs.close()
        if started.channel is not None:
            handle.channel.close()
            handle.channel = started.channel
            self._handles.attach(handle)
        if started.process is not None:
            self._handles.set_process(handle, started.process)
            if handle.step.gives_way:
                self._handles.cpu_priority.lower(started.process.pid)
        assert handle.fault_file is not None
        if started.fault_file is not None:
            os.close(handle.fault_file)
            handle.fault_file = started.fault_file
        else:
            handle.channel.post(origin.request, [self._scoreboard, handle.fault_file])

    def _launch_anew(self, handle: TemplateHandle) -> None:
        """Start the same template in a fresh interpreter, because its fork source may be at fault."""
        try:
            ends = self._handles.open(TEMPLATE)
        except OSError as error:
            self._drop(handle, error)
            return
        handle.theirs.close()
        self._handles.renew(handle, ends)
        handle.theirs = ends.theirs
        self._launch(handle, self._source.prepare_fresh(handle.step))

    def _drop(self, handle: TemplateHandle, error: OSError) -> None:
        self._handles.drop(handle)
        handle.theirs.close()
        self._handles.report_not_started(handle.step.child_id, error)

    # --- messages and exit ------------------------------------------------------------------------

    def hear(
        self, handle: TemplateHandle, message: AnyMessage, descriptors: list[int]
    ) -> ChildSaid | None:
        """Do what the message asks of the parent; return the event for the decisions, or None."""
        child_id = handle.step.child_id
        if handle.pid is not None and not isinstance(message, ChildStarted):
            # The import is over. Processes forked from the template inherit its priority.
            self._handles.cpu_priority.restore(handle.pid)
        origin = handle.origin
        match message:
            case AppImported() | CheckpointTaken() if origin is not None:
                origin.record(message, descriptors)
                return None
            case VariablesDiffer() if origin is not None:
                origin.record(message, descriptors)
                if not handle.is_killed:
                    self._launch_anew(handle)
                return None
            case AppLoaded():
                handle.advance(Change.READY)
                detail = origin.describe(message) if origin is not None else ""
                return ChildSaid(child_id, message, detail)
            case ForkFailed():
                return ChildSaid(message.child_id, message)
            case ChildStarted() | AppUnsafe() | AppFailed():
                return ChildSaid(child_id, message)
            case _:
                raise AssertionError(message)

    def begin_again(self, handle: TemplateHandle) -> bool:
        """Restart a template that ended without a report, if its fork source may be at fault."""
        if handle.state not in (State.STARTING, State.BOOTING):
            return False
        origin = handle.origin
        is_fork = origin is not None and origin.is_fork
        if handle.state is State.BOOTING and not is_fork:
            return False
        if origin is not None:
            origin.distrust()
        self._launch_anew(handle)
        return True

    def forget(self, handle: TemplateHandle) -> None:
        """Tell the source that the template has ended, or has become a worker."""
        self._source.forget(handle.step.child_id)
