"""System calls and files that only Linux has.

All other code uses them through the functions here, so that a port to another system replaces them in one place.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
from collections.abc import Callable
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Make orphaned descendants become children of this process: PR_SET_CHILD_SUBREAPER in prctl(2)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_on_parent_death(number: signal.Signals) -> None:
    """Ask for signal `number` when the thread that is this process's parent ends: PR_SET_PDEATHSIG in prctl(2).

    The caller must check `os.getppid()` or `has_lost_peer` afterwards: the parent may have died just before.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def has_lost_peer(descriptor: int) -> bool:
    """Return whether the other end of a socket pair is closed, even with data left to read: POLLHUP in poll(2).

    A process that exits closes its descriptors before its children get the signal for its death.
    """
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MALLOC_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(mmap_from: int, trim_from: int) -> None:
    """Keep freed memory for later allocations instead of returning it to the system each time: mallopt(3).

    Blocks of up to `mmap_from` bytes come from the heap, whose free end is returned only when it has `trim_from`
    bytes. Forked processes inherit this. Does nothing if the C library is not glibc, or if the environment has
    settings for it.
    """
    if any(name in os.environ for name in _MALLOC_SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, mmap_from)
        mallopt(_M_TRIM_THRESHOLD, trim_from)


class _SignalStack(ctypes.Structure):
    """stack_t in sigaltstack(2)."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


_SIGNAL_STACK_BYTES = 256 * 1024
"""Room for every signal at once; only pages that are touched take memory."""
_signal_stack = ctypes.create_string_buffer(0)


def enlarge_signal_stack() -> None:
    """Give signal handlers of the main thread a stack on which they can nest: sigaltstack(2).

    Python runs its handlers on the alternate stack that faulthandler installs. On a CPU with wide registers that
    stack has room for a few frames: half a dozen different signals at one instant, as `pkill` in a loop sends them,
    overflow it, and the process dies of SIGSEGV. Call this after `faulthandler.enable()`; forked processes inherit
    the stack.
    """
    global _signal_stack
    buffer = ctypes.create_string_buffer(_SIGNAL_STACK_BYTES)
    stack = _SignalStack(ctypes.addressof(buffer), 0, _SIGNAL_STACK_BYTES)
    _set_signal_stack(ctypes.byref(stack))
    _signal_stack = buffer  # the kernel keeps its address, so it must not be freed


def _set_signal_stack(stack: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigaltstack(stack, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class ProcessHandle:
    """A process by descriptor, so that a signal cannot reach a later process with the same pid.

    Uses pidfd_open(2) and pidfd_send_signal(2). Owns the descriptor; `close()` is idempotent.
    """

    def __init__(self, pid: int) -> None:
        """Raise ProcessLookupError when there is no such process, OSError when no descriptor is left."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal. A process that has ended already is ignored."""
        if self._descriptor == -1:
            return
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            pass

    def wait_exit(self, timeout: float) -> bool:
        """Wait until the process has ended, at most `timeout` seconds; return whether it has ended."""
        return bool(select.select([self._descriptor], (), (), timeout)[0])

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process in bytes, None when it is gone: proc_pid_statm(5)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def process_state(pid: int) -> str:
    """Return the letter of a process's state, such as R or S; empty when it is gone: proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


_CAP_SYS_NICE = 23
_ORDINARY = (os.SCHED_OTHER, os.SCHED_BATCH)


def can_give_way() -> bool:
    """Return whether a child can be given low CPU priority, and its usual priority again afterwards.

    Leaving SCHED_IDLE takes the right to the process's nice value: RLIMIT_NICE, or CAP_SYS_NICE (sched(7),
    proc_pid_status(5)). Returns False also when an operator has chosen another scheduling policy, and when this
    cannot be determined.
    """
    try:
        return _may_give_way()
    except OSError:
        return False


def _may_give_way() -> bool:
    if os.sched_getscheduler(0) not in _ORDINARY:
        return False
    allowed, _ = resource.getrlimit(resource.RLIMIT_NICE)
    # RLIMIT_NICE is 20 - nice; RLIM_INFINITY is -1.
    if allowed == resource.RLIM_INFINITY or 20 - os.getpriority(os.PRIO_PROCESS, 0) <= allowed:
        return True
    with open("/proc/self/status", "rb") as file:
        capabilities = next(line for line in file if line.startswith(b"CapEff:"))
    return bool(int(capabilities.split()[1], 16) >> _CAP_SYS_NICE & 1)


def give_way(pid: int) -> None:
    """Let a process run only when no other process wants its CPU: SCHED_IDLE in sched(7).

    Threads and processes that it starts from now on inherit this. Raise OSError.
    """
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def stop_giving_way(pid: int) -> None:
    """Give a process, its threads and its descendants the scheduling policy of the caller. Ended ones are ignored.

    Raise PermissionError when that is not allowed.
    """
    ordinary = os.sched_getscheduler(0)
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        raised: set[int] = set()
        # A thread that was not changed yet may start another one meanwhile, so repeat until none is left.
        while lowered := {thread for thread in _threads(process) if _gives_way(thread)} - raised:
            for thread in lowered:
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, ordinary, os.sched_param(0))
            raised |= lowered
        waiting += children_of(process)


def _gives_way(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) == os.SCHED_IDLE
    except ProcessLookupError:
        return False


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def children_of(pid: int) -> list[int]:
    """Return the pids of the children of a process: proc_tid_children(5)."""
    found: list[int] = []
    for thread in _threads(pid):
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended
    if not found and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _children_by_parent(pid)
    return found


def _children_by_parent(pid: int) -> list[int]:
    """Return the pids of the children of a process on a kernel built without CONFIG_PROC_CHILDREN."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(name))
    return found


