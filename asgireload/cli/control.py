"""Commands for a running server: reload, reload-certificates, status, stop, scale.

The commands send requests to the admin socket of the server. Exit statuses are for deploy scripts: 0 done, 1
refused, failed or reverted (status: not at full strength), 2 usage, 3 no server reached.
"""

import json
import os
import select
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import click

from asgireload.admin.client import SILENCE_INTERVAL, is_stopped
from asgireload.admin.servers import Address, FoundServer, find_server
from asgireload.cli.commands import COMMAND_HELP
from asgireload.cli.progress import Progress
from asgireload.cli.render import (
    render_certificates,
    render_reload,
    render_status,
    render_ticket,
)
from asgireload.config import OPTIONS
from asgireload.config.kinds import Duration, MismatchError
from asgireload.errors import ConfigError, ControlError
from asgireload.log.escaping import block

DONE = 0
NOT_DONE = 1
UNREACHED = 3

ANSWER_MARGIN = 5.0
"""Seconds by which the client waits longer than the server, so that the answer of the server arrives first."""

_AT_FULL_STRENGTH = frozenset({"serving", "reloading"})
_ADMIN_SOCKET_VARIABLE = OPTIONS["admin_socket"].variable


def _read_seconds(
    _context: click.Context, _param: click.Parameter, text: str | None
) -> float | None:
    try:
        seconds = None if text is None else Duration(positive=True).read(text)
    except MismatchError as error:
        raise click.BadParameter(f"{text!r}: expected {error}") from None
    return seconds


def _reload(server: FoundServer, *, wait: bool, timeout: float | None) -> int:
    path = "/reload"
    if wait:
        path += "?wait=1" if timeout is None else f"?wait=1&timeout={timeout:g}"
    # Without a limit here the deadlines of the server bound a reload.
    limit = None if wait and timeout is None else (timeout or 10.0) + ANSWER_MARGIN
    with Progress(server) if wait else nullcontext():
        status, answer = server.client.request("POST", path, timeout=limit)
    if status == 202 and isinstance(answer, dict):
        _show(render_ticket(answer))
        _name(server)
        return DONE
    verdict = answer if status == 200 else _member(answer, "reload")
    if isinstance(verdict, dict):
        _show(render_reload(verdict))
        _name(server)
    if status == 200:
        return DONE
    return _refused(server, answer, status)


def _reload_certificates(server: FoundServer) -> int:
    status, answer = server.client.request("POST", "/tls/reload")
    if status != 200 or not isinstance(answer, dict):
        return _refused(server, answer, status)
    _show(render_certificates(answer))
    _name(server)
    return DONE


def _status(server: FoundServer, *, as_json: bool) -> int:
    answer = server.status
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _show(render_status(answer, server.pid, server.path))
    return DONE if answer["state"] in _AT_FULL_STRENGTH else NOT_DONE


def _stop(server: FoundServer, *, wait: bool, timeout: float | None) -> int:
    handle = _open_process(server) if wait else None
    try:
        status, answer = server.client.request("POST", "/stop")
        if status != 202:
            return _refused(server, answer, status)
        if handle is None:
            click.echo("The server is stopping.")
            _name(server)
            return DONE
        with Progress(server):
            has_ended = _wait_ended(server, handle, timeout)
        if not has_ended:
            return _error(f"the server still stops after {timeout:g} s ({server.name})")
    finally:
        if handle is not None:
            os.close(handle)
    click.echo("The server has stopped.")
    _name(server)
    return DONE


def _scale(server: FoundServer, *, workers: int) -> int:
    status, answer = server.client.request("POST", f"/scale?workers={workers}")
    if status != 202:
        return _refused(server, answer, status)
    click.echo(f"The server now wants {workers} worker{'' if workers == 1 else 's'}.")
    _name(server)
    return DONE


def _open_process(server: FoundServer) -> int:
    """Return a descriptor that becomes readable when the server's process ends (pidfd_open(2)). The caller closes
    it.

    Raise ControlError.
    """
    try:
        return os.pidfd_open(server.pid)
    except OSError as error:
        raise ControlError(
            f"cannot wait for process {server.pid}: {error.strerror}; is it in another container?"
        ) from error


