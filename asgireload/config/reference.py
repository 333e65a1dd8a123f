"""Make the reference page of the options from the option table: `python -m asgireload.config.reference FILE`."""

import sys
from collections.abc import Iterator

from asgireload.config.kinds import Choice, Optional, Several
from asgireload.config.options import GROUPS, OPTIONS, Option

_HEAD = """\
# Options

<!-- Made by `python -m asgireload.config.reference docs/reference/options.md`; do not edit. -->

An option, such as `drain_timeout`, has three spellings: the flag `--drain-timeout`, the variable
`ASGIRELOAD_DRAIN_TIMEOUT`, and the key `drain_timeout` in a TOML file. If several sources set it, the first of
these is used:

1. the command line;
2. `ASGIRELOAD_<OPTION>`, where an empty value counts as absent;
3. `UVICORN_<OPTION>`, where uvicorn has the same option; the log says so;
4. the file that `--config` or `ASGIRELOAD_CONFIG` names, or else `asgireload.toml` in the working
   directory;
5. `[tool.asgireload]` in `pyproject.toml` in the working directory;
6. the variables that platforms set: `PORT`, `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS`;
7. the default.

All addresses come from one source: the first one in the list that sets a host and port, a Unix socket, a
descriptor or binds; addresses from later sources are ignored. Unknown keys and variables, and values that
cannot be used, are refused with their origin. `asgireload --print-config` shows each value
with its origin. `--check-config` also checks the files, directories, packages, certificates and modules that the
configuration names, without importing or listening, and exits with 0 or 2. Relative paths start at the working
directory.

Durations are seconds, or have a unit: `250ms`, `20s`, `5m`, `12h`, `1d`. Sizes are bytes, or have a
binary unit: `512M`, `2G`. Options that may be empty take `none`. Options that can be repeated are arrays
in a file; in a variable white space or commas separate the items, unless the option says otherwise. Lists of
networks, fields and hosts are separated in the same way in every source.
"""


def render_reference() -> str:
    """Return the page as Markdown."""
    return "\n".join((_HEAD, *_sections()))


def _sections() -> Iterator[str]:
    for group in GROUPS:
        yield f"## {group}\n"
        for option in OPTIONS.values():
            if option.group == group:
                yield _entry(option)


def _entry(option: Option) -> str:
    lines = [f"### {option.name}\n", f"{option.help}\n"]
    negative = (f"--no-{option.flag[2:]}",) if option.is_pair else ()
    flags = (option.flag, *negative, *option.aliases)
    lines.append(f"- Flags: {', '.join(f'`{flag}`' for flag in flags)}")
    lines += [
        f"- `{alias}` is the same, but takes {kind.expected()}"
        for alias, kind in option.scaled_aliases.items()
    ]
    variables = [option.variable, option.foreign_variable]
    shown = ", ".join(f"`{variable}`" for variable in variables if variable)
    lines.append(f"- Variables: {shown}")
    if option.default_variable:
        lines.append(f"- Default from: `{option.default_variable}`")
    lines.append(f"- Value: {option.kind.expected()}{_separator(option)}")
    lines += _substitutes(option)
    lines.append(f"- Default: `{option.kind.show(option.default)}`")
    return "\n".join(lines) + "\n"


def _separator(option: Option) -> str:
    if not isinstance(option.kind, Several) or option.kind.separator is None:
        return ""
    names = {":": "colons", "\n": "line breaks"}
    return f"; a variable separates items with {names[option.kind.separator]}"


def _substitutes(option: Option) -> list[str]:
    kind = option.kind.item if isinstance(option.kind, Optional) else option.kind
    if not isinstance(kind, Choice):
        return []
    lines = [f"- `{word}` is replaced by `{ours}`" for word, ours in kind.substitutes.items()]
    return lines + [f"- `{word}` is refused: {why}" for word, why in kind.refused.items()]


if __name__ == "__main__":
    page = render_reference()
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            file.write(page)
    else:
        sys.stdout.write(page)
