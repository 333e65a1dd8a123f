"""Run a command of click's, and say its mistakes in our words."""

from collections.abc import Sequence

import click

from asgireload.cli.commands import report
from asgireload.cli.flags import explain_unknown

USAGE = 2


def run_command(command: click.Command, words: Sequence[str]) -> object:
    """Return what the command returns, or the exit status after its mistake has been told."""
    if not words:
        # Help, but as an answer to a mistake: on standard error, and not a success.
        with click.Context(command, info_name="asgireload") as context:
            click.echo(command.get_help(context), err=True)
        return USAGE
    try:
        return command.main(list(words), prog_name="asgireload", standalone_mode=False)
    except click.ClickException as error:
        return report(_explained(error), error.exit_code)
    except click.Abort:
        return report("interrupted", 130)


def _explained(error: click.ClickException) -> str:
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = explain_unknown(error.option_name) or text
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{text}\nTry '{error.ctx.command_path} --help'."
    return text
