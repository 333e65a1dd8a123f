"""Things that an import can leave behind and that a fork breaks or shares: a table of them, and decisions. Pure.

`hazard_search.py` examines this process and makes the values that are judged here. `worker/inherited.py` carries
out what a worker has to do. docs/explanation/imports.md shows the table, and tests/template/test_hazard_table.py
checks that each row has its test.
"""

import os
import re
import socket
import stat
from collections.abc import Iterable
from enum import Enum

import msgspec


class Action(Enum):
    """What is done about a thing that an import has left behind."""

    FALL_BACK = "preloading is given up"
    RENEW = "each worker gets its own"
    TEMPLATE = "belongs to the template; workers do not clean it up"
    KEEP = "stays as it is"


class Row(msgspec.Struct, frozen=True):
    """One kind of thing that an import can leave behind."""

    kind: str
    seen_by: str
    fork_does: str
    action: Action
    test: str
    """The name of its test."""


TABLE = (
    Row(
        "Python thread",
        "`threading.enumerate()`, and `sys._current_frames()` for `_thread.start_new_thread`",
        "the thread does not exist in a worker; a lock that it held stays locked",
        Action.FALL_BACK,
        "test_a_thread_of_the_low_level_module_is_found",
    ),
    Row(
        "native thread",
        "/proc/self/task; its name, and the libraries on its stack",
        "the thread does not exist in a worker: a pool hangs, a producer loses its messages",
        Action.FALL_BACK,
        "test_a_native_thread_is_named_with_its_library",
    ),
    Row(
        "native thread that survives",
        "the same, and the list in `SURVIVING_THREADS`",
        "the library starts it again in the worker, or does not need it there",
        Action.KEEP,
        "test_native_threads_that_are_known_to_survive",
    ),
    Row(
        "child process",
        "/proc/self/task/*/children",
        "it is not a child of the worker: `poll()` and `wait()` fail, and several processes use its pipes",
        Action.FALL_BACK,
        "test_a_child_process_is_named_with_its_command",
    ),
    Row(
        "resource tracker",
        "the pid that multiprocessing records for it",
        "workers share it, as multiprocessing intends: it ends with the last worker",
        Action.KEEP,
        "test_the_resource_tracker_of_multiprocessing_is_harmless",
    ),
    Row(
        "event loop",
        "a descriptor of epoll",
        "one set of registrations for all workers: each wakes up for the files of the others",
        Action.FALL_BACK,
        "test_an_event_loop_made_at_import_is_found",
    ),
    Row(
        "kernel object",
        "a descriptor of eventfd, timerfd, inotify, io_uring or an unknown kind",
        "one counter or queue for all workers: an entry that one reads is lost for the others",
        Action.FALL_BACK,
        "test_a_counter_or_queue_of_the_kernel_is_found",
    ),
    Row(
        "pipe",
        "a descriptor of pipe(2), or a named pipe open for reading",
        "one pipe for all workers: one reads the data of another (`multiprocessing.Queue`, executors)",
        Action.FALL_BACK,
        "test_a_process_pool_that_was_not_used_yet_is_found",
    ),
    Row(
        "connection",
        "a stream socket that is connected or connecting",
        "one connection for all workers: answers go to the wrong worker",
        Action.FALL_BACK,
        "test_a_connection_is_named_with_its_peer",
    ),
    Row(
        "socket pair",
        "a connected Unix socket whose peer has no name",
        "as a pipe",
        Action.FALL_BACK,
        "test_a_socket_pair_of_any_type_is_found",
    ),
    Row(
        "listening socket",
        "SO_ACCEPTCONN",
        "each worker would take some of the connections",
        Action.FALL_BACK,
        "test_a_listening_socket_is_named_with_its_address",
    ),
    Row(
        "datagram socket with an address",
        "a port outside net.ipv4.ip_local_port_range, or a Unix address",
        "each worker would take some of the datagrams",
        Action.FALL_BACK,
        "test_a_datagram_socket_with_an_address_is_found",
    ),
    Row(
        "datagram socket",
        "a UDP socket with a port that the kernel has chosen",
        "answers go to the wrong worker",
        Action.RENEW,
        "test_workers_have_datagram_sockets_of_their_own",
    ),
    Row(
        "log socket",
        "a Unix datagram socket without an address",
        "nothing: datagrams of several processes do not mix, and there are no answers",
        Action.KEEP,
        "test_harmless",
    ),
    Row(
        "other socket",
        "netlink, raw and packet sockets",
        "each worker would take some of the messages",
        Action.FALL_BACK,
        "test_a_netlink_socket_is_found",
    ),
    Row(
        "file that is read",
        "a regular file open for reading",
        "one offset for all workers: a read in one moves it for the others (`zipfile.ZipFile`)",
        Action.RENEW,
        "test_workers_have_offsets_of_their_own",
    ),
    Row(
        "file that cannot be opened again",
        "the same, and an attempt to open it through /proc/self/fd fails",
        "the same",
        Action.FALL_BACK,
        "test_a_file_that_cannot_be_opened_again_is_found",
    ),
    Row(
        "file that is written",
        "a regular file open for writing only, or for appending",
        "one offset for all workers, so that they do not overwrite each other; text in the buffer of the file "
        "would be written by each, so it is written before the fork",
        Action.KEEP,
        "test_text_that_was_written_at_import_is_written_once",
    ),
    Row(
        "file lock of a process",
        "a line of the kind POSIX in /proc/self/fdinfo (fcntl, lockf; DuckDB, LMDB, SQLite in WAL mode)",
        "workers do not have it",
        Action.FALL_BACK,
        "test_a_lock_of_the_process_is_found",
    ),
    Row(
        "file lock of a descriptor",
        "lines of the kinds FLOCK and OFDLCK",
        "workers share it, until the last one has ended",
        Action.KEEP,
        "test_a_lock_of_a_descriptor_stays",
    ),
    Row(
        "GPU",
        "a device file of CUDA or ROCm",
        "its driver refuses to work in a forked process",
        Action.FALL_BACK,
        "test_devices_of_a_gpu_are_found",
    ),
    Row(
        "mapped file",
        "not looked for",
        "private mappings are copied; shared ones stay shared, as intended",
        Action.KEEP,
        "test_harmless",
    ),
    Row(
        "signal handler",
        "`signal.getsignal` before and after",
        "it is kept, except for SIGTERM and the signals that the supervisor handles",
        Action.RENEW,
        "test_signals_and_timers_that_were_set_at_import_hold_in_workers",
    ),
    Row(
        "interval timer",
        "`signal.getitimer`",
        "a worker has none",
        Action.RENEW,
        "test_signals_and_timers_that_were_set_at_import_hold_in_workers",
    ),
    Row(
        "POSIX timer",
        "/proc/self/timers",
        "a worker has none",
        Action.FALL_BACK,
        "test_a_posix_timer_is_found",
    ),
    Row(
        "finalizer",
        "the registry of `weakref.finalize` (`tempfile.TemporaryDirectory`), and that of multiprocessing",
        "each worker has a copy, and the first one that exits would clean up for all",
        Action.TEMPLATE,
        "test_temporary_files_of_an_import_live_as_long_as_their_generation",
    ),
    Row(
        "finalizer that calls nothing",
        "the same registry, and the code of its function (Django's signals)",
        "each worker has a copy, which cannot remove anything",
        Action.KEEP,
        "test_a_finalizer_that_calls_nothing_cleans_up_nothing",
    ),
    Row(
        "exit handler that removes",
        "`atexit`: a function that names `rmtree`, `unlink`, `terminate` and the like",
        "as a finalizer",
        Action.TEMPLATE,
        "test_temporary_files_of_an_import_live_as_long_as_their_generation",
    ),
    Row(
        "exit handler",
        "`atexit`: any other function (Sentry, OpenTelemetry, logging)",
        "each worker has a copy, and its own data to write",
        Action.RENEW,
        "test_exit_handlers_run_in_each_worker_and_nothing_is_cleared_away",
    ),
    Row(
        "__del__",
        "objects that were there before the fork",
        "as a finalizer (`tempfile.NamedTemporaryFile`)",
        Action.TEMPLATE,
        "test_temporary_files_of_an_import_live_as_long_as_their_generation",
    ),
    Row(
        "fork hook",
        "not looked for",
        "`os.register_at_fork` is called, once for each worker",
        Action.RENEW,
        "test_hooks_of_a_fork_run_once_and_in_the_worker",
    ),
    Row(
        "random numbers",
        "numpy's global generator; Python reseeds its own generators",
        "the same numbers in each worker",
        Action.RENEW,
        "test_random_numbers_differ_between_workers",
    ),
)

