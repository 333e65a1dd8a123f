"""A server from its start to the end of its last process."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .cases import Setting
from .clients import LoadError
from .load import ROOT, wait_answer
from .measure import cpu_seconds, tree, wait_settled
from .servers import Place, Server, command_line

APPS = Path(__file__).parent / "apps"
START_TIMEOUT = 60.0
SETTLE_TIMEOUT = 5.0
"""For the other workers, after the first one answered."""
STOP_TIMEOUT = 5.0
FOREIGN = ("ASGIRELOAD_", "UVICORN_", "GUNICORN_", "GRANIAN_", "H2CORN_", "WEB_CONCURRENCY")
"""Variables of our own environment that would configure a server."""


@dataclass(frozen=True, slots=True)
class Live:
    """A server that answers."""

    pid: int
    port: int
    started_seconds: float
    """From exec to its first answer."""

    def cpu(self) -> float:
        return cpu_seconds(self.pid)


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


def server_environment(extra: Mapping[str, str], *, from_checkout: bool = True) -> dict[str, str]:
    """Return the environment for a server: ours, without what would configure it.

    The applications can be imported, and with `from_checkout` all that lies in this checkout: ahead of
    what is installed.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    places = [str(APPS), str(ROOT)] if from_checkout else [str(APPS)]
    return {**kept, "PYTHONPATH": os.pathsep.join(places), **extra}


@contextmanager
def running(
    server: Server,
    setting: Setting,
    place: Place,
    cpus: str | None,
    environment: Mapping[str, str],
    directory: str,
) -> Iterator[Live]:
    """Start a server, give it out when it answers, and end all its processes afterwards.

    Raise LoadError with the last line of its log when it does not answer.
    """
    log_path = Path(directory) / "server.log"
    began = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command_line(server, setting, place, cpus),
            cwd=APPS,
            env=server_environment(
                environment, from_checkout=server.from_checkout or not server.distribution
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        try:
            wait_answer(
                place.port,
                lambda: process.poll() is None,
                tls=setting.tls,
                timeout=START_TIMEOUT,
            )
        except LoadError as error:
            raise LoadError(f"{error}: {last_words(log_path)}") from None
        started = time.monotonic() - began
        if setting.workers > 1:
            wait_settled(process.pid, SETTLE_TIMEOUT)
        yield Live(process.pid, place.port, started)
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
