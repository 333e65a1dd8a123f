"""`asgireload APP [options]`: load and check the configuration, then run the supervisor."""

import logging
import os
import sys
from collections.abc import Mapping

from asgireload.app import check_import_string
from asgireload.cli.streams import open_missing_streams
from asgireload.cli.words import Words
from asgireload.config import (
    OPTIONS,
    Config,
    FlagValue,
    Loaded,
    config_from_keywords,
    load_config,
    place_of,
    working_directory,
)
from asgireload.errors import AppLoadError, ConfigError
from asgireload.log import begin_logging
from asgireload.net.addresses import UnixAddress, addresses_of, check_addresses
from asgireload.net.unix import resolve_owner
from asgireload.supervisor import signals
from asgireload.supervisor.early_template import EarlyTemplate


def serve_words(words: Words, early_template: EarlyTemplate) -> int:
    """Run the server of a command line; return the exit status. Raise ConfigError or LogConfigError."""
    loaded = load_words(words)
    check(loaded)
    announce(loaded)
    return serve(loaded.config, early_template)


def load_words(words: Words) -> Loaded:
    """Return the configuration; configuration files are searched in the working directory. Raise ConfigError."""
    flags = [*words.flags]
    if words.app is not None:
        flags.append(FlagValue("app", "APP", words.app, OPTIONS["app"].kind))
    return load_config(flags, os.environ, working_directory(), words.config_file)


def serve(config: Config, early_template: EarlyTemplate) -> int:
    """Serve until the server is stopped; return the exit status. The caller ends the early template."""
    # Imported late: help and checks do not need the supervisor.
    from asgireload.supervisor.start import run

    if config.reload:
        # Templates are forked from a library base, which needs the CPU now.
        early_template.end()
        from asgireload.development.settings import development_config
        from asgireload.development.supervisor.mode import Development

        return run(development_config(config), Development())
    from asgireload.supervisor.production import Production

    return run(config, Production(early_template))


def run_with_keywords(app: object, keywords: Mapping[str, object]) -> None:
    """Serve, as `asgireload.run()`; raise SystemExit when the exit status is not 0.

    Raise ConfigError for keywords that cannot be used.
    """
    loaded = config_from_keywords(app, keywords, os.environ)
    check(loaded)
    announce(loaded)
    open_missing_streams()
    before = signals.hold()
    early_template = EarlyTemplate()
    try:
        early_template.begin()
        status = serve(loaded.config, early_template)
        signals.discard()
    finally:
        early_template.end()
        signals.restore(before)
    if status:
        sys.exit(status)


def check(loaded: Loaded) -> None:
    """Raise ConfigError for values that the option table does not check: import strings, formats, addresses."""
    if not loaded.config.app:
        raise ConfigError(
            "no application was given: asgireload APP, such as asgireload main:app\n"
            "Usage: asgireload [OPTIONS] APP, or asgireload COMMAND [OPTIONS]\n"
            "Try 'asgireload --help'."
        )
    try:
        check_import_string(loaded.config.app)
    except AppLoadError as error:
        raise ConfigError(f"{_place(loaded, 'app')}: {error}") from error
    factory = loaded.config.ssl_context_factory
    if factory is not None:
        try:
            check_import_string(factory, usual="")
        except AppLoadError as error:
            raise ConfigError(f"{_place(loaded, 'ssl_context_factory')}: {error}") from error
    access_log_format = loaded.config.access_log_format
    if access_log_format is not None:
        # Imported late: few servers have a format, and the module imports many others.
        from asgireload.http.access_format import check_format

        try:
            check_format(access_log_format)
        except ConfigError as error:
            place = _place(loaded, "access_log_format")
            raise ConfigError(f"{place} {access_log_format!r}: {error}") from error
    _check_addresses(loaded)
    _check_owners(loaded)


def _check_addresses(loaded: Loaded) -> None:
    try:
        addresses_of(loaded.config)
    except ConfigError as error:
        raise ConfigError(
            f"{_place(loaded, 'bind' if loaded.config.bind else 'uds')}: {error}"
        ) from error
    check_addresses(loaded.config, {name: _place(loaded, name) for name in loaded.origins})


def _check_owners(loaded: Loaded) -> None:
    config = loaded.config
    owners = [("admin_socket_owner", config.admin_socket_owner), ("uds_owner", config.uds_owner)]
    owners += [
        ("bind", address.owner)
        for address in addresses_of(config)
        if isinstance(address, UnixAddress)
    ]
    for name, owner in owners:
        if owner is not None:
            try:
                resolve_owner(owner)
            except ConfigError as error:
                raise ConfigError(f"{_place(loaded, name)}: {error}") from error


def _place(loaded: Loaded, name: str) -> str:
    return place_of(loaded.origins[name], name)


def announce(loaded: Loaded) -> None:
    """Set up logging, and log notices and warnings about the configuration. Raise LogConfigError."""
    begin_logging(loaded.config)
    logger = logging.getLogger("asgireload.error")
    for notice in loaded.notices:
        logger.info("%s", notice)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