ACTIONS = {row.kind: row.action for row in TABLE}


class Survivor(msgspec.Struct, frozen=True):
    """A native thread whose loss does no harm in a worker."""

    pattern: str
    """A regular expression that matches the name of the thread, or of a library on its stack."""
    why: str
    tried_with: str


SURVIVING_THREADS = (
    Survivor(
        r"^lib(scipy_)?openblas",
        "OpenBLAS ends its threads before a fork and starts them again when they are needed (pthread_atfork)",
        "numpy 2.4.6",
    ),
    Survivor(
        r"^jemalloc_bg_thd",
        "jemalloc starts its background threads again in the child (pthread_atfork)",
        "polars 2.1.0, pyarrow 26.0.1",
    ),
    Survivor(
        r"^libarrow\.",
        "Arrow creates its thread pools again in the child (pthread_atfork)",
        "pyarrow 26.0.1",
    ),
    Survivor(
        r"^tokenizers\.",
        "tokenizers works on one thread after a fork (pthread_atfork)",
        "tokenizers 0.23.3",
    ),
    Survivor(
        r"^polars-ooc",
        "it removes spilled files of queries; once a query has run there are other threads, too",
        "polars 2.1.0",
    ),
)
_SURVIVES = re.compile("|".join(survivor.pattern for survivor in SURVIVING_THREADS))


