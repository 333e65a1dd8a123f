"""The file to which a dying child writes its stacks, and how it is made readable.

faulthandler writes every frame, innermost first, and a header for each thread. Frames of the import machinery and
of the server's own files do not help the author of the code that hung or crashed.
"""

import os
from typing import NamedTuple

FAULT_LIMIT = 32_000
"""Bytes of a fault file that are read: the stacks of a few dozen threads."""

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f'"{os.path.join(_OWN, "supervisor", "spawning.py")}"'
"""The frame where a child without an interpreter of its own was forked: outer frames are those of the command."""
_NOISE = (f'"{_OWN}{os.sep}', '"<frozen importlib', '"<frozen runpy', f"{os.sep}importlib{os.sep}")


def make_fault_file(role: str) -> int:
    """Return a descriptor for the stacks of a child. The file is a memfd, so nothing remains on disk.

    Raise OSError.
    """
    return os.memfd_create(f"asgireload-{role}-fault", os.MFD_CLOEXEC)


_FAST_EXIT = f'"{os.path.join(_OWN, "worker", "fast_exit.py")}"'
_LOOP_END = f'"{os.path.join(_OWN, "worker", "loop_end.py")}"'
_STAGES = (
    (f"{_FAST_EXIT}", "in run_exit_handlers", "running exit handlers (atexit)"),
    (f"{_FAST_EXIT}", "in wait_for_threads", "waiting for threads"),
    (f"{_FAST_EXIT}", "in flush_files", "flushing open files"),
    (f"{_LOOP_END}", "in close_loop", "ending the tasks and the executor of its event loop"),
)
"""A file and function of the server on the stack of an exiting worker, and what the worker does in it."""


class Fault(NamedTuple):
    """What a dead child left in its fault file."""

    text: str
    """Its stacks, for a person; empty when it left none."""
    doing: str
    """What an exiting worker did last; empty when it was not exiting, or this is unknown."""


def read_fault_file(descriptor: int) -> Fault:
    """Return what a dead child left in its fault file, and close the descriptor."""
    text = os.pread(descriptor, FAULT_LIMIT, 0).decode("utf-8", "replace")
    os.close(descriptor)
    return Fault(readable(text), exit_stage(text))


def exit_stage(fault: str) -> str:
    """Return what an exiting worker did last, from faulthandler's report; empty when unknown. Pure."""
    for line in fault.splitlines():
        for file, function, stage in _STAGES:
            if file in line and line.endswith(function):
                return stage
    if "<no Python frame>" in fault:
        return "dropping its objects, as Python does at the end of a program"
    return ""


def readable(fault: str) -> str:
    """Return faulthandler's report with only the application's frames. Pure.

    The first line of a SIGABRT report is left out as well: the supervisor sent that signal to get the stacks.
    """
    lines = []
    is_outside = False
    for line in fault.splitlines():
        is_outside = line.startswith("  File ") and (is_outside or _PROGRAM in line)
        if is_outside:
            continue
        if line.startswith(("Extension modules:", "Fatal Python error: Aborted")):
            continue
        if line.startswith("  File ") and any(noise in line for noise in _NOISE):
            continue
        lines.append(line)
    return "\n".join(lines).strip()
