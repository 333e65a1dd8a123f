"""The file that a dying child leaves its stacks in, and what is readable of them.

faulthandler writes every frame, innermost first, and a header for each thread. Frames of the import
machinery and of the server's own files say nothing to the person whose code hung or crashed.
"""

import os

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


def read_fault_file(descriptor: int) -> str:
    """Return what a dead child left there, made readable, and close it."""
    text = os.pread(descriptor, FAULT_LIMIT, 0).decode("utf-8", "replace")
    os.close(descriptor)
    return readable(text)


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
