"""Read each source of configuration into a layer: values by option, with their origins.

Pure, except for files and the working directory; variables are passed in. `config.py` merges the layers.
"""

import os
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from asgireload.config.foreign import ABSENT, explain_flag
from asgireload.config.kinds import (
    HIDDEN,
    Choice,
    Kind,
    MismatchError,
    Several,
    UnavailableError,
    is_secret,
)
from asgireload.config.options import (
    FOREIGN_VARIABLE_PREFIX,
    OPTIONS,
    VARIABLE_PREFIX,
    Option,
)
from asgireload.errors import ConfigError, closest

CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"
"""The variable that names the configuration file, as --config does."""
PYPROJECT = "pyproject.toml"
CONFIG_FILE = "asgireload.toml"
"""The file that is read from the working directory when no other file is named."""


def working_directory() -> str:
    """Return the working directory. Raise ConfigError if it was removed, as by a deploy that replaced it."""
    try:
        return os.getcwd()
    except OSError as error:
        raise ConfigError(
            "the working directory is gone: it was removed or replaced, change into it again"
        ) from error


class Given(Struct, frozen=True):
    """The value of an option from one source."""

    value: object
    origin: str
    """The flag, variable or file, as shown in messages."""


class Layer(Struct, frozen=True):
    """All values from one source, by option."""

    given: Mapping[str, Given] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    """Messages for the user about how values were read, to be logged at level info."""
    warnings: tuple[str, ...] = ()
    """Messages to be logged at level warning."""


class FlagValue(Struct, frozen=True):
    """A flag of the command line with its raw value: a text, several texts, or a bool for `--flag/--no-flag`."""

    name: str
    """The option's name."""
    flag: str
    raw: object
    kind: Kind


def place_of(origin: str, name: str) -> str:
    """Return the place of an option's value for errors: the origin, and for a file also the key."""
    names_it = origin.startswith(("-", "$", "run(", VARIABLE_PREFIX, FOREIGN_VARIABLE_PREFIX))
    return origin if names_it or origin == "APP" else f"{origin} {name}"


def spelled_as(origin: str, name: str) -> str:
    """Return an option's name in the spelling of `origin`: its flag if `origin` is a flag, else its name."""
    return OPTIONS[name].flag if origin.startswith("-") else name


def read_flags(flags: Iterable[FlagValue]) -> Layer:
    """Return the values from the command line. Raise ConfigError, also if an option is given twice."""
    given: dict[str, Given] = {}
    notices: list[str] = []
    for flag in flags:
        if flag.name in given:
            raise ConfigError(f"{flag.flag} and {given[flag.name].origin} say the same: give one")
        shown = _shown(flag.kind, flag.raw)
        value = _read(flag.kind, flag.raw, f"{flag.flag} {shown}", notices)
        given[flag.name] = Given(value, flag.flag)
    return Layer(given, tuple(notices))


