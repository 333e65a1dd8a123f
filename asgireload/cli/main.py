"""The command line: `asgireload APP [options]` serves, the other commands talk to a running server.

    0  clean end, or the command did what it was asked
    1  a reload failed or was reverted; status: the server is not at full strength
    2  usage: a flag, variable or file value cannot be used
    3  the server could not start; commands: no server was reached
    4  the server gave up on a crash loop

The first argument decides: the name of a command is that command, anything else begins serving. An
application cannot be mistaken for a command, since its import string has a colon.
"""

import sys
from collections.abc import Sequence

import click

from asgireload.cli.control import control
from asgireload.cli.flags import explain_unknown
from asgireload.cli.serve import serve_command
from asgireload.errors import AsgireloadError

USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of the process) name; return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: click.Command = serve_command
    if words and words[0] in control.commands:
        command = control
    elif not words:
        # Help, but as an answer to a mistake: on standard error, and not a success.
        with click.Context(command, info_name="asgireload") as context:
            click.echo(command.get_help(context), err=True)
        return USAGE
    try:
        status = command.main(words, prog_name="asgireload", standalone_mode=False)
    except click.ClickException as error:
        return _report(_explained(error, words, list(control.commands)), error.exit_code)
    except click.Abort:
        return _report("interrupted", 130)
    except AsgireloadError as error:
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        # Only before the server handles signals itself, or in a waiting command.
        return 130
    return status if isinstance(status, int) else 0


def _explained(error: click.ClickException, words: Sequence[str], commands: Sequence[str]) -> str:
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = explain_unknown(error.option_name) or text
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{text}\nTry '{error.ctx.command_path} --help'."
    return text


def _report(text: str, status: int) -> int:
    click.echo(f"asgireload: error: {text}", err=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
