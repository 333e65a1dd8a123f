"""Find what an import has left behind in this process, as values for `fork_hazards.py`.

Everything is read from /proc and from Python's own lists, so it is the actual state of the process.
"""

import bisect
import os
import socket
import stat
import struct
import sys
import threading
import time

import msgspec

from asgireload.ipc.linux import children_of, process_state
from asgireload.template.fork_hazards import (
    Action,
    Contents,
    Descriptor,
    NativeThread,
    PythonThread,
    RunningChild,
    Socket,
    SocketState,
    group_reasons,
    judge,
)
from asgireload.template.holders import name_holder

SETTLE_TIMEOUT = 1.0
"""Longest wait in seconds for native threads to block, so that their stacks show their library. A pool of OpenBLAS
spins for some 30 ms after its last use."""
_SETTLE_INTERVAL = 0.005
NAMING_TIMEOUT = 1.0
"""Longest search, in seconds, for the modules that hold hazards: a pool may have a hundred connections."""
_STACK_BYTES = 8192
"""Bytes of a stack that are read, from the innermost frame on; the stack of a blocked thread is a few calls
deep."""
_COMMAND_LENGTH = 100
"""Characters of a command line that are shown."""


class Hazards(msgspec.Struct, frozen=True):
    """What an import has left behind, grouped by the action that it requires."""

    unsafe: tuple[str, ...] = ()
    """Descriptions, for the log, of the things that forbid forking, each with the module that holds it."""
    native_threads: tuple[str, ...] = ()
    """Native threads that survive a fork; for the log."""
    renewed: tuple[int, ...] = ()
    """Descriptors that each worker opens again for itself."""
    has_written_files: bool = False


def find_hazards(before: frozenset[int]) -> Hazards:
    """Return the hazards in this process. Descriptors that were open `before` the import are ignored."""
    findings = judge(look(before))
    unsafe = []
    deadline = time.monotonic() + NAMING_TIMEOUT
    for finding in findings:
        if finding.action is Action.FALL_BACK:
            holder = name_holder(finding.descriptor, finding.thread, finding.pid, deadline=deadline)
            unsafe.append((finding.text, holder))
    return Hazards(
        group_reasons(unsafe),
        tuple(sorted(f.text for f in findings if f.kind == "native thread that survives")),
        tuple(
            finding.descriptor
            for finding in findings
            if finding.action is Action.RENEW and finding.descriptor != -1
        ),
        any(f.kind in ("file that is written", "file that is read") for f in findings),
    )


def look(before: frozenset[int]) -> Contents:
    """Return the threads, children, descriptors and timers of this process, without the descriptors in `before`."""
    threads = _python_threads()
    has_unknown = any(not thread.name for thread in threads)
    return Contents(
        threads,
        _native_threads(has_unknown=has_unknown),
        _children(),
        tuple(
            filter(None, map(_describe, sorted(open_descriptors() - before - {_tracker_pipe()})))
        ),
        _posix_timers(),
    )


# --- descriptors ----------------------------------------------------------------------------------


def open_descriptors() -> frozenset[int]:
    """Return the numbers of this process's open descriptors."""
    return frozenset(number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number))


def _is_open(descriptor: int) -> bool:
    """Return whether a descriptor is open: the listing includes its own descriptor, which is closed by now."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _describe(number: int) -> Descriptor | None:
    try:
        mode = os.fstat(number).st_mode
        target = os.readlink(f"/proc/self/fd/{number}")
        with open(f"/proc/self/fdinfo/{number}") as info:
            lines = [line.split() for line in info]
        flags = next((int(words[1], 8) for words in lines if words and words[0] == "flags:"), 0)
        locks = tuple(words[2] for words in lines if len(words) > 2 and words[0] == "lock:")
        is_plain = stat.S_ISREG(mode) and not locks and flags & os.O_ACCMODE != os.O_WRONLY
        return Descriptor(
            number,
            target,
            mode,
            flags,
            locks,
            _describe_socket(number) if stat.S_ISSOCK(mode) else None,
            can_reopen=not is_plain or bool(flags & os.O_APPEND) or _can_reopen(number, flags),
        )
    except OSError:
        return None  # a thread of the application has closed the descriptor meanwhile


def _can_reopen(number: int, flags: int) -> bool:
    try:
        os.close(os.open(f"/proc/self/fd/{number}", flags & os.O_ACCMODE | os.O_CLOEXEC))
    except OSError:
        return False
    return True


_TCP_CLOSE = 7
"""TCP_CLOSE in Linux's tcp_states.h: neither connected nor connecting."""


