"""The PID file: written when the listeners stand, removed only while it still names this process."""

import os

from asgireload.errors import StartupError


def write_pid_file(path: str) -> None:
    """Write this process's number, in one rename so that nobody reads half of it. Raise StartupError."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(temporary, path)
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
