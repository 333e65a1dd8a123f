"""An operating system, an event loop and children that exist only in a test: handles are tried out against them.

Sockets and fault files are real, for what is passed through them is to be seen; processes, signals, /proc and time
are not.
"""

import errno
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from asgireload.config import Config
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AnyMessage, AppLoaded, ForkWorker, LoadApp
from asgireload.ipc.scoreboard import Scoreboard
from asgireload.supervisor.cpu_priority import CpuPriority
from asgireload.supervisor.events import ChildExited, ChildSaid, Event, ForkChild, StartTemplate
from asgireload.supervisor.fault import Fault, make_fault_file, read_fault_file
from asgireload.supervisor.handles import Handles
from asgireload.supervisor.roles import WORKER
from asgireload.supervisor.scoreboard_records import ScoreboardRecords
from asgireload.supervisor.template_handles import TemplateHandles
from asgireload.supervisor.template_source import StartedTemplate, TemplateOrigin
from asgireload.supervisor.worker_handles import WorkerHandles, WorkerInputs


class InventedLoop:
    """An event loop whose time and turns the test decides."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._readers: dict[int, Callable[[], object]] = {}
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        self._ready.append((function, arguments))

    def call_later(self, delay: float, function: Callable[..., object], *arguments: Any) -> "Timer":
        timer = Timer(self.now + delay, function, arguments)
        self.timers.append(timer)
        return timer

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        self._readers.pop(fd, None)

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        raise AssertionError("a test has filled a socket")

    def remove_writer(self, fd: int) -> None:
        pass

    def turn(self) -> None:
        """Run until nothing is left to be done at this moment."""
        while True:
            while self._ready:
                function, arguments = self._ready.popleft()
                function(*arguments)
            readable, _, _ = select.select(list(self._readers), [], [], 0)
            if not readable and not self._ready:
                return
            for fd in readable:
                if fd in self._readers:
                    self._readers[fd]()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in due:
            if not timer.is_cancelled:
                timer.function(*timer.arguments)
        self.turn()


class Timer:
    def __init__(
        self, at: float, function: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        self.at, self.function, self.arguments = at, function, arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class InventedProcess:
    """A process; `signals` are those that it was sent."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[signal.Signals] = []
        self.is_closed = False

    def send(self, number: signal.Signals) -> None:
        assert not self.is_closed, "a closed handle was used"
        self.signals.append(number)

    def close(self) -> None:
        self.is_closed = True


class InventedSystem:
    """What `System` says, without a process."""

    def __init__(self, loop: InventedLoop) -> None:
        self._loop = loop
        self._last_pid = 500
        self.processes: dict[int, InventedProcess] = {}
        """Those that live or are still to be collected."""
        self.exits: dict[int, int] = {}
        """Of those that are still to be collected."""
        self.below: dict[int, list[int]] = {}
        """Pids of descendants."""
        self.sockets: dict[int, set[int]] = {}
        """Inodes of the sockets that a process has open."""
        self.lowered: set[int] = set()
        self.memory_kills = {"memory.events": 0}
        self.has_descriptors = True
        self.has_processes = True

    def clock(self) -> float:
        return self._loop.now

    def begin(self) -> InventedProcess:
        """Let there be one more process."""
        self._last_pid += 1
        process = self.processes[self._last_pid] = InventedProcess(self._last_pid)
        return process

    def end(self, pid: int, code: int) -> None:
        """Let a process end: with this exit status, or by minus this signal."""
        self.exits[pid] = code

    def spawn(self, module: str, channel: int) -> InventedProcess:
        if not self.has_processes:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self.begin()

    def open_process(self, pid: int) -> InventedProcess:
        if pid not in self.processes:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return self.processes[pid]

    def socket_pair(self) -> tuple[socket.socket, socket.socket]:
        if not self.has_descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def make_fault_file(self, role: str) -> int:
        return make_fault_file(role)

    def read_fault_file(self, descriptor: int) -> Fault:
        return read_fault_file(descriptor)

    def find_exited(self) -> int | None:
        return next(iter(self.exits), None)

    def collect(self, pid: int) -> int:
        self.processes.pop(pid, None)
        return self.exits.pop(pid)

    def children(self) -> list[int]:
        return list(self.processes)

    def descendants_of(self, pid: int) -> list[int]:
        return self.below.get(pid, [])

    def sockets_of(self, pid: int) -> set[int]:
        return self.sockets.get(pid, set())

    def resident_bytes(self, pid: int) -> int | None:
        return 4096 * pid

    def is_sleeping(self, pid: int) -> bool:
        return True

    def cpu_of(self, pid: int) -> int | None:
        return 0

    def can_lower_priority(self) -> bool:
        return True

    def lower_priority(self, pid: int) -> None:
        self.lowered.add(pid)

    def restore_priority(self, pid: int) -> None:
        self.lowered.discard(pid)

    def out_of_memory_kills(self) -> dict[str, int]:
        return dict(self.memory_kills)


