"""The processes of fork sources, and of the standby templates that are forked from them.

A standby template is forked before it is needed, so that a reload need not wait for the fork. `preload_cache.py`
decides which fork sources exist and which one has a standby template. `supervisor/handles.py` receives the messages
of these processes, kills them and collects their exits, as for any child.
"""

import logging
from collections.abc import Callable

from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AnyMessage, ChildStarted, ForkTemplate
from asgireload.ipc.records import Signature
from asgireload.supervisor.events import ChildSaid
from asgireload.supervisor.handles import Handle, Handles
from asgireload.supervisor.lifecycle import Change
from asgireload.supervisor.roles import FORK_SOURCE, IMPORT_CHECKPOINT, STANDBY_TEMPLATE, Role
from asgireload.supervisor.system import Process

_logger = logging.getLogger("asgireload.error")


class StandbyTemplate(Handle):
    """A handle on a template that was forked before it is needed, and waits for its load request."""

    def __init__(self, channel: Channel, source: "ForkSource") -> None:
        super().__init__(STANDBY_TEMPLATE, None, channel)
        self._source = source

    def hear(self, message: AnyMessage, descriptors: list[int]) -> ChildSaid | None:
        assert isinstance(message, ChildStarted)
        self.advance(Change.READY)
        return None

    def give_back(self, description: str, *, clean: bool) -> None:
        if self._source.standby is self:
            self._source.standby = None


class ForkSource(Handle):
    """A handle on a process from which templates are forked."""

    def __init__(
        self,
        role: Role,
        source_id: int,
        channel: Channel,
        processes: "ForkSourceProcesses",
        *,
        variables: dict[str, str | None] | None,
        name: str,
        signatures: dict[str, Signature],
    ) -> None:
        super().__init__(role, None, channel)
        self.source_id = source_id
        self.variables = variables
        """Changes of the environment under which the source has imported libraries; None: the application itself
        made them."""
        self.name = name
        """How the log names the source."""
        self.signatures = signatures
        """Signatures of paths outside the watched directories that the source has read or looked for, by path."""
        self.deaths = 0
        """Number of processes forked from the source that have died without a report."""
        self.standby: StandbyTemplate | None = None
        self._processes = processes

    def take_standby(self) -> StandbyTemplate | None:
        """Return the standby template, or None. The caller owns its process and channel from now on."""
        return self._processes.take_standby(self)

    def hear(self, message: AnyMessage, descriptors: list[int]) -> ChildSaid | None:
        self._processes.on_message(self, message, descriptors)
        return None

    def give_back(self, description: str, *, clean: bool) -> None:
        self._processes.ended(self, description)


class ForkSourceProcesses:
    """The processes of all fork sources, by source id. A process lives until `drop()` is called with its source."""

    def __init__(
        self,
        handles: Handles,
        on_message: Callable[[ForkSource, AnyMessage, list[int]], None],
        on_end: Callable[[ForkSource, str], None],
    ) -> None:
        """Take the callbacks. `on_end` is called, with the reason in words, when the process of a source ends
        without having been dropped."""
        self.on_message = on_message
        self._handles = handles
        self._on_end = on_end
        self._by_id: dict[int, ForkSource] = {}
        self._last_id = 0

    def all(self) -> list[ForkSource]:
        return list(self._by_id.values())

    def get(self, source_id: int) -> ForkSource | None:
        return self._by_id.get(source_id)

    def add(
        self,
        role: Role,
        channel: Channel,
        process: Process | None,
        *,
        variables: dict[str, str | None] | None,
        name: str,
        signatures: dict[str, Signature] | None = None,
    ) -> ForkSource:
        """Add a fork source. This object owns its channel and process from now on.

        `process`: None when the pid is not known yet; the process reports it over the channel.
        """
        self._last_id += 1
        source = ForkSource(
            role,
            self._last_id,
            channel,
            self,
            variables=variables,
            name=name,
            signatures=signatures or {},
        )
        self._by_id[source.source_id] = source
        self._handles.add(source)
        if process is not None:
            self._handles.set_process(source, process)
        return source

    def drop(self, source: ForkSource) -> bool:
        """Kill the process and its standby template; return False when `source` was dropped before."""
        if self._by_id.pop(source.source_id, None) is None:
            return False
        self._kill(source)
        self._drop_standby(source)
        return True

    def ended(self, source: ForkSource, reason: str) -> None:
        """Call `on_end` for a process that has exited without having been dropped."""
        if source.source_id in self._by_id:
            self._on_end(source, reason)

    async def wait_collected(self, timeout: float) -> None:
        """Wait until the exit of every killed process has been collected, at most `timeout` seconds."""
        roles = (FORK_SOURCE, IMPORT_CHECKPOINT, STANDBY_TEMPLATE)
        await self._handles.wait_collected(
            lambda handle: handle.role in roles and handle.is_killed, timeout
        )

    def _kill(self, handle: Handle) -> None:
        self._handles.kill(handle)
        handle.channel.close()

    # --- standby templates ------------------------------------------------------------------------

    def keep_standby(self, source_id: int | None) -> None:
        """Fork a standby template from the source, unless it has one, and kill those of all other sources."""
        for source in self.all():
            if source.source_id != source_id:
                self._drop_standby(source)
            elif source.standby is None:
                self._fork_standby(source)

    def take_standby(self, source: ForkSource) -> StandbyTemplate | None:
        standby, source.standby = source.standby, None
        if standby is not None:
            self._handles.release(standby)
        return standby

    def _fork_standby(self, source: ForkSource) -> None:
        try:
            channel, theirs = Channel.pair()
        except OSError as error:
            _logger.debug("No template is forked ahead: %s", error)
            return
        with theirs:
            source.channel.post(ForkTemplate(), [theirs.fileno()])
        source.standby = StandbyTemplate(channel, source)
        self._handles.add(source.standby)

    def _drop_standby(self, source: ForkSource) -> None:
        standby, source.standby = source.standby, None
        if standby is not None:
            self._kill(standby)
