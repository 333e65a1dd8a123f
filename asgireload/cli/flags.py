"""Flags made from the option table, and how help shows them."""

from collections.abc import Mapping

import click

from asgireload.config import OPTIONS, FlagValue, Option
from asgireload.config.foreign import ABSENT
from asgireload.config.kinds import Kind, Several
from asgireload.config.options import GROUPS

_SCALED = "__scaled_"


class OptionFlag(click.Option):
    """A flag of one row; click only splits the words, the row's kind reads the value."""

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
    """Return a click parameter for every row of the table, and those in another unit."""
    flags: list[click.Parameter] = []
    for option in OPTIONS.values():
        flags.append(OptionFlag(option, option.kind, (option.flag, *option.aliases), option.name))
        for alias, kind in option.scaled_aliases.items():
            scaled = OptionFlag(option, kind, (alias,), _SCALED + alias[2:].replace("-", "_"))
            scaled.help = f"The same as {option.flag}, in MiB."
            flags.append(scaled)
    return flags


def flag_values(command: click.Command, values: Mapping[str, object]) -> list[FlagValue]:
    """Return what was given on the command line, out of click's values by parameter name."""
    given: list[FlagValue] = []
    for param in command.params:
        raw = values.get(param.name or "")
        if isinstance(param, OptionFlag) and raw is not None and raw != ():
            given.append(FlagValue(param.option.name, _longest(param, raw), raw, param.kind))
    return given


def default_text(option: Option) -> str:
    """Return the default as help shows it; empty where there is nothing to show."""
    if option.default in (None, "", ()):
        return ""
    if option.is_pair:
        return f"{'' if option.default else 'no-'}{option.flag[2:]}"
    if isinstance(option.kind, Several):
        return ",".join(map(str, option.default))
    return option.kind.show(option.default).strip('"')


def explain_unknown(flag: str) -> str | None:
    """Return why a flag of another server is not there, or None for one that nobody has."""
    name = flag.lstrip("-").replace("-", "_")
    reason = ABSENT.get(name) or ABSENT.get(name.removeprefix("no_"))
    return None if reason is None else f"{flag}: {reason}"


def format_groups(
    command: click.Command, context: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of the table by group, then the others."""
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
    # The row's own flag where it has several: an alias cannot be told from it.
    return param.opts[0]
