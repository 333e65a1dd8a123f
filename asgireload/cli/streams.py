"""Open standard streams that are closed when the process starts."""

import os
import sys


def open_missing_streams() -> None:
    """Open closed standard streams on /dev/null, as daemon(3) does. Raise OSError.

    Otherwise a file or socket that is opened later would get the descriptor of a standard stream, and print() would
    write to it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # open(2) returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - stays open as long as we live
