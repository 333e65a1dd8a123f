"""The Autobahn test suite against asgireload and other servers, each with the same echo application.

    make autobahn         or: python benchmarks/autobahn.py [--servers asgireload ...] [--cases 1.* 12.1.*]

The cases are Autobahn's own; the client that runs them is kosoku, in a virtual environment of its own
(`--kosoku` names its program). "asgireload, reloading" has its code replaced again and again meanwhile, and
its application takes part in the handover of WebSockets. Both are run with --ws wsproto as well. Servers run
in turn with their default settings. The table counts cases by what they showed; failures are listed below it.
Everything is written to benchmarks/results/autobahn.json. The exit status is 1 when a case fails on asgireload.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from asgireload.admin.client import AdminClient

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "autobahn.json"
KOSOKU = ROOT / ".venv-autobahn" / "bin" / "kosoku"
CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.*", "13.*")
"""All but 9, which measures time with messages of many megabytes."""
START_SECONDS = 20
RUN_SECONDS = 1800

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "websocket":
        raise ValueError(scope["type"])
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""
MOVING_APP = """
import echo_app

async def app(scope, receive, send):
    async def accepting(message):
        if message["type"] == "websocket.accept":
            message = {**message, "handover": True}
        await send(message)

    async def parting():
        message = await receive()
        if message["type"] == "websocket.handover":
            await send({"type": "websocket.handover", "state": b""})
        return message

    await echo_app.app(scope, parting, accepting)
