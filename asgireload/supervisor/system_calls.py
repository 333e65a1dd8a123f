"""Which system calls this process may make when a filter refuses some (seccomp(2)).

Service managers and container runtimes install such filters: systemd's SystemCallFilter=, a seccomp profile of
Docker. Some filters refuse with an error, others kill the calling process. So if there is a filter, a child that is
forked for this purpose makes each call once, and reports the result or is killed. A refused call that the server
needs prevents the start, with its name in the error; other refused calls are not made.

Without a filter nothing is forked.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from asgireload.errors import StartupError
from asgireload.ipc.linux import (
    NEEDED_CALLS,
    PRIORITY_CALLS,
    SystemCall,
    has_filter,
    leave_no_core,
)
from asgireload.supervisor.spawning import has_one_thread

KILLS = "the filter kills the process that calls it"
UNKNOWN = "a filter is in force, and it cannot be tried while the process has other threads"
_BEGINS, _REFUSED = b"b", b"r"


def check_system_calls() -> Mapping[str, str]:
    """Return the calls for CPU priorities that must not be made, each with the reason.

    Raise StartupError for a refused call that the server needs.
    """
    if not has_filter():
        refuse(try_here(NEEDED_CALLS), is_filtered=False)
        return {}
    if not has_one_thread():
        refuse(try_here(NEEDED_CALLS), is_filtered=True)
        return {call.name: UNKNOWN for call in PRIORITY_CALLS}
    refused = try_in_child((*NEEDED_CALLS, *PRIORITY_CALLS))
    refuse(
        {call.name: refused[call.name] for call in NEEDED_CALLS if call.name in refused},
        is_filtered=True,
    )
    return refused


def refuse(refused: Mapping[str, str], *, is_filtered: bool) -> None:
    """Raise StartupError unless `refused` is empty. Pure."""
    if not refused:
        return
    what = "; ".join(f"{name} ({reason})" for name, reason in refused.items())
    advice = (
        "a system call filter is in force: allow these calls there, as systemd's"
        " SystemCallFilter=@system-service does"
        if is_filtered
        else "the server needs Linux 5.4 or later"
    )
    raise StartupError(f"needed system calls are refused: {what}; {advice}")


def try_here(calls: Sequence[SystemCall]) -> dict[str, str]:
    """Make each call in this process; return those that fail, with the reason."""
    refused = {}
    for call in calls:
        try:
            call.attempt()
        except OSError as error:
            refused[call.name] = error.strerror or str(error)
    return refused


def try_in_child(calls: Sequence[SystemCall]) -> dict[str, str]:
    """Make each call in a child, a new one after each that is killed; return those that fail, with the reason.

    Call only in a process with one thread. If no child can be forked, no call counts as refused.
    """
    refused: dict[str, str] = {}
    left = list(calls)
    while left:
        lines, was_killed = _report_of_child(left)
        begun = -1
        for line in lines:
            kind, _, text = line.partition(b" ")
            if kind == _BEGINS:
                begun = int(text)
            elif kind == _REFUSED:
                refused[left[begun].name] = text.decode()
        if not was_killed or begun < 0:
            break
        refused[left[begun].name] = KILLS
        left = left[begun + 1 :]
    return refused


def _report_of_child(calls: Sequence[SystemCall]) -> tuple[list[bytes], bool]:
    """Return a child's report on the calls, line by line, and whether SIGSYS has killed the child."""
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return [], False
    if child == 0:
        _be_child(calls, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    return lines, os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS


def _be_child(calls: Sequence[SystemCall], report: int) -> NoReturn:
    try:
        if calls[0] is not NEEDED_CALLS[0]:
            leave_no_core()
        for index, call in enumerate(calls):
            os.write(report, b"%s %d\n" % (_BEGINS, index))
            try:
                call.attempt()
                if call is NEEDED_CALLS[0]:  # prctl, which leave_no_core() calls
                    leave_no_core()
            except OSError as error:
                os.write(report, b"%s %s\n" % (_REFUSED, (error.strerror or str(error)).encode()))
    finally:
        os._exit(0)