class SocketState(Enum):
    """The state of a socket, as getsockname(2), getpeername(2), SO_ACCEPTCONN and TCP_INFO report it."""

    FREE = "neither bound nor connected"
    BOUND = "bound"
    LISTENING = "listening"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    PAIR = "socket pair"


class Socket(msgspec.Struct, frozen=True):
    """A socket that an import has opened."""

    family: int
    type: int
    state: SocketState
    local: str = ""
    peer: str = ""
    has_automatic_port: bool = False
    """The kernel has chosen the local port."""


class Descriptor(msgspec.Struct, frozen=True):
    """A descriptor that an import has opened, as fstat(2), /proc/self/fd and /proc/self/fdinfo describe it."""

    number: int
    target: str
    mode: int
    flags: int
    locks: tuple[str, ...] = ()
    """Kinds of the locks that this process holds through the descriptor: POSIX, FLOCK, OFDLCK, LEASE."""
    socket: Socket | None = None
    can_reopen: bool = True


class PythonThread(msgspec.Struct, frozen=True):
    """A thread that was started by `threading` or `_thread`."""

    ident: int
    name: str
    """Empty for a thread that `threading` does not list."""
    place: str
    """Module, file and line of the code of the thread; empty: it runs no Python code now."""


class NativeThread(msgspec.Struct, frozen=True):
    """A thread that was not started by Python."""

    name: str
    """The name that the library has given the thread; empty: the thread has the name of the process."""
    libraries: tuple[str, ...]
    """File names of the libraries on the stack, innermost first, without the C library and Python."""


class RunningChild(msgspec.Struct, frozen=True):
    """A child process that an import has started."""

    pid: int
    command: str
    is_resource_tracker: bool = False


