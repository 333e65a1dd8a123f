"""The processes that templates are forked from in development: their numbers, their channels, their end.

Each may have a standby template, one that was forked before it is needed, so that a save need not wait for it.
Which processes there are, and which of them has one, others decide (`preload_cache.py`).
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable

import msgspec

from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import ProcessHandle
from asgireload.ipc.messages import AnyMessage, ChildStarted, ForkTemplate
from asgireload.ipc.records import Signature
from asgireload.supervisor.spawning import describe_exit

_logger = logging.getLogger("asgireload.error")


class StandbyTemplate(msgspec.Struct, eq=False):
    """A template that was forked before it is needed: it waits for its order."""

    channel: Channel
    process: ProcessHandle | None = None


class ForkSource(msgspec.Struct, eq=False):
    """A process to fork templates from."""

    source_id: int
    channel: Channel
    process: ProcessHandle | None
    variables: dict[str, str | None] | None
    """What the libraries in it have found in the environment; None: what the application put there."""
    name: str
    """For the log."""
    signatures: dict[str, Signature] = msgspec.field(default_factory=dict)
    """Of what it has read, or looked for, and nobody watches."""
    deaths: int = 0
    """How many processes that were forked from it have died without a word."""
    standby: StandbyTemplate | None = None

    def take_standby(self) -> StandbyTemplate | None:
        """Return the template that was forked ahead, which is the caller's from now on."""
        standby, self.standby = self.standby, None
        return standby


class ForkSourceProcesses:
    """All of them, by the ids of the fork sources. `drop()` each; it dies then."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[ForkSource, AnyMessage, list[int]], None],
        on_end: Callable[[ForkSource, str], None],
    ) -> None:
        """`on_end` is called, with the reason in words, for one that ends without having been dropped."""
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        self._by_id: dict[int, ForkSource] = {}
        self._last_id = 0
        self._dying: set[int] = set()
        """Numbers of processes that were killed and are still to be collected."""
        self._collected = asyncio.Event()

    def all(self) -> list[ForkSource]:
        return list(self._by_id.values())

    def get(self, source_id: int) -> ForkSource | None:
        return self._by_id.get(source_id)

    def add(
        self,
        channel: Channel,
        process: ProcessHandle | None,
        *,
        variables: dict[str, str | None] | None,
        name: str,
        signatures: dict[str, Signature] | None = None,
    ) -> ForkSource:
        """Take a process that was started; both arguments are this object's from now on.

        `process`: None until it says its number (`ForkSource.process`).
        """
        self._last_id += 1
        source = ForkSource(self._last_id, channel, process, variables, name, signatures or {})
        self._by_id[source.source_id] = source
        channel.attach(
            self._loop,
            lambda message, descriptors: self._on_message(source, message, descriptors),
            lambda: self._end(source, "it has ended"),
        )
        return source

    def drop(self, source: ForkSource) -> bool:
        """Kill the process and its standby template; return False where that was done before."""
        if self._by_id.pop(source.source_id, None) is None:
            return False
        self._kill(source.process)
        # A process whose number is not known yet ends with its channel.
        source.channel.close()
        self._drop_standby(source)
        return True

    def hear(self) -> None:
        """Learn the numbers of processes that have just begun, before any exit is collected."""
        for source in self.all():
            if source.process is None:
                source.channel.deliver()
            if source.standby is not None and source.standby.process is None:
                source.standby.channel.deliver()

    def collected(self, pid: int, code: int) -> bool:
        """A child of the supervisor has ended; return whether it was one of these."""
        if pid in self._dying:
            self._dying.discard(pid)
            self._collected.set()
            return True
        for source in self.all():
            if source.process is not None and source.process.pid == pid:
                source.channel.deliver()
                self._end(source, describe_exit(code))
                self._dying.discard(pid)
                return True
            standby = source.standby
            if standby is not None and standby.process is not None and standby.process.pid == pid:
                self._drop_standby(source)
                self._dying.discard(pid)
                return True
        return False

    async def wait_collected(self, timeout: float) -> None:
        """Return when the exit of every process that was killed has been collected, or after `timeout`
        seconds."""
        deadline = self._loop.time() + timeout
        while self._dying and self._loop.time() < deadline:
            self._collected.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._collected.wait()

    def _end(self, source: ForkSource, reason: str) -> None:
        if source.source_id in self._by_id:
            self._on_end(source, reason)

    def _kill(self, process: ProcessHandle | None) -> None:
        if process is not None:
            self._dying.add(process.pid)
            process.send(signal.SIGKILL)
            process.close()

    # --- standby templates ------------------------------------------------------------------------

    def keep_standby(self, source_id: int | None) -> None:
        """Have a template forked ahead from that source, if there is none, and from no other."""
        for source in self.all():
            if source.source_id != source_id:
                self._drop_standby(source)
            elif source.standby is None:
                self._fork_standby(source)

    def _fork_standby(self, source: ForkSource) -> None:
        try:
            channel, theirs = Channel.pair()
        except OSError as error:
            _logger.debug("No template is forked ahead: %s", error)
            return
        with theirs:
            source.channel.post(ForkTemplate(), [theirs.fileno()])
        standby = source.standby = StandbyTemplate(channel)

        def on_message(message: AnyMessage, descriptors: list[int]) -> None:
            assert isinstance(message, ChildStarted)
            standby.process = ProcessHandle(message.pid)

        channel.attach(self._loop, on_message, lambda: self._standby_ended(source, standby))

    def _standby_ended(self, source: ForkSource, standby: StandbyTemplate) -> None:
        if source.standby is standby:
            self._drop_standby(source)

    def _drop_standby(self, source: ForkSource) -> None:
        standby = source.take_standby()
        if standby is not None:
            self._kill(standby.process)
            # One whose number is not known yet ends with its channel.
            standby.channel.close()
