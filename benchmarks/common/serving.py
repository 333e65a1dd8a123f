"""A server as one process tree: its environment, its start until the first answer, and its end."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .asking import LoadError, wait_answer
from .measure import cpu_seconds, tree

START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
FOREIGN = ("ASGIRELOAD_", "UVICORN_", "GUNICORN_", "GRANIAN_", "H2CORN_", "WEB_CONCURRENCY")
"""Variables of our own environment that would configure a server."""


class StartError(LoadError):
    """A server ended, or stayed silent, before its first answer."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server that has answered."""

    process: "subprocess.Popen[bytes]"
    port: int
    started_seconds: float
    """From exec to its first answer."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def cpu(self) -> float:
        """Return the CPU seconds of the whole process tree so far."""
        return cpu_seconds(self.process.pid)


def free_port() -> int:
    """Return a port of the loopback address that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_certificate(directory: str) -> tuple[str, str]:
    """Write a certificate for localhost with openssl(1) and return the paths of it and its key.

    Raise LoadError when openssl is missing or fails.
    """
    certificate, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-out",
        certificate,
        "-keyout",
        key,
    ]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        raise LoadError("TLS needs openssl, which is not installed") from None
    except subprocess.CalledProcessError as error:
        raise LoadError(f"openssl: {error.stderr.strip()}") from error
    return certificate, key


def server_environment(
    *places: str | Path, extra: Mapping[str, str] | None = None, without: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the environment for a server: that of this process, without what would configure a server.

    Modules in the directories `places` can be imported, ahead of what is installed. `without` names beginnings
    of further variables that are left out; `extra` is added last.
    """
    dropped = (*FOREIGN, *without, "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    if places:
        kept["PYTHONPATH"] = os.pathsep.join(str(place) for place in places)
    return {**kept, **(extra or {})}


@contextmanager
def started(
    command: list[str],
    port: int,
    log_path: Path,
    *,
    cwd: str | Path,
    environment: Mapping[str, str],
    is_tls: bool = False,
    timeout: float = START_TIMEOUT,
    own_session: bool = True,
) -> Iterator[Started]:
    """Start a server, give it out when it answers on `port`, and end all its processes afterwards.

    Its output goes to `log_path`. With `own_session=False` it stays in the session of this process, in a process
    group of its own. Raise StartError with the last line of its log when it does not answer within `timeout`
    seconds.
    """
    began = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=own_session,
            process_group=None if own_session else 0,
        )
    try:
        try:
            wait_answer(port, lambda: process.poll() is None, tls=is_tls, timeout=timeout)
        except LoadError as error:
            raise StartError(f"{error}: {last_words(log_path)}") from None
        yield Started(process, port, time.monotonic() - began)
    finally:
        stop(process)


def last_words(path: Path) -> str:
    """Return the last line of a log that names an error, or else the last that says something."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    spoken = [line for line in lines if line]
    errors = [line for line in spoken if "error" in line.lower()]
    return (errors or spoken or ["it said nothing"])[-1]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop; end what is left of its tree. Descriptors, as numbers can be reused."""
    handles = []
    for member in tree(process.pid):
        try:
            handles.append(os.pidfd_open(member))
        except ProcessLookupError:
            continue  # it ended while we looked
    try:
        process.terminate()
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for handle in handles:
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it obeyed
            os.close(handle)
