"""The click command that serves: help, --check-config, and every command line that `read_plain` does not parse."""

import platform
from importlib.util import find_spec

import click

from asgireload import __version__
from asgireload.cli.commands import COMMAND_HELP, report
from asgireload.cli.flags import flag_values, format_common, format_groups, option_flags
from asgireload.cli.serve import check, load_words
from asgireload.cli.words import Words
from asgireload.config import render_config
from asgireload.errors import ConfigError
from asgireload.http1 import reader


def is_compiled() -> bool:
    """Return whether the modules that run for each request were compiled when the package was built."""
    return not (reader.__file__ or "").endswith(".py")


def version_text() -> str:
    """Return one line with the versions of asgireload and Python, and the optional packages that are installed."""
    parts = ", ".join(
        f"{name} {'installed' if find_spec(name) else 'not installed'}"
        for name in ("uvloop", "httptools")
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    build = "compiled" if is_compiled() else "pure Python"
    return f"asgireload {__version__} ({build}) with {python} on {platform.system()} ({parts})"


class _ServeCommand(click.Command):
    shows_all = False

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands for a running server"):
            formatter.write_dl(list(COMMAND_HELP.items()))
        if self.shows_all:
            format_groups(self, ctx, formatter)
        else:
            format_common(self, ctx, formatter)


class _WholeHelp(_ServeCommand):
    """The command that serves, with a help text that shows every option."""

    shows_all = True


def _read(
    *,
    app_argument: str | None,
    config_file: str | None,
    print_config: bool,
    check_config: bool,
    **values: object,
) -> Words | int:
    """Return the command line of a server, or the exit status after --print-config or --check-config."""
    words = Words(app_argument, config_file, flag_values(serve_command, values))
    if print_config:
        click.echo(render_config(load_words(words)), nl=False)
        return 0
    if not check_config:
        return words
    # Imported late: --help and --version do not need these modules.
    from asgireload.cli.checking import look_around
    from asgireload.supervisor.start import launch_directory

    loaded = load_words(words)
    check(loaded)
    findings = look_around(loaded, launch_directory())
    for line in (*loaded.notices, *loaded.warnings, *findings.doubts):
        click.echo(line, err=True)
    if findings.problems:
        for problem in findings.problems:
            report(problem, ConfigError.exit_code)
        return ConfigError.exit_code
    click.echo("The configuration is valid.")
    return 0


def _print_whole_help(context: click.Context, param: click.Parameter, asked: object) -> None:
    if asked and not context.resilient_parsing:
        whole = _WholeHelp(
            serve_command.name,
            options_metavar=serve_command.options_metavar,
            help=serve_command.help,
            params=serve_command.params,
        )
        click.echo(whole.get_help(context))
        context.exit()


def _print_version(context: click.Context, _param: click.Parameter, asked: object) -> None:
    if asked and not context.resilient_parsing:
        click.echo(version_text())
        context.exit()


serve_command = _ServeCommand(
    "asgireload",
    callback=_read,
    options_metavar="[OPTIONS]",
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="Serve the ASGI application APP, an import string such as main:app."
    "\n\nEvery option can also be set by a variable ASGIRELOAD_<OPTION>, in a TOML file (--config, or"
    " asgireload.toml), or under [tool.asgireload] in pyproject.toml. If the first argument is a"
    " command, asgireload controls a running server: see asgireload COMMAND --help.",
    params=[
        click.Argument(["app_argument"], required=False, metavar="[APP]"),
        *option_flags(),
        click.Option(
            ["config_file", "-c", "--config"],
            metavar="FILE",
            help="Read options from this TOML file.",
        ),
        click.Option(
            ["--print-config"],
            is_flag=True,
            help="Show every option with the origin of its value, and exit.",
        ),
        click.Option(
            ["--check-config"],
            is_flag=True,
            help="Check the configuration and the files and modules that it names, and exit: with 0 if it can be"
            " used, else with 2. Nothing is imported, and no address is opened.",
        ),
        click.Option(
            ["--help-all"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_whole_help,
            help="Show every option, and exit.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the version, and exit.",
        ),
    ],
)
