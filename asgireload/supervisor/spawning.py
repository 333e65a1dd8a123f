"""Start a fresh interpreter for a child, and say in words how one has ended."""

import os
import signal
import sys

from asgireload.ipc.quiet_signals import NOT_FOR_CHILDREN

TEMPLATE_MODULE = "asgireload.template.main"
CHANNEL_DESCRIPTOR = 3
"""Number of a child's channel in its own process."""


def spawn(module: str, channel: int) -> int:
    """Run `module` with `channel` as its only inherited descriptor; return its process number.

    Every other descriptor of ours closes itself on exec. Signals that the supervisor blocks or ignores
    are given back their defaults; those that are for the supervisor only are blocked until the child is ready
    for them (`begin_quiet`). Raise OSError.
    """
    arguments = [
        sys.executable,
        *_interpreter_options(),
        "-m",
        module,
        str(CHANNEL_DESCRIPTOR),
    ]
    return os.posix_spawn(
        sys.executable,
        arguments,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, channel, CHANNEL_DESCRIPTOR)],
        setsigmask=NOT_FOR_CHILDREN,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def _interpreter_options() -> list[str]:
    """Options of this interpreter that the application's must have as well.

    `-P` keeps the working directory out of the import path; the application's directory is put there
    by name.
    """
    options = ["-P", *(f"-W{option}" for option in sys.warnoptions)]
    if sys.flags.optimize:
        options.append("-" + "O" * sys.flags.optimize)
    for name, value in sys._xoptions.items():
        options += ["-X", name if value is True else f"{name}={value}"]
    return options


def describe_exit(code: int) -> str:
    """Return an exit code, negative for a signal, in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
