"""Flags made from the option table, and their help."""

from collections.abc import Mapping

import click

from asgireload.config import OPTIONS, FlagValue, Option
from asgireload.config.foreign import explain_flag
from asgireload.config.kinds import Kind, Several
from asgireload.config.options import GROUPS
from asgireload.errors import closest

_SCALED = "__scaled_"

COMMON = (
    "app_dir",
    "factory",
    "host",
    "port",
    "uds",
    "bind",
    "workers",
    "reload",
    "ssl_certfile",
    "ssl_keyfile",
    "forwarded_allow_ips",
    "drain_timeout",
    "admin_port",
    "log_level",
    "access_log",
)
"""The options that most servers need: --help shows these, and --help-all shows every option."""


class OptionFlag(click.Option):
    """A flag of one row of the option table. click only splits the words; the kind of the row parses the value."""

    def __init__(self, option: Option, kind: Kind, names: tuple[str, ...], param: str) -> None:
        self.option = option
        self.kind = kind
        text = option.help + (f"  [default: {shown}]" if (shown := default_text(option)) else "")
        if option.is_pair:
            super().__init__(
                [param, f"{option.flag}/--no-{option.flag[2:]}", *names[1:]],
                default=None,
                help=text,
            )
        else:
            super().__init__(
                [param, *names],
                default=None,
                type=click.UNPROCESSED,
                multiple=isinstance(kind, Several),
                metavar=kind.metavar,
                help=text,
            )


def option_flags() -> list[click.Parameter]:
    """Return a click parameter for every row of the option table, and for its aliases in other units."""
    flags: list[click.Parameter] = []
    for option in OPTIONS.values():
        flags.append(OptionFlag(option, option.kind, (option.flag, *option.aliases), option.name))
        for alias, kind in option.scaled_aliases.items():
            scaled = OptionFlag(option, kind, (alias,), _SCALED + alias[2:].replace("-", "_"))
            scaled.help = f"The same as {option.flag}, in MiB."
            flags.append(scaled)
    return flags


def flag_values(command: click.Command, values: Mapping[str, object]) -> list[FlagValue]:
    """Return the flags that were given on the command line; `values` are click's values by parameter name."""
    given: list[FlagValue] = []
    for param in command.params:
        raw = values.get(param.name or "")
        if isinstance(param, OptionFlag) and raw is not None and raw != ():
            given.append(FlagValue(param.option.name, _longest(param, raw), raw, param.kind))
    return given


def default_text(option: Option) -> str:
    """Return the default as help shows it; empty when there is no default."""
    if option.default in (None, "", ()):
        return ""
    if option.is_pair:
        return f"{'' if option.default else 'no-'}{option.flag[2:]}"
    if isinstance(option.kind, Several):
        return ",".join(map(str, option.default))
    return option.kind.show(option.default).strip('"')


def explain_unknown(flag: str, command: click.Command) -> str:
    """Return the error text for a flag that the command does not have, with advice if there is some."""
    advice = explain_flag(flag) if any(isinstance(p, OptionFlag) for p in command.params) else None
    if advice is None:
        known = (name for param in command.params for name in (*param.opts, *param.secondary_opts))
        near = closest(flag, (name for name in known if name.startswith("--")))
        advice = f"did you mean {near}?" if near else ""
    return f"{flag}: there is no such option" + (f"; {advice}" if advice else "")


def format_common(
    command: click.Command, context: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options that most servers need, then those that are not in the option table."""
    by_name: dict[str, tuple[str, str]] = {}
    others: list[tuple[str, str]] = []
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and isinstance(param, OptionFlag):
            by_name.setdefault(param.option.name, record)
        elif record is not None and isinstance(param, click.Option):
            others.append(record)
    with formatter.section("Options that most servers need"):
        formatter.write_dl([by_name[name] for name in COMMON])
    with formatter.section("Other"):
        formatter.write_dl(others)


def format_groups(
    command: click.Command, context: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of the option table by group, then the others."""
    by_group: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option):
            group = param.option.group if isinstance(param, OptionFlag) else "Other"
            by_group.setdefault(group, []).append(record)
    for group in (*GROUPS, "Other"):
        with formatter.section(group):
            formatter.write_dl(by_group.get(group, []))


def _longest(param: OptionFlag, raw: object) -> str:
    if raw is False and param.secondary_opts:
        return param.secondary_opts[0]
    # The row's own flag when it has aliases: click does not report which spelling was given.
    return param.opts[0]
