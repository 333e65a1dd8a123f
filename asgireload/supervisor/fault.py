"""The file that a dying child leaves its stacks in, and what is readable of them.

faulthandler writes every frame, innermost first, and a header for each thread. Frames of the import
machinery and of the server's own files say nothing to the person whose code hung or crashed.
"""

import os
from typing import NamedTuple

FAULT_LIMIT = 32_000
"""Bytes of a fault file that are read: the stacks of a few dozen threads."""

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = f'"{os.path.join(_OWN, "supervisor", "spawning.py")}"'
"""Where a child was forked that has had no interpreter of its own: what lies outside is the command line."""
_NOISE = (f'"{_OWN}{os.sep}', '"<frozen importlib', '"<frozen runpy', f"{os.sep}importlib{os.sep}")


def make_fault_file(role: str) -> int:
    """Return a descriptor that a child writes its stacks to; shared memory, so nothing stays behind.

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
"""File and function of ours that are on the stack of a worker that exits, and what it is doing then."""


class Fault(NamedTuple):
    """What a dead child left in its fault file."""

    text: str
    """Its stacks, for a person; empty: it left none."""
    doing: str
    """What the exit of a worker had come to; empty: it did not exit, or nobody can tell."""


def read_fault_file(descriptor: int) -> Fault:
    """Return what a dead child left there, and close it."""
    text = os.pread(descriptor, FAULT_LIMIT, 0).decode("utf-8", "replace")
    os.close(descriptor)
    return Fault(readable(text), exit_stage(text))


def exit_stage(fault: str) -> str:
    """Return what the exit of a worker had come to, from faulthandler's report. Pure."""
    for line in fault.splitlines():
        for file, function, stage in _STAGES:
            if file in line and line.endswith(function):
                return stage
    if "<no Python frame>" in fault:
        return "dropping its objects, as Python does at the end of a program"
    return ""


def readable(fault: str) -> str:
    """Return faulthandler's report without frames that are not the application's. Pure.

    A report of SIGABRT loses its first line as well: the supervisor sent that signal to get the stacks.
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