def descendants_of(pid: int) -> list[int]:
    """Return the pids of all descendants of a process."""
    found: list[int] = []
    waiting = children_of(pid)
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children_of(process)
    return found


def processor_of(pid: int) -> int | None:
    """Return the index of the CPU on which a process runs or last ran; None when it is gone: proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[36])
    except (FileNotFoundError, ProcessLookupError):
        return None


def move_to(processor: int) -> None:
    """Move this thread to a CPU, if it may run there; the kernel may move it again at any time.

    The kernel moves a thread at once when its mask excludes its CPU. The mask is restored before this thread does
    anything else, so the thread never counts too few CPUs and starts nothing with a narrowed mask. Masks of other
    threads do not change (sched_setaffinity(2)). Raise OSError.
    """
    allowed = os.sched_getaffinity(0)
    if processor not in allowed:
        return
    os.sched_setaffinity(0, {processor})
    # A mask that was set explicitly outlives the cpuset from which it was read (cpuset(7)): a container that is
    # given more CPUs would not get them here. So all CPUs are set, and the former mask only if it was narrower than
    # the cpuset.
    os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))
    if os.sched_getaffinity(0) != allowed:
        os.sched_setaffinity(0, allowed)


MOST_FILES = 1 << 20
"""The most that is asked for: hard limits of container runtimes may be a billion, and some programs loop over all
descriptors."""
_USUAL_FILES = 1024
"""The default soft limit of most systems."""


def started_at(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the system booted; None when there is no such
    process. No two processes have the same pid and start (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may contain anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def begun_at(pid: int) -> float | None:
    """Return when a process was started, in wall clock seconds; None when there is no such process.

    Accurate to a second, if the clock was not set since.
    """
    ticks = started_at(pid)
    if ticks is None:
        return None
    with open("/proc/stat") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def parent_of(pid: int) -> int | None:
    """Return the pid of a process's parent; None when there is none, or the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The second field is the name, in parentheses, and may contain anything.
            parent = int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None
    return parent or None


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as allowed (getrlimit(2)); return the limit in force.

    The usual soft limit of 1,024 is for programs that use select(2), which event loops do not. The limit stays as
    it is when it must not be changed.
    """
    soft, hard = _file_limits()
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # Python raises ValueError for EPERM
            return soft
        return wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def file_limit() -> int:
    """Return the present soft limit of open files of this process (getrlimit(2))."""
    soft, _ = _file_limits()
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def count_descriptors() -> int:
    """Return how many descriptors this process has open; 0 if that cannot be determined."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without the descriptor of this listing
    except OSError:
        return 0


