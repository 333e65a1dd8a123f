"""Names of the commands for a running server, and error reports.

`cli/main.py` reads the first word with this module, and then imports only what its command needs.
"""

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
    """Raise ConfigError when the first word is a mistyped command, unless the working directory has a module of
    that name.

    Words with a colon are import strings. Other words without a similar command are reported later.
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
    """Print an error on standard error; return `status`, the exit status."""
    print(f"asgireload: error: {text}", file=sys.stderr)
    return status
