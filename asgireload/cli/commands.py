"""Names of the commands for a running server, and how a mistake is told. The first word decides what else is
imported."""

import os
import sys
from collections.abc import Sequence

from asgireload.errors import ConfigError, closest

COMMAND_HELP: dict[str, str] = {
    "reload": "Load the code again; --wait reports the result.",
    "reload-certificates": "Read the certificates again, without a reload.",
    "status": "Show generations, workers and the last reload.",
    "stop": "Stop gracefully; --wait waits for the end.",
    "scale": "Set the number of workers.",
}


def check_first_word(words: Sequence[str]) -> None:
    """Raise ConfigError for the mistyped name of a command, unless a module in the working directory has it.

    An import string has a colon, so a word without one is a mistake in any case.
    """
    word = words[0] if words else "-"
    if word.startswith("-") or ":" in word:
        return
    near = closest(word, COMMAND_HELP)
    if near is not None and not any(map(os.path.exists, (word, f"{word}.py"))):
        raise ConfigError(
            f'"{word}" is neither a command nor an application, as in main:app; did you mean the'
            f" command {near}?"
        )


def report(text: str, status: int) -> int:
    """Tell a mistake on standard error; return the exit status given."""
    print(f"asgireload: error: {text}", file=sys.stderr)
    return status