def tasks_left(groups: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int | None:
    """Return how many processes and threads the control group may still start, None for no limit.

    The limit is pids.max of cgroup v2 (cgroups(7)), of this group and of its ancestors.
    """
    try:
        with open(groups) as file:
            found = [line[3:].strip() for line in file if line.startswith("0::")]
    except OSError:
        return None
    left: list[int] = []
    place = found[0].strip("/") if found else ""
    while found:
        try:
            with open(os.path.join(root, place, "pids.max")) as most:
                limit = most.read().strip()
            with open(os.path.join(root, place, "pids.current")) as current:
                used = int(current.read())
        except OSError:
            pass  # the root group has none
        else:
            if limit != "max":
                left.append(max(0, int(limit) - used))
        if not place:
            break
        place = os.path.dirname(place)
    return min(left, default=None)


def _file_limits() -> tuple[int, int]:
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:
        return _USUAL_FILES, _USUAL_FILES  # refused by a system call filter


class SystemCall(NamedTuple):
    """A system call that a filter may refuse (seccomp(2))."""

    name: str
    attempt: Callable[[], object]
    """Makes the call without an effect. Raises OSError when the call is refused."""


def has_filter() -> bool:
    """Return whether system calls of this process are filtered: proc_pid_status(5). True if this is unknown."""
    try:
        with open("/proc/self/status", "rb") as file:
            modes = [line.split()[1] for line in file if line.startswith(b"Seccomp:")]
    except OSError:
        return True
    return modes not in ([], [b"0"])


def leave_no_core() -> None:
    """Prevent a core dump of this process: PR_SET_DUMPABLE in prctl(2)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _try_memfd_create() -> None:
    os.close(os.memfd_create("asgireload-try", os.MFD_CLOEXEC))


def _try_pidfd_open() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _try_pidfd_send_signal() -> None:
    try:
        signal.pidfd_send_signal(-1, 0)
    except OSError as error:
        if error.errno != errno.EBADF:  # the kernel's answer for descriptor -1
            raise


def _try_waitid() -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _try_sigaltstack() -> None:
    _set_signal_stack(None)


def _try_flock() -> None:
    descriptor = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


NEEDED_CALLS = (
    SystemCall("prctl", become_subreaper),
    SystemCall("memfd_create", _try_memfd_create),
    SystemCall("pidfd_open", _try_pidfd_open),
    SystemCall("pidfd_send_signal", _try_pidfd_send_signal),
    SystemCall("waitid", _try_waitid),
    SystemCall("sigaltstack", _try_sigaltstack),
    SystemCall("flock", _try_flock),
)
"""Calls that the server needs. A process that must live may try them only if no filter kills it."""
PRIORITY_CALLS = (
    SystemCall("sched_getscheduler", lambda: os.sched_getscheduler(0)),
    SystemCall("getpriority", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
    SystemCall("prlimit64", lambda: resource.getrlimit(resource.RLIMIT_NICE)),
    SystemCall("sched_getaffinity", lambda: os.sched_getaffinity(0)),
    SystemCall("sched_setaffinity", lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
    # Last, because calls after it would run with low priority.
    SystemCall("sched_setscheduler", lambda: give_way(0)),
)
"""Calls that low CPU priority needs. Only for a child that exits afterwards: it has low priority from then on."""