class InventedChild:
    """The other side of a channel: what the child would do there."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)

    def receive(self) -> tuple[AnyMessage, list[int]]:
        return self.channel.receive()

    def say(self, message: AnyMessage, descriptors: tuple[int, ...] = ()) -> None:
        self.channel.send(message, descriptors)

    def close(self) -> None:
        self.channel.close()


class InventedOrigin:
    """Where one template comes from: nowhere."""

    def __init__(self, source: "InventedSource", step: StartTemplate, *, is_fork: bool) -> None:
        self.request = LoadApp(
            step.generation, Config(app="shop:app"), step.preload, "/srv", "shop"
        )
        self.is_fork = is_fork
        self._source = source

    def start(self, end: socket.socket) -> StartedTemplate:
        self._source.templates.append(InventedChild(end.dup()))
        if self.is_fork:
            return StartedTemplate(process=None)
        return StartedTemplate(self._source.system.spawn("template", end.fileno()))

    def record(self, message: AnyMessage, descriptors: list[int]) -> None:
        self._source.records.append(message)

    def describe(self, loaded: AppLoaded) -> str:
        return f"read {loaded.module_count} modules"

    def distrust(self, *, next_too: bool = False) -> None:
        self._source.distrusted.append(next_too)


class InventedSource:
    """A template source. `templates` are those that were started, each to be spoken with."""

    def __init__(self, system: InventedSystem) -> None:
        self.system = system
        self.is_fork = False
        self.waiting: list[Callable[[], None]] | None = None
        """Templates that wait until they are let go on, when this is a list."""
        self.templates: list[InventedChild] = []
        self.records: list[AnyMessage] = []
        self.distrusted: list[bool] = []
        self.forgotten: list[int] = []

    def prepare(self, step: StartTemplate, on_ready: Callable[[TemplateOrigin], None]) -> None:
        origin = InventedOrigin(self, step, is_fork=self.is_fork)
        if self.waiting is None:
            on_ready(origin)
        else:
            self.waiting.append(lambda: on_ready(origin))

    def prepare_fresh(self, step: StartTemplate) -> InventedOrigin:
        return InventedOrigin(self, step, is_fork=False)

    def forget(self, template_id: int) -> None:
        self.forgotten.append(template_id)


class NoCertificates(msgspec.Struct):
    descriptor: int | None = None
    loads: int = 0

    def load(self) -> bool:
        self.loads += 1
        return False


class Parent:
    """Handles in the invented world. `events` are what the decisions have heard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self.loop = InventedLoop()
        self.system = InventedSystem(self.loop)
        self.events: list[Event] = []
        self.source = InventedSource(self.system)
        self.certificates = NoCertificates()
        self.scoreboard = scoreboard
        loop: Any = self.loop
        source: Any = self.source
        certificates: Any = self.certificates
        self.cpu_priority = CpuPriority(loop, self.system, 10.0)
        self.handles = Handles(loop, self.system, self.cpu_priority, self.events.append)
        inputs = WorkerInputs(lambda slot: (), (), certificates, silent_after=2.0)
        self.workers = WorkerHandles(self.handles, ScoreboardRecords(self.scoreboard), inputs)
        self.templates = TemplateHandles(
            self.handles, source, self.scoreboard.descriptor, lambda generation: None
        )
        self.children: list[InventedChild] = []
        """Workers that were forked, each to be spoken with."""

    def start_template(self, child_id: int = 1, **options: Any) -> InventedChild:
        """Start a template, and return its side."""
        self.templates.start(StartTemplate(child_id, 1, preload=True, **options))
        self.loop.turn()
        return self.source.templates[-1]

    def fork(self, child_id: int = 2, template_id: int = 1, **options: Any) -> InventedChild:
        """Have a worker forked, and return its side, which has not spoken yet."""
        self.workers.fork(ForkChild(child_id, WORKER, template_id, 0, 1, **options))
        return self.take_fork()

    def take_fork(self) -> InventedChild:
        """Let the template carry out the request for a fork that it was sent last."""
        message, descriptors = self.source.templates[-1].receive()
        while not isinstance(message, ForkWorker):
            close_all(descriptors)
            message, descriptors = self.source.templates[-1].receive()
        channel, *others = descriptors
        close_all(others)
        child = InventedChild(socket.socket(fileno=channel))
        self.children.append(child)
        return child

    def end(self, pid: int | None, code: int) -> None:
        """Let a process end, and its exit be collected."""
        assert pid is not None
        self.system.end(pid, code)
        self.handles.reap()
        self.loop.turn()

    def said(self) -> list[AnyMessage]:
        return [event.message for event in self.events if isinstance(event, ChildSaid)]

    def exits(self) -> list[tuple[int, str]]:
        return [
            (event.child_id, event.description)
            for event in self.events
            if isinstance(event, ChildExited)
        ]

    def close(self) -> None:
        for child in [*self.source.templates, *self.children]:
            child.close()
        for handle in self.handles.all():
            handle.channel.close()
            if handle.fault_file is not None:
                os.close(handle.fault_file)


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