def read_variables(environ: Mapping[str, str]) -> Layer:
    """Return the values from ASGIRELOAD_* variables; empty variables count as absent. Raise ConfigError."""
    given: dict[str, Given] = {}
    notices: list[str] = []
    known = {option.variable: option for option in OPTIONS.values()}
    for variable in sorted(environ):
        if not variable.startswith(VARIABLE_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        option = known.get(variable)
        if option is None:
            raise ConfigError(f"{variable}: there is no such option{_suggestion(variable, known)}")
        if environ[variable]:
            given[option.name] = _read_variable(option, variable, environ, notices)
    return Layer(given, tuple(notices))


def read_foreign_variables(environ: Mapping[str, str], ours: Layer) -> Layer:
    """Return the values from UVICORN_* variables for options that `ours` does not have. Raise ConfigError."""
    given: dict[str, Given] = {}
    notices: list[str] = []
    taken: list[str] = []
    for option in OPTIONS.values():
        variable = option.foreign_variable
        if variable is not None and environ.get(variable) and option.name not in ours.given:
            given[option.name] = _read_variable(option, variable, environ, notices)
            taken.append(variable)
    if taken:
        notices.insert(
            0, f"Read from uvicorn's variables: {', '.join(taken)} ({VARIABLE_PREFIX}… comes first)"
        )
    warnings = tuple(
        f"{FOREIGN_VARIABLE_PREFIX}{name.upper()} has no effect: {reason}"
        for name, reason in ABSENT.items()
        if environ.get(FOREIGN_VARIABLE_PREFIX + name.upper())
    )
    return Layer(given, tuple(notices), warnings)


def read_platform_defaults(environ: Mapping[str, str], names: Iterable[str] = OPTIONS) -> Layer:
    """Return the defaults that the platform sets, such as $PORT. Raise ConfigError."""
    given: dict[str, Given] = {}
    for name in names:
        option = OPTIONS[name]
        variable = option.default_variable
        if variable is not None and environ.get(variable):
            read = _read_variable(option, variable, environ, [])
            given[name] = Given(read.value, f"${variable}")
    return Layer(given)


def read_table(table: Mapping[str, object], place: str) -> Layer:
    """Return the values from a TOML table; `place` names the table in errors. Raise ConfigError."""
    given: dict[str, Given] = {}
    notices: list[str] = []
    for name, raw in table.items():
        if name not in OPTIONS:
            raise ConfigError(
                f"{place} {name}: there is no such option{_suggestion(name, _spellings())}"
            )
        kind = OPTIONS[name].kind
        value = _read(kind, raw, f"{place} {name} = {_shown(kind, raw)}", notices)
        given[name] = Given(value, place)
    return Layer(given, tuple(notices))


def read_keywords(keywords: Mapping[str, object]) -> Layer:
    """Return the values from the keywords of `asgireload.run()`, which may be asgireload's names or uvicorn's.

    None means "not given", unless the option itself can be None. Raise ConfigError.
    """
    given: dict[str, Given] = {}
    notices: list[str] = []
    spellings = _spellings()
    for keyword, raw in keywords.items():
        if keyword in ABSENT:
            if not raw:
                continue
            raise ConfigError(f"run({keyword}={_shown(None, raw)}): {ABSENT[keyword]}")
        if keyword not in spellings:
            raise ConfigError(
                f"run({keyword}=…): there is no such option{_suggestion(keyword, spellings)}"
            )
        option = OPTIONS[spellings[keyword]]
        if raw is None and option.default is not None and not _may_be_none(option):
            continue
        if option.name in given:
            raise ConfigError(f"run({keyword}=…) and {given[option.name].origin} say the same")
        place = f"run({keyword}={_shown(option.kind, raw)})"
        value = _read(option.kind, raw, place, notices)
        given[option.name] = Given(value, f"run({keyword}=…)")
    return Layer(given, tuple(notices))


def read_files(directory: str, config_file: str | None) -> list[Layer]:
    """Return the layers of the configuration file and of pyproject.toml, the stronger first.

    Without `config_file`, asgireload.toml in `directory` is read if it exists. Raise ConfigError.
    """
    layers: list[Layer] = []
    beside = os.path.join(directory, CONFIG_FILE)
    if config_file is not None:
        path = os.path.join(directory, config_file)
        if not os.path.isfile(path):
            raise ConfigError(f"{config_file}: there is no such configuration file")
        layers.append(_read_config_file(path, config_file))
    elif os.path.isfile(beside):
        layers.append(_read_config_file(beside, CONFIG_FILE))
    pyproject = os.path.join(directory, PYPROJECT)
    if os.path.isfile(pyproject):
        layers.append(_read_pyproject(pyproject, PYPROJECT))
    return layers


def read_toml(path: str, shown: str) -> dict[str, object]:
    """Return the content of a TOML file; `shown` names the file in errors. Raise ConfigError."""
    import tomllib  # most servers have no file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{shown}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if path.endswith(".py"):
            raise ConfigError(
                f"{shown}: the configuration is a TOML file here, as asgireload.toml, and no Python file"
            ) from error
        raise ConfigError(f"{shown}: not valid TOML: {error}") from error


def _read_config_file(path: str, shown: str) -> Layer:
    if os.path.basename(path) == PYPROJECT:
        return _read_pyproject(path, shown)
    return read_table(read_toml(path, shown), shown)


def _read_pyproject(path: str, shown: str) -> Layer:
    tool = read_toml(path, shown).get("tool", {})
    table = tool.get("asgireload", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{shown} tool.asgireload: expected a table")
    return read_table(table, f"{shown} [tool.asgireload]")


def _read_variable(
    option: Option, variable: str, environ: Mapping[str, str], notices: list[str]
) -> Given:
    text = environ[variable]
    raw: object = option.kind.split(text) if isinstance(option.kind, Several) else text
    place = f"{variable}={HIDDEN if is_secret(option.kind) else repr(text)}"
    return Given(_read(option.kind, raw, place, notices), variable)


def _read(kind: Kind, raw: object, place: str, notices: list[str]) -> object:
    try:
        value = kind.read(raw)
    except UnavailableError as error:
        raise ConfigError(f"{place}: {error}") from None
    except MismatchError as error:
        raise ConfigError(f"{place}: expected {error}") from None
    if isinstance(kind, Choice) and isinstance(raw, str) and raw.lower() in kind.substitutes:
        notices.append(f"{place}: asgireload has no such implementation, using {value}")
    return value


def _may_be_none(option: Option) -> bool:
    try:
        return option.kind.read(None) is None
    except MismatchError:
        return False


def _spellings() -> dict[str, str]:
    """Return a mapping from all names of options, as identifiers, to the options' own names."""
    found: dict[str, str] = {}
    for option in OPTIONS.values():
        flags: Sequence[str] = (option.flag, *option.aliases)
        names = [flag[2:].replace("-", "_") for flag in flags if flag.startswith("--")]
        for name in (*names, *([option.uvicorn] if option.uvicorn else [])):
            found[name] = option.name
    return found


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    """Return, with a leading semicolon, advice for an option of another server, or `did you mean …?` with the
    closest known name; "" if there is neither."""
    plain = name.replace("-", "_")
    advice = explain_flag("--" + name.replace("_", "-").lower())
    if advice is not None and plain not in known:
        return f"; {advice}"
    near = plain if plain in known else closest(plain, known)
    if near is None:
        return ""
    target = known[near]
    return f"; did you mean {target if isinstance(target, str) else near}?"


def _shown(kind: Kind | None, raw: object) -> str:
    """Return a raw value for an error: short, on one line, and hidden if its kind is secret."""
    if kind is not None and is_secret(kind):
        return HIDDEN
    shown = repr(list(raw) if isinstance(raw, tuple) else raw)
    return shown if len(shown) <= 80 else shown[:79] + "…"