"""
RELOAD_SECONDS = 1.0


@dataclass(frozen=True)
class Server:
    name: str
    package: str
    arguments: tuple[str, ...]
    """Behind `python -m`; `{port}` is replaced."""
    admin_socket: str = ""
    """Its code is replaced again and again, through this; empty: it is not."""


SERVERS = (
    Server(
        "asgireload, reloading",
        "asgireload",
        ("asgireload", "moving_app:app", "--port", "{port}", "--no-access-log", "--workers", "2",
         "--probation", "0", "--admin-socket", "admin.sock"),
        admin_socket="admin.sock",
    ),
    Server(
        "asgireload",
        "asgireload",
        ("asgireload", "echo_app:app", "--port", "{port}", "--no-access-log",
         "--admin-socket", "none"),
    ),
    Server(
        "asgireload, wsproto, reloading",
        "asgireload",
        ("asgireload", "moving_app:app", "--port", "{port}", "--no-access-log", "--workers", "2",
         "--probation", "0", "--admin-socket", "admin.sock", "--ws", "wsproto"),
        admin_socket="admin.sock",
    ),
    Server(
        "asgireload, wsproto",
        "asgireload",
        ("asgireload", "echo_app:app", "--port", "{port}", "--no-access-log",
         "--admin-socket", "none", "--ws", "wsproto"),
    ),
    Server(
        "uvicorn, websockets-sansio",
        "uvicorn",
        ("uvicorn", "echo_app:app", "--port", "{port}", "--ws", "websockets-sansio",
         "--log-level", "critical"),
    ),
    Server(
        "uvicorn, wsproto",
        "uvicorn",
        ("uvicorn", "echo_app:app", "--port", "{port}", "--ws", "wsproto",
         "--log-level", "critical"),
    ),
    Server(
        "granian",
        "granian",
        ("granian", "--interface", "asgi", "--port", "{port}", "--log-level", "critical",
         "echo_app:app"),
    ),
    Server(
        "hypercorn",
        "hypercorn",
        ("hypercorn", "--bind", "127.0.0.1:{port}", "--log-level", "critical", "echo_app:app"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    case: str
    behaviour: str
    close: str

    @property
    def summary(self) -> str:
        """The behaviour, or the close where only that failed."""
        if self.close in ("OK", "INFORMATIONAL") or not self.is_pass_of(self.behaviour):
            return self.behaviour
        return "FAILED"

    @staticmethod
    def is_pass_of(behaviour: str) -> bool:
        return behaviour in ("OK", "NON-STRICT", "INFORMATIONAL")

    @property
    def passes(self) -> bool:
        return self.is_pass_of(self.summary)

    @property
    def is_failure(self) -> bool:
        return not self.passes and self.summary != "UNIMPLEMENTED"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not open its port")


class Reloading:
    """Replaces the code of a server within the context, and says in the end how often."""

    def __init__(self, path: str) -> None:
        self._count = 0
        self._client = AdminClient(path)
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()
        print(f"the code was replaced {self._count} times", file=sys.stderr)

    def _go_on(self) -> None:
        while not self._has_ended.wait(RELOAD_SECONDS):
            status, said = self._client.request("POST", "/reload?wait=1", timeout=30)
            if status != 200:
                print(f"a reload did not work: {said}", file=sys.stderr)
                return
            self._count += 1


def run_cases(server: Server, kosoku: Path, cases: list[str]) -> list[Verdict]:
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "echo_app.py").write_text(APP)
        Path(directory, "moving_app.py").write_text(MOVING_APP)
        arguments = [argument.format(port=port) for argument in server.arguments]
        search_path = os.pathsep.join((directory, str(ROOT)))
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": search_path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until_open(port, process)
            selection = [word for case in cases for word in ("--include", case)]
            report = Path(directory, "report")
            reloading: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
            if server.admin_socket:
                reloading = Reloading(f"{directory}/{server.admin_socket}")
            with reloading:
                run = subprocess.run(
                    [kosoku, f"127.0.0.1:{port}", *selection, "--outdir", report],
                    cwd=directory,
                    check=False,  # it is 1 when a case failed, which the report says better
                    capture_output=True,
                    text=True,
                    timeout=RUN_SECONDS,
                )
            if not (report / "index.json").exists():
                raise SystemExit(f"{kosoku} wrote no report:\n{run.stdout}{run.stderr}")
            return read_report(report / "index.json")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def read_report(path: Path) -> list[Verdict]:
    """Return the verdicts of a report in the order of the cases, whatever name the server gave itself."""
    verdicts = [
        Verdict(case, verdict["behavior"], verdict["behaviorClose"])
        for cases in json.loads(path.read_text()).values()
        for case, verdict in cases.items()
    ]
    return sorted(verdicts, key=lambda verdict: [int(part) for part in verdict.case.split(".")])


def print_table(results: dict[str, list[Verdict]]) -> None:
    columns = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")
    print("| " + " | ".join(("", *columns)) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, verdicts in results.items():
        counts = Counter(verdict.summary for verdict in verdicts)
        print("| " + " | ".join((name, *(str(counts.pop(column, 0)) for column in columns))) + " |")
        if counts:
            raise SystemExit(f"verdicts that the table has no column for: {dict(counts)}")
    for name, verdicts in results.items():
        for verdict in verdicts:
            if verdict.is_failure:
                print(f"{name}: {verdict.case} {verdict.behaviour}, close {verdict.close}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [server.name for server in SERVERS]
    parser.add_argument("--servers", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--kosoku", type=Path, default=KOSOKU)
    parser.add_argument("--no-file", action="store_true", help="print only")
    options = parser.parse_args()
    if not options.kosoku.exists():
        raise SystemExit(f"{options.kosoku} is missing: run `make autobahn`, or give --kosoku")

    results = {}
    versions = {}
    for server in SERVERS:
        if server.name not in options.servers:
            continue
        try:
            versions[server.name] = importlib.metadata.version(server.package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{server.name} is not installed and left out", file=sys.stderr)
            continue
        print(f"{server.name} {versions[server.name]} ...", file=sys.stderr, flush=True)
        results[server.name] = run_cases(server, options.kosoku, options.cases)
    print_table(results)
    if not options.no_file:
        RESULTS.parent.mkdir(exist_ok=True)
        document = {
            name: {
                "version": versions[name],
                "counts": dict(Counter(verdict.summary for verdict in verdicts)),
                "failed": {
                    verdict.case: [verdict.behaviour, verdict.close]
                    for verdict in verdicts
                    if verdict.is_failure
                },
            }
            for name, verdicts in results.items()
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    ours = [
        verdict for name in results if name.startswith("asgireload") for verdict in results[name]
    ]
    return 0 if all(verdict.passes for verdict in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
