"""Parse a plain command line with the option table. Pure.

A plain command line has known flags with their values and at most one application, as nearly every server is
started. click parses all others (help, mistakes, combined short flags); its import takes long, and it would stay in
memory as long as the server runs. click parses a plain command line to the same result.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from asgireload.config import OPTIONS, FlagValue
from asgireload.config.kinds import Kind, Several

CONFIG_FLAGS = ("-c", "--config")


class Words(Struct, frozen=True):
    """The parsed command line of a server."""

    app: str | None
    config_file: str | None
    flags: Sequence[FlagValue]


class _Flag(Struct, frozen=True):
    """One spelling of an option on the command line."""

    place: int
    """Spellings with the same place are one parameter; flags are returned in this order."""
    name: str
    """The name of the option."""
    shown: str
    """The spelling that errors name; it is the option's own for an alias, as with click."""
    kind: Kind
    is_on: bool | None = None
    """The value of a flag without an argument; None when a value follows."""


def read_plain(words: Sequence[str]) -> Words | None:
    """Return the parsed command line; None when it is not plain."""
    spellings = _spellings()
    app: str | None = None
    config_file: str | None = None
    given: dict[int, tuple[_Flag, object]] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            if app is not None or not word:
                return None
            app = word
            continue
        spelling, has_value, text = word.partition("=")
        flag = spellings.get(spelling)
        if flag is None and spelling not in CONFIG_FLAGS:
            return None
        if flag is not None and flag.is_on is not None:
            if has_value:
                return None
            given[flag.place] = (flag, flag.is_on)
            continue
        if not has_value:
            text = next(rest, "")
        elif not spelling.startswith("--"):
            return None
        if not text or text.startswith("-"):
            return None  # the value may have been forgotten
        if flag is None:
            config_file = text
        elif isinstance(flag.kind, Several):
            before = given.get(flag.place, (flag, ()))[1]
            assert isinstance(before, tuple)
            given[flag.place] = (flag, (*before, text))
        else:
            given[flag.place] = (flag, text)
    flags = [
        FlagValue(flag.name, flag.shown, raw, flag.kind)
        for _, (flag, raw) in sorted(given.items(), key=lambda item: item[0])
    ]
    return Words(app, config_file, flags)


def _spellings() -> Mapping[str, _Flag]:
    found: dict[str, _Flag] = {}
    place = 0
    for option in OPTIONS.values():
        place += 1
        is_on = True if option.is_pair else None
        flag = _Flag(place, option.name, option.flag, option.kind, is_on)
        for spelling in (option.flag, *option.aliases):
            found[spelling] = flag
        if option.is_pair:
            against = f"--no-{option.flag[2:]}"
            found[against] = _Flag(place, option.name, against, option.kind, is_on=False)
        for alias, kind in option.scaled_aliases.items():
            place += 1
            found[alias] = _Flag(place, option.name, alias, kind)
    return found
