"""`asgireload APP [options]`: settle the configuration, then hand it to the supervisor."""

import logging
import os
import platform
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import click

from asgireload import __version__
from asgireload.app import check_import_string
from asgireload.cli.control import COMMAND_HELP
from asgireload.cli.flags import flag_values, format_groups, option_flags
from asgireload.config import (
    OPTIONS,
    Config,
    FlagValue,
    Loaded,
    config_from_keywords,
    load_config,
    render_config,
)
from asgireload.errors import AppLoadError, ConfigError, LogConfigError
from asgireload.http import reader
from asgireload.http.access_format import check_format
from asgireload.log import begin_logging, read_user_config
from asgireload.net.addresses import check_addresses
from asgireload.supervisor import signals


def serve(config: Config) -> int:
    """Serve until told to stop; return the exit status."""
    # From now on a signal waits for its handler. Before, a reload asked for a moment too early would
    # end the process, as these signals do by default.
    signals.hold()
    # The supervisor brings the event loop and much else that help and checks do without.
    from asgireload.supervisor.loop import run

    return run(config)


def run_with_keywords(app: object, keywords: Mapping[str, object]) -> None:
    """Do what `asgireload.run()` does: serve, then end the process unless all went well.

    Raise ConfigError for keywords that cannot be used.
    """
    loaded = config_from_keywords(app, keywords, os.environ)
    check(loaded)
    announce(loaded)
    status = serve(loaded.config)
    if status:
        sys.exit(status)


def check(loaded: Loaded) -> None:
    """Raise ConfigError for what the option table cannot know: import strings, formats, addresses."""
    if not loaded.config.app:
        raise ConfigError("no application was given: asgireload APP, such as asgireload main:app")
    try:
        check_import_string(loaded.config.app)
    except AppLoadError as error:
        raise ConfigError(f"{loaded.origins['app']}: {error}") from error
    factory = loaded.config.ssl_context_factory
    if factory is not None:
        try:
            check_import_string(factory)
        except AppLoadError as error:
            raise ConfigError(f"{loaded.origins['ssl_context_factory']}: {error}") from error
    access_log_format = loaded.config.access_log_format
    if access_log_format is not None:
        try:
            check_format(access_log_format)
        except ConfigError as error:
            origin = loaded.origins["access_log_format"]
            raise ConfigError(
                f"{origin} access_log_format = {access_log_format!r}: {error}"
            ) from error
    check_addresses(loaded.config)


def announce(loaded: Loaded) -> None:
    """Log how the configuration came about. Raise LogConfigError when that cannot be logged."""
    begin_logging(loaded.config)
    logger = logging.getLogger("asgireload.error")
    for notice in loaded.notices:
        logger.info("%s", notice)
    for warning in loaded.warnings:
        logger.warning("%s", warning)


def is_compiled() -> bool:
    """Whether the modules that run for every request were compiled when the package was built."""
    return not (reader.__file__ or "").endswith(".py")


def version_text() -> str:
    """Return one line: our version, Python's, and which optional parts are installed."""
    parts = ", ".join(
        f"{name} {'installed' if find_spec(name) else 'not installed'}"
        for name in ("uvloop", "httptools")
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    build = "compiled" if is_compiled() else "pure Python"
    return f"asgireload {__version__} ({build}) with {python} on {platform.system()} ({parts})"


class _ServeCommand(click.Command):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        format_groups(self, ctx, formatter)
        with formatter.section("Commands for a running server"):
            formatter.write_dl(list(COMMAND_HELP.items()))


def _serve(
    *,
    app_argument: str | None,
    config_file: str | None,
    print_config: bool,
    check_config: bool,
    **values: object,
) -> int:
    flags = flag_values(serve_command, values)
    if app_argument is not None:
        flags.append(FlagValue("app", "APP", app_argument, OPTIONS["app"].kind))
    loaded = load_config(flags, os.environ, os.getcwd(), config_file)
    if print_config:
        click.echo(render_config(loaded), nl=False)
        return 0
    check(loaded)
    if check_config:
        if loaded.config.log_config is not None:
            try:
                read_user_config(loaded.config.log_config)
            except LogConfigError as error:
                raise ConfigError(f"{loaded.origins['log_config']}: {error}") from error
        for line in (*loaded.notices, *loaded.warnings):
            click.echo(line, err=True)
        click.echo("The configuration is valid.")
        return 0
    announce(loaded)
    return serve(loaded.config)


def _print_version(context: click.Context, _param: click.Parameter, asked: object) -> None:
    if asked and not context.resilient_parsing:
        click.echo(version_text())
        context.exit()


serve_command = _ServeCommand(
    "asgireload",
    callback=_serve,
    options_metavar="[OPTIONS]",
    context_settings={"max_content_width": 100},
    help="Serve the ASGI application APP, an import string such as main:app."
    "\n\nEvery option can also be set by a variable ASGIRELOAD_<OPTION>, in a TOML file (--config, or"
    " asgireload.toml), or under [tool.asgireload] in pyproject.toml.",
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
            help="Show every option with the place its value came from, and end.",
        ),
        click.Option(
            ["--check-config"],
            is_flag=True,
            help="Check the configuration and end: 0 when it can be used, else 2.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the version, and end.",
        ),
    ],
)
