"""The checks of --check-config: the files, directories and modules that a start would need.

No code of the application runs, no address is bound and nothing is written, since a server with the same
configuration may be running. All problems are reported, not only the first.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from asgireload.admin.entrances import NO_SOCKET
from asgireload.admin.sockets import AUTO
from asgireload.admin.token_file import read_token_file
from asgireload.cli.import_search import find_fault
from asgireload.config import Config, Loaded
from asgireload.errors import AsgireloadError
from asgireload.log import read_user_config
from asgireload.net import tls
from asgireload.net.addresses import UnixAddress, addresses_of
from asgireload.supervisor.requirements import check_requirements

_STREAM = "-"
"""The name of a log that is written to a standard stream."""


class Findings(msgspec.Struct):
    """The result of the checks. A text names the origin of the value, where it has one."""

    problems: list[str] = msgspec.field(default_factory=list)
    """Problems that would make a start fail."""
    doubts: list[str] = msgspec.field(default_factory=list)
    """Problems of which a start would warn."""


def look_around(loaded: Loaded, directory: str) -> Findings:
    """Check the files, directories and modules that a configuration names. Relative paths start at `directory`."""
    config = loaded.config
    findings = Findings()

    def note(name: str, problem: str) -> None:
        origin = loaded.origins[name]
        place = "" if origin == "default" else f"{origin}: "
        findings.problems.append(f"{place}{problem}")

    def attempt(name: str, do: Callable[[], object]) -> None:
        try:
            do()
        except AsgireloadError as error:
            note(name, str(error))

    try:
        check_requirements(config)
    except AsgireloadError as error:
        findings.problems.append(str(error))  # the text names the option
    if config.log_config is not None:
        path = config.log_config
        attempt("log_config", lambda: read_user_config(path))
    if config.admin_token_file is not None:
        token_file = config.admin_token_file
        attempt("admin_token_file", lambda: read_token_file(token_file))
    for name, problem in _look_at_paths(config, directory):
        note(name, problem)
    for name, problem in _look_at_imports(config, directory):
        note(name, problem)
    _look_at_certificates(config, directory, findings, note)
    findings.doubts += [
        f"{loaded.origins['reload_dir']}: {path}: there is no such directory, so it is not watched"
        for path in (config.reload_dir if config.reload else ())
        if not os.path.isdir(os.path.join(directory, path))
    ]
    return findings


def _look_at_paths(config: Config, directory: str) -> Iterator[tuple[str, str]]:
    env_file = config.env_file
    if env_file is not None and (problem := _why_unreadable(os.path.join(directory, env_file))):
        yield "env_file", f"{env_file}: {problem}"
    if not os.path.isdir(os.path.join(directory, config.app_dir)):
        yield "app_dir", f"{config.app_dir}: there is no such directory"
    for name, path in _paths_to_be_made(config):
        if problem := _why_not_makeable(os.path.join(directory, path)):
            yield name, f"{path}: {problem}"
    for name, path in _sockets(config):
        if problem := _why_no_socket(os.path.join(directory, path)):
            yield name, f"{path}: {problem}"


def _paths_to_be_made(config: Config) -> Iterator[tuple[str, str]]:
    """Yield option and path of each file and socket that a start creates."""
    if config.pid_file is not None:
        yield "pid_file", config.pid_file
    if config.error_log_file != _STREAM:
        yield "error_log_file", config.error_log_file
    if config.access_log and config.access_log_file != _STREAM:
        yield "access_log_file", config.access_log_file
    yield from _sockets(config)


def _sockets(config: Config) -> Iterator[tuple[str, str]]:
    for address in addresses_of(config):
        if isinstance(address, UnixAddress):
            yield "uds" if config.uds is not None else "bind", address.path
    if config.admin_socket not in (AUTO, NO_SOCKET):
        yield "admin_socket", config.admin_socket


def _look_at_imports(config: Config, directory: str) -> Iterator[tuple[str, str]]:
    app_dir = os.path.realpath(os.path.join(directory, config.app_dir))
    if not os.path.isdir(app_dir):
        return  # _look_at_paths reports it
    for name, import_string in (
        ("app", config.app),
        ("ssl_context_factory", config.ssl_context_factory),
    ):
        if import_string is not None and (fault := find_fault(import_string, app_dir, sys.path)):
            yield name, f"{import_string}: {fault}"


def _look_at_certificates(
    config: Config, directory: str, findings: Findings, note: Callable[[str, str], None]
) -> None:
    try:
        material = tls.read_material(tls.files_of(config), directory, config.ssl_keyfile_password)
        if config.ssl_context_factory is None:
            tls.check_material(material, tls.settings_of(config))
        certificates = tls.certificates_in(material)
    except AsgireloadError as error:
        note("ssl_certfile", str(error))
        return
    for files, certificate in certificates:
        if (doubt := tls.find_doubts(certificate, time.time())) is not None:
            findings.doubts.append(f"certificate {files.certfile}: {doubt}")


def _why_unreadable(path: str) -> str | None:
    if not os.path.exists(path):
        return "there is no such file"
    if os.path.isdir(path):
        return "it is a directory"
    return None if os.access(path, os.R_OK) else "it may not be read by this user"


def _why_not_makeable(path: str) -> str | None:
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        return f"there is no directory {parent}"
    if os.path.isdir(path):
        return "it is a directory"
    if not os.access(parent, os.W_OK | os.X_OK) and not os.access(path, os.W_OK):
        return f"this user may not write to {parent}"
    return None


def _why_no_socket(path: str) -> str | None:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return None  # the path does not exist, or the directory is reported
    return None if is_socket else "a file that is no socket is there; it would not be replaced"
