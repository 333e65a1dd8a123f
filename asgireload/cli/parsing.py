"""Run a click command, and report usage errors in the format of asgireload."""

from collections.abc import Sequence

import click

from asgireload.cli.commands import report
from asgireload.cli.flags import explain_unknown


def run_command(command: click.Command, words: Sequence[str]) -> object:
    """Return the result of the command, or the exit status after a usage error has been reported."""
    try:
        return command.main(list(words), prog_name="asgireload", standalone_mode=False)
    except click.ClickException as error:
        return report(_explained(error), error.exit_code)
    except click.Abort:
        return report("interrupted", 130)


def _explained(error: click.ClickException) -> str:
    text = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        text = explain_unknown(error.option_name, error.ctx.command)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{text}\nTry '{error.ctx.command_path} --help'."
    return text