class Contents(msgspec.Struct, frozen=True):
    """Threads, children, descriptors and timers that an import has left in this process."""

    threads: tuple[PythonThread, ...] = ()
    native_threads: tuple[NativeThread, ...] = ()
    children: tuple[RunningChild, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    posix_timers: int = 0


class Finding(msgspec.Struct, frozen=True):
    """One thing that an import has left behind."""

    kind: str
    """The kind of a row of `TABLE`."""
    text: str
    """A description for the log."""
    descriptor: int = -1
    thread: int = -1
    pid: int = -1

    @property
    def action(self) -> Action:
        return ACTIONS[self.kind]


def judge(contents: Contents) -> list[Finding]:
    """Return one finding for each thing in `contents` that is in the table; harmless descriptors have none."""
    return [
        *map(judge_thread, contents.threads),
        *map(judge_native_thread, contents.native_threads),
        *map(judge_child, contents.children),
        *filter(None, map(judge_descriptor, contents.descriptors)),
        *(
            [Finding("POSIX timer", "a timer was made at import (timer_create)")]
            if contents.posix_timers
            else []
        ),
    ]


_MOST_HOLDERS = 3
"""Most holders that one reason names."""


def group_reasons(reasons: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return each text of `reasons`, pairs of text and holder, once, with its holders in their order.

    Otherwise a library with three loops and their socket pairs would fill the line. A holder may be empty. Equal
    texts are not counted, since each end of a socket pair is a reason.
    """
    holders: dict[str, list[str]] = {}
    for text, holder in reasons:
        names = holders.setdefault(text, [])
        if holder and holder not in names:
            names.append(holder)
    grouped = []
    for text, names in holders.items():
        more = f" and {len(names) - _MOST_HOLDERS} more" if len(names) > _MOST_HOLDERS else ""
        held = f", held by {', '.join(names[:_MOST_HOLDERS])}{more}" if names else ""
        grouped.append(f"{text}{held}")
    return tuple(grouped)


def judge_thread(thread: PythonThread) -> Finding:
    """Return the finding for a thread of Python."""
    name = f"thread {thread.name!r}" if thread.name else "a thread of the module _thread"
    place = f" ({thread.place})" if thread.place else ""
    return Finding("Python thread", f"{name} was started at import{place}", thread=thread.ident)


def judge_native_thread(thread: NativeThread) -> Finding:
    """Return the finding for a native thread, which depends on whether it survives a fork."""
    names = (thread.name, *thread.libraries)
    survives = any(name and _SURVIVES.search(name) for name in names)
    # The outermost library is the one that has started the thread.
    owner = thread.libraries[-1] if thread.libraries else ""
    text = " of ".join(filter(None, (repr(thread.name) if thread.name else "", owner)))
    if survives:
        return Finding("native thread that survives", text)
    return Finding(
        "native thread",
        f"native thread {text or 'of an unknown library'} was started at import, "
        "and is not known to survive a fork",
    )


def judge_child(child: RunningChild) -> Finding:
    """Return the finding for a child process."""
    text = f"process {child.pid} ({child.command}) was started at import"
    kind = "resource tracker" if child.is_resource_tracker else "child process"
    return Finding(kind, text, pid=child.pid)


_UNNAMED = "anon_inode:"
_HARMLESS_OBJECTS = ("[pidfd]", "[signalfd]", "[perf_event]", "bpf", "sync_file", "dmabuf")
"""The process of a pidfd is found as a child; a signalfd reads the signals of the process that calls read(2)."""
_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/render", "/dev/accel")


def judge_descriptor(descriptor: Descriptor) -> Finding | None:
    """Return what a descriptor means for a fork; None: it is harmless."""
    target, mode = descriptor.target, descriptor.mode

    def finding(kind: str, text: str) -> Finding:
        return Finding(kind, text, descriptor=descriptor.number)

    if target.startswith(_UNNAMED):
        name = target.removeprefix(_UNNAMED)
        if name == "[eventpoll]":
            return finding("event loop", "an event loop or selector was made at import")
        if name.startswith(_HARMLESS_OBJECTS):
            return None
        return finding("kernel object", f"{name.strip('[]')} of the kernel was opened at import")
    if descriptor.socket is not None:
        return _judge_socket(descriptor.number, descriptor.socket)
    is_read = descriptor.flags & os.O_ACCMODE != os.O_WRONLY
    if stat.S_ISFIFO(mode):
        if target.startswith("pipe:"):
            return finding("pipe", "a pipe was made at import (a queue, an executor, a process)")
        return finding("pipe", f"{target} is read since the import") if is_read else None
    if stat.S_ISCHR(mode):
        if target.startswith(_GPU_DEVICES):
            return finding("GPU", f"{target} was opened at import")
        return None
    if stat.S_ISREG(mode):
        return _judge_file(descriptor, is_read=is_read)
    return None


def _judge_file(descriptor: Descriptor, *, is_read: bool) -> Finding:
    number, target = descriptor.number, descriptor.target
    if {"POSIX", "LEASE"} & set(descriptor.locks):
        text = f"a lock on {target} was taken at import, which forked processes do not have"
        return Finding("file lock of a process", text, descriptor=number)
    if descriptor.locks:
        return Finding("file lock of a descriptor", f"{target} is locked", descriptor=number)
    if not is_read or descriptor.flags & os.O_APPEND:
        return Finding("file that is written", f"{target} is written", descriptor=number)
    if not descriptor.can_reopen:
        text = f"{target} was opened at import and cannot be opened again, so its offset would be shared"
        return Finding("file that cannot be opened again", text, descriptor=number)
    return Finding("file that is read", f"{target} is read", descriptor=number)


def _judge_socket(number: int, sock: Socket) -> Finding | None:
    def finding(kind: str, text: str) -> Finding:
        return Finding(kind, text, descriptor=number)

    if sock.state is SocketState.PAIR:
        return finding(
            "socket pair", "a socket pair was made at import (an event loop, or a child process)"
        )
    if sock.state is SocketState.LISTENING:
        text = f"a socket was opened at import that listens on {sock.local}"
        return finding("listening socket", text)
    is_internet = sock.family in (socket.AF_INET, socket.AF_INET6)
    is_datagram = sock.type == socket.SOCK_DGRAM
    if not is_internet and sock.family not in (socket.AF_UNIX, socket.AF_VSOCK):
        return finding("other socket", "a netlink, raw or packet socket was opened at import")
    if is_internet and sock.type == socket.SOCK_RAW:
        return finding("other socket", "a raw socket was opened at import")
    if not is_datagram:
        if sock.state in (SocketState.CONNECTED, SocketState.CONNECTING):
            return finding("connection", f"a connection to {sock.peer} was opened at import")
        return None
    if not sock.local:
        return finding("log socket", "datagrams are sent") if not is_internet else None
    if is_internet and sock.has_automatic_port:
        return finding("datagram socket", f"datagrams are sent to {sock.peer}")
    text = f"a datagram socket with the address {sock.local} was opened at import"
    return finding("datagram socket with an address", text)
