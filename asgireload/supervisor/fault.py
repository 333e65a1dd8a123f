"""Make the stacks that a dying child left behind readable. Pure.

faulthandler writes every frame, innermost first, and a header for each thread. Frames of the import
machinery and of the server's own files say nothing to the person whose code hung or crashed.
"""

import os

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NOISE = (f'"{_OWN}{os.sep}', '"<frozen importlib', '"<frozen runpy', f"{os.sep}importlib{os.sep}")


def readable(fault: str) -> str:
    """Return faulthandler's report without frames that are not the application's.

    A report of SIGABRT loses its first line as well: the supervisor sent that signal to get the stacks.
    """
    lines = []
    for line in fault.splitlines():
        if line.startswith(("Extension modules:", "Fatal Python error: Aborted")):
            continue
        if line.startswith("  File ") and any(noise in line for noise in _NOISE):
            continue
        lines.append(line)
    return "\n".join(lines).strip()
