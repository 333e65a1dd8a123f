"""Read the --log-config file, and apply it to the loggers of a process.

The file is read once for each generation and its content passed on, so that a worker that is replaced later logs as
its generation does, even if the file has changed. TOML, JSON and YAML files contain the dictionary for
`logging.config.dictConfig`, INI files the text for `fileConfig`.

A file written for uvicorn works: its formatters are replaced by the server's, which print the same lines, and its
configuration of uvicorn's loggers applies to those of the server's loggers that it does not name (`setup.py`).

The parser of a format is imported with the first file in it, because most servers have no file.
"""

import copy
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from asgireload.errors import LogConfigError

if TYPE_CHECKING:
    import configparser

OPTION = "--log-config"

_FORMATTERS_OF_UVICORN: Mapping[str, str] = {
    "uvicorn.logging.DefaultFormatter": "asgireload.log.LineFormatter",
    "uvicorn.logging.ColourizedFormatter": "asgireload.log.LineFormatter",
    "uvicorn.logging.AccessFormatter": "asgireload.log.AccessFormatter",
}
_SIZE_LIMIT = 1 << 20
"""The largest file in bytes: far more than any configuration, and little to read by mistake."""


class UserConfig(msgspec.Struct, frozen=True):
    """The content of a --log-config file."""

    path: str
    """The path as the user gave it, for errors."""
    content: Mapping[str, Any] | str
    """The dictionary for dictConfig, or the text of an INI file."""
    logger_names: frozenset[str]
    """The loggers that the file configures, without the root logger."""


def read_user_config(path: str) -> UserConfig:
    """Read a file, whose format is chosen by the ending of its name.

    Raise LogConfigError, naming file and place, when the file cannot be read, is malformed, or is not a table.
    """
    ending = os.path.splitext(path)[1].lower()
    read = _READERS.get(ending)
    if read is None:
        endings = ", ".join(_READERS)
        raise LogConfigError(f"{OPTION} {path}: the name must end in one of {endings}")
    try:
        with open(path, "rb") as file:
            data = file.read(_SIZE_LIMIT + 1)
        if len(data) > _SIZE_LIMIT:
            raise LogConfigError(f"{OPTION} {path}: larger than {_SIZE_LIMIT} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise LogConfigError(f"{OPTION} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LogConfigError(f"{OPTION} {path}: not UTF-8: byte {error.start}") from error
    return read(path, text)


def apply_user_config(config: UserConfig, *, import_from: str | None) -> None:
    """Configure the loggers of this process by the file.

    Classes that the file names are also imported from the directory `import_from`. Raise LogConfigError, naming
    file and place; logging may then be partly configured.
    """
    # Imported here, because logging.config imports a socket server.
    import logging.config

    with _importing_from(import_from):
        try:
            if isinstance(config.content, str):
                parser = _parse_ini(config.path, config.content)
                logging.config.fileConfig(parser, disable_existing_loggers=False)
            else:
                logging.config.dictConfig(_prepared(config.content))
        except LogConfigError:
            raise
        except Exception as error:
            raise LogConfigError(f"{OPTION} {config.path}: {_explained(error)}") from error


def _prepared(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy for dictConfig, which may change it, with uvicorn's formatters replaced."""
    prepared: dict[str, Any] = copy.deepcopy(dict(content))
    formatters = prepared.get("formatters")
    if isinstance(formatters, dict):
        for entry in formatters.values():
            if isinstance(entry, dict):
                for key in ("()", "class"):
                    if entry.get(key) in _FORMATTERS_OF_UVICORN:
                        entry[key] = _FORMATTERS_OF_UVICORN[entry[key]]
    # Python's default disables existing loggers, those of the server's libraries included.
    prepared.setdefault("disable_existing_loggers", False)
    return prepared


def _explained(error: BaseException) -> str:
    """Return the texts of an error and of its causes on one line, without repetitions."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 4:
        text = str(seen).strip() or type(seen).__name__
        if isinstance(seen, KeyError):
            text = f"{text} is missing"
        if not any(text in before for before in texts):
            texts.append(text)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return ": ".join(" ".join(text.split()) for text in texts)


# --- formats --------------------------------------------------------------------------------------


def _read_toml(path: str, text: str) -> UserConfig:
    import tomllib

    try:
        return _from_table(path, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise LogConfigError(f"{OPTION} {path}: not valid TOML: {error}") from error


def _read_json(path: str, text: str) -> UserConfig:
    try:
        return _from_table(path, json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise LogConfigError(f"{OPTION} {path}: not valid JSON: {error}") from error


def _read_yaml(path: str, text: str) -> UserConfig:
    try:
        import yaml
    except ImportError as error:
        raise LogConfigError(
            f"{OPTION} {path} needs the package PyYAML: pip install 'asgireload[yaml]'"
        ) from error
    try:
        return _from_table(path, yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise LogConfigError(
            f"{OPTION} {path}: not valid YAML: {' '.join(str(error).split())}"
        ) from error


def _read_ini(path: str, text: str) -> UserConfig:
    parser = _parse_ini(path, text)
    names = set()
    for section in parser.sections():
        if section.startswith("logger_") and section != "logger_root":
            name = parser.get(section, "qualname", raw=True, fallback="")
            if not name:
                raise LogConfigError(f"{OPTION} {path}: section [{section}] has no qualname")
            names.add(name)
    for needed in ("loggers", "handlers", "formatters"):
        if not parser.has_option(needed, "keys"):
            raise LogConfigError(f"{OPTION} {path}: there is no section [{needed}] with keys")
    return UserConfig(path, text, frozenset(names))


def _parse_ini(path: str, text: str) -> "configparser.RawConfigParser":
    import configparser

    parser = configparser.ConfigParser()
    try:
        parser.read_file(io.StringIO(text), path)
    except configparser.Error as error:
        raise LogConfigError(
            f"{OPTION} {path}: not valid INI: {' '.join(str(error).split())}"
        ) from error
    for section in parser.sections():
        name = parser.get(section, "class", raw=True, fallback="")
        if section.startswith("formatter_") and name in _FORMATTERS_OF_UVICORN:
            parser.set(section, "class", _FORMATTERS_OF_UVICORN[name])
    return parser


def _from_table(path: str, table: object) -> UserConfig:
    if not isinstance(table, dict):
        raise LogConfigError(f"{OPTION} {path}: expected a table, not {type(table).__name__}")
    if table.get("version") != 1:
        raise LogConfigError(
            f"{OPTION} {path}: version: expected 1 (logging.config, dictionary schema)"
        )
    loggers = table.get("loggers", {})
    if not isinstance(loggers, dict):
        raise LogConfigError(f"{OPTION} {path}: loggers: expected a table")
    return UserConfig(path, table, frozenset(str(name) for name in loggers))


_READERS: Mapping[str, Callable[[str, str], UserConfig]] = {
    ".toml": _read_toml,
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".ini": _read_ini,
    ".cfg": _read_ini,
    ".conf": _read_ini,
}


@contextmanager
def _importing_from(directory: str | None) -> Iterator[None]:
    if directory is None:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        if directory in sys.path:
            sys.path.remove(directory)