def _describe_socket(number: int) -> Socket:
    with socket.socket(fileno=os.dup(number)) as sock:
        local = _own_name(sock)
        port = local[1] if isinstance(local, tuple) and len(local) > 1 else 0
        try:
            peer = sock.getpeername()
        except OSError:
            peer = None
        state = SocketState.BOUND if local and port != 0 else SocketState.FREE
        is_unix = sock.family == socket.AF_UNIX
        if _is_listening(sock):
            state = SocketState.LISTENING
        elif peer is not None:
            is_pair = is_unix and not peer
            state = SocketState.PAIR if is_pair else SocketState.CONNECTED
        elif _is_connecting(sock):
            state = SocketState.CONNECTING
        is_addressed = port != 0 if not is_unix else bool(local)
        return Socket(
            int(sock.family),
            int(sock.type),
            state,
            _text(local) if is_addressed else "",
            _text(peer) if peer is not None else "a server",
            has_automatic_port=isinstance(port, int) and _is_automatic(port),
        )


def _own_name(sock: socket.socket) -> object:
    try:
        return sock.getsockname()
    except OSError:
        return None


def _is_listening(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _is_connecting(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_CLOSE
    except OSError:
        return False  # not a TCP socket


def _is_automatic(port: int) -> bool:
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        return False  # the range is unknown
    return first <= port <= last


def _text(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):
        return "@" + address.lstrip(b"\0").decode(errors="backslashreplace")
    return str(address)


# --- threads --------------------------------------------------------------------------------------


def _python_threads() -> tuple[PythonThread, ...]:
    frames = sys._current_frames()
    main = threading.main_thread()
    found = [
        PythonThread(thread.ident, thread.name, _place_of(frames.pop(thread.ident, None)))
        for thread in threading.enumerate()
        if thread is not main and thread.ident is not None
    ]
    found += [
        PythonThread(ident, "", _place_of(frame))
        for ident, frame in frames.items()
        if ident not in (main.ident, threading.get_ident())
    ]
    return tuple(found)


def _place_of(frame: object) -> str:
    """Return the outermost frame that is not in `threading`, where the code of the thread begins."""
    place = ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")  # type: ignore[attr-defined]
        if module != "threading":
            code = frame.f_code  # type: ignore[attr-defined]
            place = f"{module}, {code.co_filename}:{code.co_firstlineno}"
        frame = frame.f_back  # type: ignore[attr-defined]
    return place


def _native_threads(*, has_unknown: bool) -> tuple[NativeThread, ...]:
    """Return the threads that were not started by Python.

    Wait at most SETTLE_TIMEOUT until each has a name or a stack: a new thread has neither, and a thread that ends
    is listed for a moment. `has_unknown`: there are threads of `_thread`, which only their stacks distinguish from
    native threads.
    """
    tasks = native_tasks()
    if not tasks:
        return ()
    deadline = time.monotonic() + SETTLE_TIMEOUT
    libraries = _Libraries()
    own_name = _comm(os.getpid())
    while True:
        found: list[NativeThread] = []
        is_settled = True
        for task in tasks:
            stack = libraries.on_stack(task)
            name = _comm(task)
            if stack is None or name is None:
                continue  # the thread has ended
            if has_unknown and stack.has_python:
                continue
            name = "" if name == own_name else name
            is_settled = is_settled and bool(name or stack.names)
            found.append(NativeThread(name, stack.names))
        if is_settled or time.monotonic() > deadline:
            return tuple(found)
        time.sleep(_SETTLE_INTERVAL)
        tasks = native_tasks()


def native_tasks() -> list[int]:
    """Return the thread ids (gettid(2)) of threads that Python's `threading` has not started."""
    known = {thread.native_id for thread in threading.enumerate()}
    # On Python 3.11 the native id of the main thread is not updated after a fork.
    known.add(os.getpid())
    return [task for task in map(int, os.listdir("/proc/self/task")) if task not in known]


def _comm(task: int) -> str | None:
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return file.read().strip()
    except OSError:
        return None


class _Stack(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    has_python: bool


_OF_EVERYBODY = ("libc.", "libc-", "libpthread", "ld-", "libstdc++", "libm.", "libgcc_s", "[vdso]")
_PYTHON = ("libpython", "python")


class _Libraries:
    """Finds the libraries whose code is on the stack of a thread of this process, by the addresses on the stack."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ranges: list[tuple[int, str]] = []
        with open("/proc/self/maps") as file:
            for line in file:
                fields = line.split(None, 5)
                if "x" in fields[1] and len(fields) == 6:
                    first, _, end = fields[0].partition("-")
                    self._starts.append(int(first, 16))
                    self._ranges.append((int(end, 16), os.path.basename(fields[5].strip())))

    def on_stack(self, task: int) -> _Stack | None:
        """Return the libraries on the stack of a thread, innermost first; None when the thread has ended.

        The stack pointer is read from /proc/self/task/TID/syscall: proc_pid_syscall(5).
        """
        try:
            with open(f"/proc/self/task/{task}/syscall") as file:
                words = file.read().split()
        except FileNotFoundError:
            return None
        except OSError:
            return None if _has_ended(task) else _Stack((), has_python=False)
        if len(words) < 2:
            return _Stack((), has_python=False)  # the thread is running, not blocked
        names: list[str] = []
        for word in self._read(int(words[-2], 16)):
            at = bisect.bisect(self._starts, word) - 1
            if at >= 0 and word < self._ranges[at][0] and self._ranges[at][1] not in names:
                names.append(self._ranges[at][1])
        return _Stack(
            tuple(name for name in names if not name.startswith((*_OF_EVERYBODY, *_PYTHON))),
            has_python=any(name.startswith(_PYTHON) for name in names),
        )

    @staticmethod
    def _read(address: int) -> tuple[int, ...]:
        try:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                data = memory.read(_STACK_BYTES)
        except (OSError, ValueError, OverflowError):
            return ()
        size = struct.calcsize("P")
        return struct.unpack(f"{len(data) // size}P", data[: len(data) // size * size])


def _has_ended(task: int) -> bool:
    return not os.path.exists(f"/proc/self/task/{task}")


# --- processes and timers -------------------------------------------------------------------------


def _children() -> tuple[RunningChild, ...]:
    tracker = resource_tracker_pid()
    return tuple(
        RunningChild(pid, _command(pid), is_resource_tracker=pid == tracker)
        for pid in children_of(os.getpid())
        # A zombie is harmless.
        if process_state(pid) not in ("", "Z", "X")
    )


def resource_tracker_pid() -> int | None:
    """Return the pid of the resource tracker of multiprocessing, which cleans up shared memory; None: none runs."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(module, "_resource_tracker", None), "_pid", None)


def _tracker_pipe() -> int | None:
    """Return the descriptor of the resource tracker's pipe, which is harmless: processes write whole short messages
    to it, and only the tracker reads."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(module, "_resource_tracker", None), "_fd", None)


def _command(pid: int) -> str:
    try:
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while not (command := _command_line(pid)) and time.monotonic() < deadline:
            time.sleep(_SETTLE_INTERVAL)  # the process is within execve(2)
        if command == _command_line(os.getpid()):
            return _name_of_fork(pid)
    except OSError:
        return "it has ended"
    text = command.rstrip(b"\0").replace(b"\0", b" ").decode(errors="backslashreplace")
    return text if len(text) <= _COMMAND_LENGTH else text[:_COMMAND_LENGTH] + "…"


def _command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def _name_of_fork(pid: int) -> str:
    """Return the name that multiprocessing gives a forked child."""
    module = sys.modules.get("multiprocessing.process")
    for child in getattr(module, "_children", ()):
        if child.pid == pid:
            return f"{child.name} of multiprocessing"
    return "a fork"


def _posix_timers() -> int:
    try:
        with open("/proc/self/timers") as file:
            return sum(line.startswith("ID:") for line in file)
    except OSError:
        return 0  # the kernel was built without CONFIG_CHECKPOINT_RESTORE