def _wait_ended(server: FoundServer, handle: int, timeout: float | None) -> bool:
    """Return whether the process has ended within `timeout` seconds.

    Raise ControlError when the process is stopped or does not answer any more, since it would not end then.
    """
    waiter = select.poll()
    waiter.register(handle, select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        patience = SILENCE_INTERVAL if left is None else min(left, SILENCE_INTERVAL)
        if waiter.poll(patience * 1000):
            return True
        if left is not None and left <= patience:
            return False
        if is_stopped(server.pid):
            raise ControlError(
                f"process {server.pid} of the server is stopped (SIGSTOP, or a debugger) and cannot end;"
                f" `kill -CONT {server.pid}` lets it go on"
            )
        server.client.check_alive()


def _member(answer: object, name: str) -> object:
    return answer.get(name) if isinstance(answer, dict) else None


def _show(text: str) -> None:
    """Print text from the server with control characters escaped: the server may be another user's."""
    click.echo(block(text), nl=False)


def _name(server: FoundServer) -> None:
    """Print the name of the server: one that was found without an address may not be the intended one."""
    click.echo(f"  server: {server.name}")


def _refused(server: FoundServer, answer: object, status: int) -> int:
    """Report a problem document (RFC 9457) of the server."""
    detail = _member(answer, "detail") or _member(answer, "title")
    return _error(f"{detail or f'the server answered with status {status}'} ({server.name})")


def _error(text: str) -> int:
    click.echo(f"asgireload: error: {text}", err=True)
    return NOT_DONE


def _command(
    name: str, action: Callable[..., int], params: list[click.Parameter], *, acts: bool = True
) -> click.Command:
    """Return a command that finds the server and calls `action` with it."""

    def callback(
        *, admin_socket: str | None, pid: int | None, pid_file: str | None, **values: object
    ) -> int:
        if admin_socket is None and pid is None and pid_file is None:
            admin_socket = _socket_from_environment()
        if sum(way is not None for way in (admin_socket, pid, pid_file)) > 1:
            raise ConfigError("give one of --admin-socket, --pid and --pid-file")
        try:
            address = Address(admin_socket, pid, pid_file)
            return action(find_server(address, _words(name, values), acts=acts), **values)
        except ControlError as error:
            click.echo(f"asgireload: error: {error}", err=True)
            return UNREACHED

    finding: list[click.Parameter] = [
        click.Option(
            ["admin_socket", "--admin-socket", "--socket"],
            metavar="FILE",
            help="The server's admin socket. Default: that of the server started in this directory.",
        ),
        click.Option(["--pid"], type=click.IntRange(min=1), help="The server's pid."),
        click.Option(["--pid-file", "-p"], metavar="FILE", help="File with the server's pid."),
    ]
    return click.Command(
        name, callback=callback, params=[*params, *finding], help=COMMAND_HELP[name]
    )


def _words(name: str, values: Mapping[str, object]) -> str:
    """Return the command and its options, for advice that adds an address."""
    given = [name]
    if values.get("workers") is not None:
        given.append(str(values["workers"]))
    given += [flag for flag, key in (("--wait", "wait"), ("--json", "as_json")) if values.get(key)]
    return " ".join(given)


def _socket_from_environment() -> str | None:
    path = os.environ.get(_ADMIN_SOCKET_VARIABLE, "")
    return None if path in ("", "auto", "none") else path


def _wait(text: str) -> list[click.Parameter]:
    return [
        click.Option(["--wait"], is_flag=True, help=text),
        click.Option(
            ["--timeout"],
            callback=_read_seconds,
            metavar="SECONDS",
            help="Stop waiting after this time; the reload or the stop continues.",
        ),
    ]


control = click.Group(
    "asgireload",
    commands=[
        _command(
            "reload",
            _reload,
            _wait("Wait for the verdict; exit with 0 only if the reload was committed."),
        ),
        _command("reload-certificates", _reload_certificates, []),
        _command(
            "status",
            _status,
            [click.Option(["as_json", "--json"], is_flag=True, help="Show the status as JSON.")],
            acts=False,
        ),
        _command("stop", _stop, _wait("Wait until the server's process has ended.")),
        _command(
            "scale",
            _scale,
            [click.Argument(["workers"], type=click.IntRange(min=1), metavar="N")],
        ),
    ],
)
