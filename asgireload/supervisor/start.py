"""From the configuration to the running supervisor.

Everything that can prevent a start comes first: the log, certificates, addresses, the PID file. Their errors are
reported before any code of the application has run. Then the first template gets its load request, and only after
that the event loop and the decisions are imported, which takes as long as a template needs to get ready.
"""

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from asgireload.admin.entrances import open_admin
from asgireload.config import Config, working_directory
from asgireload.errors import AsgireloadError
from asgireload.ipc.linux import become_subreaper
from asgireload.ipc.scoreboard import Scoreboard
from asgireload.ipc.titles import set_title
from asgireload.log import begin_logging
from asgireload.net.addresses import TcpAddress, addresses_of
from asgireload.net.listeners import open_listeners
from asgireload.supervisor import signals
from asgireload.supervisor.capacity import check_room
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.interpreter import check_executable
from asgireload.supervisor.pidfile import PidFile, remove_pid_file, write_pid_file
from asgireload.supervisor.requirements import check_requirements
from asgireload.supervisor.resources import Resources
from asgireload.supervisor.system_calls import check_system_calls

if TYPE_CHECKING:
    from asgireload.supervisor.template_source import Mode

_logger = logging.getLogger("asgireload.error")


def run(config: Config, mode: "Mode") -> int:
    """Serve until told to stop; return the exit status. Errors during the start are logged, not raised.

    `mode` is production or development. The caller ends what the mode holds.
    """
    signals.hold()
    # The first template may die before there is a handler for SIGCHLD.
    signals.hold_children()
    try:
        begin_logging(config)
        refused_calls = check_system_calls()
        set_title("supervisor", config.app)
        check_requirements(config)
        check_executable(sys.executable, is_frozen=hasattr(sys, "frozen"))
        become_subreaper()
        with ExitStack() as opened:
            resources = open_resources(config, refused_calls, opened)
            _logger.info("Started parent process [%d]", os.getpid())
            mode.begin(config, resources)
            from asgireload.supervisor.loop import serve
            from asgireload.supervisor.system import LinuxSystem

            status = serve(config, resources, mode, LinuxSystem())
    except AsgireloadError as error:
        _logger.error("%s", error)  # noqa: TRY400 - the message is enough; the traceback is of the server
        return error.exit_code
    finally:
        signals.release_children()
    _logger.info("Finished parent process [%d]", os.getpid())
    return status


def open_resources(
    config: Config, refused_calls: Mapping[str, str], opened: ExitStack
) -> Resources:
    """Open everything that the configuration asks for; `opened` closes it. Raise AsgireloadError."""
    directory = launch_directory()
    certificates = Certificates(config, directory)
    opened.callback(certificates.close)
    certificates.load()
    addresses = addresses_of(config)
    check_room(config, sum(isinstance(address, TcpAddress) for address in addresses))
    listeners = open_listeners(config)
    opened.callback(listeners.close)
    entrances = open_admin(config)
    for entrance in entrances:
        opened.callback(entrance.close)
    pid_file: PidFile | None = None
    if config.pid_file is not None:
        pid_file = write_pid_file(config.pid_file)
        opened.callback(pid_file.release)
        opened.callback(remove_pid_file, config.pid_file)
    scoreboard = Scoreboard.create()
    opened.callback(scoreboard.close)
    return Resources(
        directory, certificates, listeners, entrances, scoreboard, refused_calls, pid_file
    )


def launch_directory() -> str:
    """Return the working directory as the user typed it.

    A deploy that switches a `current` symlink can be seen only through that name: the directory that the kernel
    reports stays the old release. Raise ConfigError when the directory was deleted.
    """
    here = working_directory()
    typed = os.environ.get("PWD", "")
    try:
        return typed if os.path.isabs(typed) and os.path.samefile(typed, here) else here
    except OSError:
        return here
