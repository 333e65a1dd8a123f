"""Merge the sources of configuration into the frozen Config, with the origin of each value.

The order of precedence: command line, ASGIRELOAD_* variables, uvicorn's variables, the configuration file,
pyproject.toml, the variables that the platform sets ($PORT, $WEB_CONCURRENCY, $FORWARDED_ALLOW_IPS), and the
defaults of the option table.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from asgireload.config.options import OPTIONS, Config
from asgireload.config.rules import check_rules, settle_addresses
from asgireload.config.sources import (
    CONFIG_VARIABLE,
    FlagValue,
    Given,
    Layer,
    read_files,
    read_flags,
    read_foreign_variables,
    read_keywords,
    read_platform_defaults,
    read_variables,
)
from asgireload.errors import ConfigError

DEFAULT = "default"
_PLATFORM_SETS_FOR_RUN = ("workers", "forwarded_allow_ips")
"""Defaults that uvicorn.run() takes from the platform, too; it does not take the port."""


class Loaded(msgspec.Struct, frozen=True):
    """A checked configuration, with the origin of each value."""

    config: Config
    origins: Mapping[str, str]
    """The flag, variable or file of each option's value, or `default`."""
    notices: tuple[str, ...] = ()
    """Messages to be logged at level info."""
    warnings: tuple[str, ...] = ()
    """Messages to be logged at level warning."""


def load_config(
    flags: Iterable[FlagValue],
    environ: Mapping[str, str],
    directory: str,
    config_file: str | None = None,
) -> Loaded:
    """Read and merge all sources; relative file names start at `directory`. Raise ConfigError, naming the place."""
    said = read_flags(flags)
    variables = read_variables(environ)
    layers = [
        said,
        variables,
        read_foreign_variables(environ, variables),
        *read_files(directory, config_file or environ.get(CONFIG_VARIABLE) or None),
    ]
    return _merge(layers, read_platform_defaults(environ))


def config_from_keywords(
    app: object, keywords: Mapping[str, object], environ: Mapping[str, str]
) -> Loaded:
    """Return the configuration of `asgireload.run()`. Raise ConfigError.

    Of `environ` only $WEB_CONCURRENCY and $FORWARDED_ALLOW_IPS are read, as in uvicorn.run().
    """
    if not isinstance(app, str):
        raise ConfigError(
            "run() needs the application as an import string, such as 'main:app', not as an object:"
            " every generation of workers imports it in a new interpreter"
        )
    layer = read_keywords({"app": app, **keywords})
    return _merge([layer], read_platform_defaults(environ, _PLATFORM_SETS_FOR_RUN))


def render_config(loaded: Loaded) -> str:
    """Return the configuration as TOML, each value with its origin as a comment."""
    lines = [
        f"{name} = {option.kind.show(getattr(loaded.config, name))}"
        for name, option in OPTIONS.items()
    ]
    width = min(max(len(line) for line in lines), 48)
    return "".join(
        f"{line:<{width}}  # {loaded.origins[name]}\n"
        for line, name in zip(lines, OPTIONS, strict=True)
    )


def _merge(layers: Sequence[Layer], platform: Layer) -> Loaded:
    given: dict[str, Given] = {}
    for layer in settle_addresses(layers):
        for name, value in layer.given.items():
            given.setdefault(name, value)
    said_on_purpose = dict(given)
    for name, value in platform.given.items():
        given.setdefault(name, value)
    values: dict[str, Any] = {name: entry.value for name, entry in given.items()}
    config = Config(**values)
    notices = [notice for layer in layers for notice in layer.notices]
    # With a Unix socket, a descriptor or --bind, $PORT is not used, so it is not logged.
    if given.get("port") is platform.given.get("port") and _uses_port(config, given):
        notices.append(f"Port {config.port} comes from $PORT")
    warnings = [warning for layer in layers for warning in layer.warnings]
    return Loaded(
        config,
        {name: given[name].origin if name in given else DEFAULT for name in OPTIONS},
        tuple(notices),
        (*warnings, *check_rules(config, said_on_purpose)),
    )


def _uses_port(config: Config, given: Mapping[str, Given]) -> bool:
    return "port" in given and not config.bind and config.uds is None and config.fd is None
