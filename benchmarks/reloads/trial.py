"""One server from its start to its end: the load on it, and its reloads. Thin: what it saw is judged elsewhere."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from asgireload.admin.client import AdminClient
from asgireload.errors import ControlError
from benchmarks.common.asking import LoadError, read_line
from benchmarks.common.machine import ROOT, pinned
from benchmarks.common.measure import TICK, cpu_seconds, tree, wait_settled
from benchmarks.common.serving import StartError, free_port, last_words, server_environment, started

from . import records
from .clients import STOP_TIMEOUT, Effort, Order
from .judge import Figures, Mark, Reload, judge, time_line
from .records import Kind, Record
from .servers import OURS, Completion, Server, reload_command, socket_path

TEMPLATE = Path(__file__).parent / "apps" / "versioned.py"
VERSION_LINE = "VERSION = 0\n"
START_TIMEOUT, SETTLE_TIMEOUT = 30.0, 3.0
RELOAD_TIMEOUT = 15.0
"""Seconds for one reload; a server may drain two workers one after the other."""
BEFORE, BETWEEN, AFTER = 1.5, 0.3, 1.5
"""Seconds of undisturbed load before the first reload, between two, and after the last."""
READY_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
"""For the clients to end and to write their records."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where processes run. CPUs as taskset(1) takes them; None: anywhere."""

    server_cpus: str | None
    load_cpus: str | None
    from_checkout: bool = False
    """Run asgireload from the sources of this checkout, not as installed."""


@dataclass(frozen=True, slots=True)
class Live:
    """A server that answers, and where its files are."""

    server: Server
    pid: int
    port: int
    directory: str
    machine: Machine
    process: "subprocess.Popen[bytes]"

    def python(self, arguments: list[str]) -> list[str]:
        """Return a command of an operator. It is no part of the server, and runs beside the clients."""
        return pinned([sys.executable, *arguments], self.machine.load_cpus)

    def environment(self) -> dict[str, str]:
        return environment_for(self.server, self.directory, self.machine)


@dataclass(slots=True)
class Trial:
    """What came of one server."""

    server: str
    reloads: list[Reload] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0
    kinds: dict[str, Figures] = field(default_factory=dict)
    line: list[Mark] = field(default_factory=list)
    effort: Effort | None = None
    failure: str = ""
    """Why it ended early; empty when it did not."""
    log: str = ""
    """The last line of the server's log that names an error."""
    others_share: float = 0.0
    """CPU that neither the server nor the clients used meanwhile, as a share of one CPU."""


def busy_seconds() -> float:
    """Return the CPU seconds that the whole machine has spent: user, nice, system, interrupts (proc_stat(5))."""
    with open("/proc/stat") as file:
        fields = file.readline().split()[1:]
    user, nice, system, _idle, _waiting, hard, soft = (int(value) for value in fields[:7])
    return (user + nice + system + hard + soft) * TICK


class Bystanders:
    """Tells what other processes used of the machine: figures taken beside them are worth little."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began, self.busy, self.server = time.monotonic(), busy_seconds(), cpu_seconds(pid)

    def share(self, clients: Effort) -> float:
        """Return the CPU of all others since the beginning, as a share of one CPU."""
        took = time.monotonic() - self.began
        others = busy_seconds() - self.busy - (cpu_seconds(self.pid) - self.server)
        return max(0.0, others / took - clients.cpu_share)


def environment_for(server: Server, directory: str, machine: Machine) -> dict[str, str]:
    """Return the environment of a server: its code is found in `directory`."""
    from_checkout = server.distribution == OURS and machine.from_checkout
    places = [directory, str(ROOT)] if from_checkout else [directory]
    return server_environment(*places)


def write_code(directory: str, version: int) -> None:
    """Put the application there with its version, in one step: nobody reads half of it."""
    text = TEMPLATE.read_text()
    if text.count(VERSION_LINE) != 1:
        raise ValueError(f"{TEMPLATE} does not hold {VERSION_LINE.strip()!r} once")
    path = Path(directory) / TEMPLATE.name
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(VERSION_LINE, f"VERSION = {version}\n"))
    fresh.replace(path)


@contextmanager
def serving(server: Server, directory: str, machine: Machine) -> Iterator[Live]:
    """Start a server on version 1, give it out when it answers, and end all its processes afterwards.

    It stays in our session, as the clients do: where each session is a scheduling group of its own
    (kernel.sched_autogroup_enabled, sched(7)) the kernel weighs groups, and what wakes up for a client finds a CPU
    busy that only has work which gives way. Clients on other machines come with no session.

    Raise LoadError with the last line of its log when it does not answer.
    """
    write_code(directory, 1)
    port = free_port()
    try:
        with started(
            pinned([sys.executable, *server.command(port, directory)], machine.server_cpus),
            port,
            Path(directory) / "server.log",
            cwd=directory,
            environment=environment_for(server, directory, machine),
            timeout=START_TIMEOUT,
            own_session=False,
        ) as live:
            wait_settled(live.pid, SETTLE_TIMEOUT)
            yield Live(server, live.pid, port, directory, machine, live.process)
    except StartError as error:
        raise LoadError(f"it did not start: {error}") from None


class Load:
    """The client process: started, stopped, and read."""

    def __init__(self, order: Order, machine: Machine) -> None:
        module = [sys.executable, "-m", "benchmarks.reloads.clients", json.dumps(asdict(order))]
        self.order = order
        self.process = subprocess.Popen(
            pinned(module, machine.load_cpus),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, timeout: float) -> str:
        """Return the next line of the clients. Raise LoadError when they print none within `timeout` seconds."""
        return read_line(self.process, timeout)

    def finish(self) -> tuple[list[Record], Effort]:
        """End the load and return what the clients noted."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        effort = Effort(**json.loads(self.line(STOP_TIMEOUT + WRITE_TIMEOUT)))
        with open(self.order.path) as file:
            return records.parse(file), effort


