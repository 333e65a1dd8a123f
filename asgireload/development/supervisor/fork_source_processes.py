"""The processes that templates are forked from in development: their numbers, their channels, their end.

Each may have a spare: a template that was forked before it is needed, so that a save need not wait for it.
Which processes there are, and which of them has a spare, others decide (`preload_cache.py`).
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable

import msgspec

from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import ProcessHandle
from asgireload.ipc.messages import AnyMessage, ForkTemplate, TemplateStarted
from asgireload.ipc.records import Signature
from asgireload.supervisor.spawning import describe_exit

_logger = logging.getLogger("asgireload.error")


class Spare(msgspec.Struct, eq=False):
    """A template that was forked before it is needed: it waits for its order."""

    channel: Channel
    process: ProcessHandle | None = None


class Layer(msgspec.Struct, eq=False):
    """A process to fork templates from."""

    layer_id: int
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
    spare: Spare | None = None

    def take_spare(self) -> Spare | None:
        """Return the template that was forked ahead, which is the caller's from now on."""
        spare, self.spare = self.spare, None
        return spare


class Plan(msgspec.Struct, frozen=True):
    """How a template is to be started."""

    layer: Layer | None = None
    """Fork it from this one; None: a fresh interpreter."""
    bookmark: str = ""
    ignored_variables: tuple[str, ...] = ()
    spare: Spare | None = None
    """It was forked from the layer already, and is the receiver's from now on."""

    def fork(self, end: socket.socket) -> None:
        """Have the template forked, with its end of its channel."""
        assert self.layer is not None
        self.layer.channel.post(ForkTemplate(), [end.fileno()])


class LayerProcesses:
    """All of them, by the numbers of their layers. `drop()` each; it dies then."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Layer, AnyMessage, list[int]], None],
        on_end: Callable[[Layer, str], None],
    ) -> None:
        """`on_end` is called, with the reason in words, for one that ends without having been dropped."""
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        self._by_id: dict[int, Layer] = {}
        self._last_id = 0
        self._dying: set[int] = set()
        """Numbers of processes that were killed and are still to be collected."""
        self._collected = asyncio.Event()

    def all(self) -> list[Layer]:
        return list(self._by_id.values())

    def get(self, layer_id: int) -> Layer | None:
        return self._by_id.get(layer_id)

    def add(
        self,
        channel: Channel,
        process: ProcessHandle | None,
        *,
        variables: dict[str, str | None] | None,
        name: str,
        signatures: dict[str, Signature] | None = None,
    ) -> Layer:
        """Take a process that was started; both arguments are this object's from now on.

        `process`: None until it says its number (`Layer.process`).
        """
        self._last_id += 1
        layer = Layer(self._last_id, channel, process, variables, name, signatures or {})
        self._by_id[layer.layer_id] = layer
        channel.attach(
            self._loop,
            lambda message, descriptors: self._on_message(layer, message, descriptors),
            lambda: self._end(layer, "it has ended"),
        )
        return layer

    def drop(self, layer: Layer) -> bool:
        """Kill the process and its spare; return False where that was done before."""
        if self._by_id.pop(layer.layer_id, None) is None:
            return False
        self._kill(layer.process)
        # A process whose number is not known yet ends with its channel.
        layer.channel.close()
        self._drop_spare(layer)
        return True

    def hear(self) -> None:
        """Learn the numbers of processes that have just begun, before any exit is collected."""
        for layer in self.all():
            if layer.process is None:
                layer.channel.deliver()
            if layer.spare is not None and layer.spare.process is None:
                layer.spare.channel.deliver()

    def collected(self, pid: int, code: int) -> bool:
        """A child of the supervisor has ended; return whether it was one of these."""
        if pid in self._dying:
            self._dying.discard(pid)
            self._collected.set()
            return True
        for layer in self.all():
            if layer.process is not None and layer.process.pid == pid:
                layer.channel.deliver()
                self._end(layer, describe_exit(code))
                self._dying.discard(pid)
                return True
            spare = layer.spare
            if spare is not None and spare.process is not None and spare.process.pid == pid:
                self._drop_spare(layer)
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

    def _end(self, layer: Layer, reason: str) -> None:
        if layer.layer_id in self._by_id:
            self._on_end(layer, reason)

    def _kill(self, process: ProcessHandle | None) -> None:
        if process is not None:
            self._dying.add(process.pid)
            process.send(signal.SIGKILL)
            process.close()

    # --- spares -----------------------------------------------------------------------------------

    def keep_spare(self, layer_id: int | None) -> None:
        """Have a template forked ahead from that layer, if there is none, and from no other."""
        for layer in self.all():
            if layer.layer_id != layer_id:
                self._drop_spare(layer)
            elif layer.spare is None:
                self._fork_spare(layer)

    def _fork_spare(self, layer: Layer) -> None:
        try:
            channel, theirs = Channel.pair()
        except OSError as error:
            _logger.debug("No template is forked ahead: %s", error)
            return
        with theirs:
            layer.channel.post(ForkTemplate(), [theirs.fileno()])
        spare = layer.spare = Spare(channel)

        def on_message(message: AnyMessage, descriptors: list[int]) -> None:
            assert isinstance(message, TemplateStarted)
            spare.process = ProcessHandle(message.pid)

        channel.attach(self._loop, on_message, lambda: self._spare_ended(layer, spare))

    def _spare_ended(self, layer: Layer, spare: Spare) -> None:
        if layer.spare is spare:
            self._drop_spare(layer)

    def _drop_spare(self, layer: Layer) -> None:
        spare = layer.take_spare()
        if spare is not None:
            self._kill(spare.process)
            # One whose number is not known yet ends with its channel.
            spare.channel.close()
