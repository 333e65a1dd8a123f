"""The PID file: written when the listeners stand, removed only while it still names this process."""

import os

from asgireload.errors import StartupError
from asgireload.supervisor.whole_files import replace_file


def write_pid_file(path: str) -> None:
    """Write this process's number. Raise StartupError; then nothing of it is left."""
    try:
        replace_file(path, f"{os.getpid()}\n".encode(), mode=0o666)
    except OSError as error:
        raise StartupError(f"--pid-file {path}: {error.strerror}") from error


def remove_pid_file(path: str) -> None:
    """Remove the file unless a successor has put its own number there."""
    try:
        with open(path) as file:
            ours = file.read().strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except FileNotFoundError:
        pass  # somebody has tidied up
