"""Standard streams that whoever started us has closed."""

import os
import sys


def open_missing_streams() -> None:
    """Let those that are closed lead to /dev/null, as daemon(3) does. Raise OSError.

    Otherwise what is opened next gets the number of one, and who prints writes into a socket of ours.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, and so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - stays open as long as we live
