"""The command line: `asgireload APP [options]` serves, the other commands talk to a running server.

    0  clean end, or the command succeeded
    1  a reload failed or was reverted; status: the server is not at full strength
    2  usage: a flag, variable or file value cannot be used
    3  the server could not start; commands: no server was reached
    4  the server gave up on a crash loop
    5  the server has stopped, but the application's lifespan shutdown did not succeed

When the first argument is the name of a command, that command runs; anything else starts a server. An application
cannot be mistaken for a command, since its import string has a colon.

Modules that a server does not need are imported late: they would slow each start, and stay in the memory of the
supervisor.
"""

import sys
from collections.abc import Sequence

from asgireload.cli.commands import COMMAND_HELP, check_first_word, report
from asgireload.cli.streams import open_missing_streams
from asgireload.errors import AsgireloadError
from asgireload.supervisor import signals
from asgireload.supervisor.early_template import EarlyTemplate

_SERVES_NOTHING = frozenset(
    {"-h", "--help", "--help-all", "--version", "--print-config", "--check-config"}
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of the process) name; return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in COMMAND_HELP:
            return _control(words)
        check_first_word(words)
        return _begin_serving(words, is_program=arguments is None)
    except AsgireloadError as error:
        return report(str(error), error.exit_code)
    except KeyboardInterrupt:
        # Raised only when no server was started, or in a waiting command.
        return 130


def _control(words: Sequence[str]) -> int:
    from asgireload.cli.control import control
    from asgireload.cli.parsing import run_command

    status = run_command(control, words)
    return status if isinstance(status, int) else 0


def _begin_serving(words: Sequence[str], *, is_program: bool) -> int:
    open_missing_streams()
    # Signals are blocked until their handlers are set. Otherwise an early SIGHUP would end the process, and Ctrl-C
    # would interrupt an import, which some libraries do not survive.
    before = signals.hold()
    early_template = EarlyTemplate()
    try:
        if words and _SERVES_NOTHING.isdisjoint(words):
            early_template.begin(is_program=is_program)
        status = _serve(words, early_template)
        if is_program:
            # A signal would end the process with another status now.
            signals.ignore()
        return status
    finally:
        early_template.end()
        signals.restore(before)


def _serve(words: Sequence[str], early_template: EarlyTemplate) -> int:
    from asgireload.cli.serve import serve_words
    from asgireload.cli.words import Words, read_plain

    read: object = read_plain(words)
    if read is None:
        from asgireload.cli.command import serve_command
        from asgireload.cli.parsing import run_command

        read = run_command(serve_command, words)
    if isinstance(read, Words):
        return serve_words(read, early_template)
    return read if isinstance(read, int) else 0


if __name__ == "__main__":
    sys.exit(main())