@contextmanager
def loaded(live: Live, kinds: list[Kind], *, seed: int = 0, **more: object) -> Iterator[Load]:
    """Put the load on a server; its process is ended at the end whatever happened."""
    path = str(Path(live.directory) / "records.jsonl")
    order = Order(live.port, tuple(kind.name for kind in kinds), path, seed, **more)  # type: ignore[arg-type]
    load = Load(order, live.machine)
    try:
        load.line(READY_TIMEOUT)
        yield load
    finally:
        load.process.kill()
        load.process.stdin = None  # closed already, and communicate() would flush it
        load.process.communicate()


def workers_of(pid: int) -> list[int]:
    """Return the processes below a server that a reload replaces."""
    found = []
    for member in tree(pid)[1:]:
        try:
            command = Path(f"/proc/{member}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        # multiprocessing's tracker of shared memory lives as long as its parent.
        if b"resource_tracker" not in command:
            found.append(member)
    return found


def wait_ended(processes: list[int], timeout: float) -> bool:
    """Wait until all these processes have ended; return whether they did in time."""
    deadline = time.monotonic() + timeout
    handles = []
    try:
        for process in processes:
            try:
                handles.append(os.pidfd_open(process))
            except ProcessLookupError:
                continue  # gone already
        for handle in handles:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([handle], [], [], left)[0]:
                return False
        return True
    finally:
        for handle in handles:
            os.close(handle)


def begin_reload(live: Live) -> "subprocess.Popen[str]":
    """Start the command that makes asgireload reload and tells the verdict."""
    return subprocess.Popen(
        live.python(reload_command(live.directory, RELOAD_TIMEOUT)),
        cwd=live.directory,
        env=live.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end_reload(command: "subprocess.Popen[str]", reload: Reload) -> None:
    """Wait for the verdict and note it. Raise LoadError when it does not come."""
    try:
        said, _ = command.communicate(timeout=RELOAD_TIMEOUT + 5)
    except subprocess.TimeoutExpired:
        command.kill()
        command.communicate()
        raise LoadError(f"no verdict within {RELOAD_TIMEOUT + 5:g} s") from None
    if command.returncode == 0:
        reload.complete = time.monotonic()
    lines = said.strip().splitlines() or [f"status {command.returncode}"]
    reload.verdict = lines[0]


def ask_verdict(live: Live, reload: Reload) -> None:
    """Make asgireload reload, wait for the verdict and note it. Raise LoadError when there is none.

    What `asgireload reload --wait` does, without an interpreter that starts for it beside the load: the other
    servers are told by a signal.
    """
    path = f"/reload?wait=1&timeout={RELOAD_TIMEOUT:g}"
    client = AdminClient(socket_path(live.directory))
    try:
        status, said = client.request("POST", path, RELOAD_TIMEOUT + 5)
    except ControlError as error:
        raise LoadError(str(error)) from error
    assert isinstance(said, dict)
    if status == 200:
        reload.complete = time.monotonic()
    reload.verdict = str(said.get("detail") or said.get("outcome"))


def reload_once(live: Live, version: int) -> Reload:
    """Replace the code, ask for a reload, and wait for its end. Raise LoadError when the server is gone."""
    write_code(live.directory, version)
    reload = Reload(version, time.monotonic())
    if live.server.completion is Completion.VERDICT:
        ask_verdict(live, reload)
    else:
        before = workers_of(live.pid)
        os.kill(live.pid, signal.SIGHUP)
        if wait_ended(before, RELOAD_TIMEOUT):
            reload.complete = time.monotonic()
            reload.verdict = "all workers replaced"
        else:
            reload.verdict = f"old workers still there after {RELOAD_TIMEOUT:g} s"
    if live.process.poll() is not None:
        raise LoadError(f"the server ended with {live.process.returncode} in reload {version - 1}")
    return reload


def carry_out(
    server: Server, kinds: list[Kind], reloads: int, directory: str, machine: Machine, seed: int
) -> Trial:
    """Reload a server so many times under load. What fails is part of what is returned."""
    trial = Trial(server.name)
    found: list[Record] = []
    try:
        with (
            serving(server, directory, machine) as live,
            loaded(live, kinds, seed=seed) as load,
        ):
            bystanders = Bystanders(live.pid)
            trial.began = time.monotonic()
            try:
                time.sleep(BEFORE)
                for number in range(reloads):
                    trial.reloads.append(reload_once(live, number + 2))
                    time.sleep(BETWEEN)
                time.sleep(AFTER)
            except (LoadError, ProcessLookupError) as error:
                trial.failure = str(error)
            trial.seconds = time.monotonic() - trial.began
            found, trial.effort = load.finish()
            trial.others_share = bystanders.share(trial.effort)
    except LoadError as error:
        trial.failure = trial.failure or str(error)
    trial.kinds = judge(found, trial.reloads)
    trial.line = time_line(found, trial.began)
    if trial.failure:
        trial.log = last_words(Path(directory) / "server.log")
    return trial
