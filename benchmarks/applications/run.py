"""Takes real applications through reloads: `make applications`, or `python -m benchmarks.applications --help`.

Each application is started with two workers, asked for what it is for, and reloaded three times while clients
ask all the time. Then the number of workers grows and shrinks, one worker is told to leave, one is killed, and
the server is stopped. What was found is kept in build/applications/NAME.json, so a run that was broken off goes
on where it was.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.suite.clients import LoadError
from benchmarks.suite.load import ROOT
from benchmarks.suite.run import first_line
from benchmarks.suite.running import free_port, last_words

from . import report
from .asking import Held, Load, ask_once, failure_of
from .environment import BUILD, digest_of_sources, install_all, python_of
from .judging import CRASHES, RELOADS, Result, loading_told, problems, read_log, told_apart
from .known import Application, choose

HERE = Path(__file__).parent
WORKERS = 2
PREPARE_TIMEOUT, ASK_TIMEOUT = 300.0, 180.0
START_TIMEOUT, RELOAD_TIMEOUT, CHANGE_TIMEOUT, STOP_TIMEOUT = 600.0, 900.0, 120.0, 60.0
BOOT_TIMEOUT = 600
"""Far above what anything takes: no verdict depends on how busy the machine is."""
ANSWER_TIMEOUT = 30.0
BETWEEN = 20
"""Requests between two changes."""
POLL_INTERVAL = 0.1
FOREIGN = ("ASGIRELOAD_", "UVICORN_", "WEB_CONCURRENCY", "PYTHON", "VIRTUAL_ENV")
"""Variables of our own environment that would configure a server or its interpreter."""
MARK = "APPLICATIONS_RUN"
"""In the environment of all processes of a run, so that those that were left behind are found."""
QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "NO_COLOR": "1",
    "no_proxy": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Directories of one run, and the environment of its processes."""

    directory: Path
    mark: str
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    @property
    def runtime(self) -> Path:
        return self.directory / "run"


def make_place(application: Application) -> Place:
    """Make fresh directories for a run: nothing that an application writes is found by another."""
    directory = BUILD / "run" / application.name
    shutil.rmtree(directory, ignore_errors=True)
    mark = uuid.uuid4().hex
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    place = Place(directory, mark, {})
    for each in (place.work, place.temporary, place.runtime, directory / "home"):
        each.mkdir(parents=True)
    place.runtime.chmod(0o700)
    place.environment.update(kept)
    place.environment.update(QUIET)
    place.environment.update(
        {
            "HOME": str(directory / "home"),
            "TMPDIR": str(place.temporary),
            "XDG_RUNTIME_DIR": str(place.runtime),
            "PYTHONPATH": str(HERE / "apps"),
            "PATH": f"{python_of(application).parent}{os.pathsep}{kept.get('PATH', '')}",
            MARK: mark,
        }
    )
    place.environment.update(application.environment)
    return place


def call(place: Place, command: Sequence[str], timeout: float, what: str) -> None:
    """Run a command to its end. Raise LoadError with its last words when it fails."""
    path = place.directory / "calls.log"
    with path.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=place.work,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise LoadError(f"{what}: no end within {timeout:g} s") from None
    if code:
        raise LoadError(f"{what}: {last_line(path)}")


def last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:300]


def wait_until(holds: Callable[[], bool], timeout: float, what: str) -> None:
    """Raise LoadError when something does not come to hold in time."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise LoadError(f"not within {timeout:g} s: {what}")
        time.sleep(POLL_INTERVAL)


class Live:
    """A server that runs."""

    def __init__(
        self,
        application: Application,
        process: "subprocess.Popen[bytes]",
        place: Place,
        port: int,
        admin: int,
    ) -> None:
        self.application, self.process, self.place = application, process, place
        self.port, self.admin = port, admin

    def must_run(self) -> None:
        if self.process.poll() is not None:
            words = last_words(self.place.log)
            raise LoadError(f"the server ended with {self.process.returncode}: {words}")

    def order(self, path: str, method: str = "POST") -> tuple[int, Any]:
        """Ask on the admin port and return the status and what it says."""
        try:
            # A reload is answered with its verdict.
            answer = ask_once(self.admin, path, method, RELOAD_TIMEOUT + ANSWER_TIMEOUT)
        except (OSError, HTTPException) as error:
            self.must_run()
            raise LoadError(f"{method} {path}: {error}") from error
        return answer.status, json.loads(answer.body)

    def workers(self) -> list[dict[str, Any]]:
        self.must_run()
        found: list[dict[str, Any]] = self.order("/status", "GET")[1]["workers"]
        return found

    def wait_workers(self, count: int, gone: int = 0) -> None:
        """Wait until so many workers are ready and no other is there; `gone`: nor the one with this pid."""

        def settled() -> bool:
            workers = self.workers()
            ready = [worker["state"] == "ready" for worker in workers]
            return len(ready) == count and all(ready) and gone not in pids(workers)

        wait_until(settled, CHANGE_TIMEOUT, f"{count} workers that are ready")

    def answers(self) -> bool:
        self.must_run()
        try:
            answer = ask_once(self.port, self.application.load.path)
        except (OSError, HTTPException):
            return False
        failure = failure_of(self.application.load, answer)
        if failure:
            raise LoadError(f"{self.application.load.path}: {failure}: {answer.body[:200]!r}")
        return True

    def ask_all(self, when: str) -> None:
        """Ask for what the application is for. Raise LoadError when it does not do that."""
        script = self.application.script
        if script:
            path = HERE / "asks" / f"ask_{script[0]}.py"
            command = [str(python_of(self.application)), str(path), str(self.port), *script[1:]]
            call(self.place, command, ASK_TIMEOUT, f"asked {when}")
        else:
            self.answers()

    def end(self) -> None:
        """Kill what is left of the run; nothing is where it went well."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid, _ in processes_of(self.place.mark):
            kill(pid, self.place.mark)


def pids(workers: Sequence[dict[str, Any]]) -> list[int]:
    return [worker["pid"] for worker in workers]


@contextmanager
def companion(application: Application, place: Place) -> Iterator[None]:
    """Run what an application needs beside it."""
    if not application.companion:
        yield
        return
    port = free_port()
    place.environment["REDIS_URL"] = f"redis://127.0.0.1:{port}"
    # Not of the run: it is no part of the server.
    environment = {name: value for name, value in place.environment.items() if name != MARK}
    script = HERE / "asks" / f"{application.companion}.py"
    process = subprocess.Popen(
        [str(python_of(application)), str(script), str(port)],
        cwd=place.work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)


def command_of(application: Application, port: int, admin: int) -> list[str]:
    """Return the command of a server."""
    command = [str(python_of(application)), "-m", "asgireload", application.target]
    command += [*application.arguments, "--workers", str(WORKERS), "--port", str(port)]
    command += ["--admin-port", str(admin), "--no-access-log"]
    return [*command, "--boot-timeout", str(BOOT_TIMEOUT)]


@contextmanager
def running(application: Application, place: Place) -> Iterator[Live]:
    """Start a server and give it out. At the end no process of the run is left."""
    port, admin = free_port(), free_port()
    command = command_of(application, port, admin)
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=place.work,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    live = Live(application, process, place, port, admin)
    try:
        yield live
    finally:
        live.end()


def processes_of(mark: str) -> list[tuple[int, str]]:
    """Return the processes of a run that are still there, with what they call themselves."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or belongs to somebody else
        if wanted in variables:
            found.append((int(entry.name), name.strip()[:100]))
    return found


def kill(pid: int, mark: str) -> None:
    """Kill a process that was left behind, and no other that has its number now."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if any(pid == other for other, _ in processes_of(mark)):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended meanwhile
    finally:
        os.close(handle)


def carry_out(application: Application, result: Result) -> None:
    """Take one application through its run and write down what is found. Raise LoadError where it ends early."""
    place = make_place(application)
    if application.is_prepared:
        script = HERE / "apps" / f"{application.module}.py"
        call(place, [str(python_of(application)), str(script)], PREPARE_TIMEOUT, "prepared")
        clear(place.temporary)
    with companion(application, place), running(application, place) as live:
        try:
            take_through(live, result)
        finally:
            take_log(place, result)


def take_through(live: Live, result: Result) -> None:
    began = time.monotonic()
    wait_until(live.answers, START_TIMEOUT, "the first answer")
    result.start_seconds = time.monotonic() - began
    live.wait_workers(WORKERS)
    live.ask_all("after the start")
    template = live.order("/status", "GET")[1]["templates"][-1]
    result.loaded = loading_told(template["preload"], template["unsafe_reasons"])
    # Later it would be a reason to take the code back: within a minute of a reload.
    for _ in range(CRASHES):
        victim = live.workers()[0]["pid"]
        result.ended.append(victim)
        os.kill(victim, signal.SIGKILL)
        live.wait_workers(WORKERS, gone=victim)
    application = live.application
    load = Load(live.port, application.load, *((2, 1) if application.is_busy else (4, 2)))
    held = Held(live.port, application.held, application.subprotocol, 2 if application.held else 0)
    try:
        with held:
            try:
                with load:
                    replace_workers(live, load, result)
                ask_again(live, result)
                held.open_no_more()
                stop(live, result)
            finally:
                live.end()  # and what clients have open, whatever went wrong
    finally:
        failures = load.kept.failures + load.fresh.failures + held.failures
        result.requests, result.failures = load.asked(), dict(failures)
        result.endings = dict(held.endings)


def ask_again(live: Live, result: Result) -> None:
    """Ask for what the application is for, and look whether new code was taken back after its verdict."""
    live.ask_all("after the reloads")
    last = live.order("/reloads", "GET")[1]["reloads"]
    result.verdicts += [
        f"{each['outcome']} later" for each in last[:-1] if each["outcome"] != "committed"
    ]


def replace_workers(live: Live, load: Load, result: Result) -> None:
    """Reload, scale and recycle while clients ask."""
    for _ in range(RELOADS):
        load.wait_asked(BETWEEN, CHANGE_TIMEOUT)
        status, said = live.order(f"/reload?wait=1&timeout={RELOAD_TIMEOUT:g}")
        reload = said.get("reload", said)
        told = said.get("detail") or f"status {status}"
        result.verdicts.append("committed" if status == 200 else str(told))
        if reload.get("duration") is not None:
            result.reload_seconds.append(reload["duration"])
    # Workers that drain while clients ask.
    live.wait_workers(WORKERS)
    for count in (WORKERS + 1, WORKERS - 1, WORKERS):
        status, said = live.order(f"/scale?workers={count}")
        if status != 202:
            raise LoadError(f"scale to {count}: status {status}: {said.get('detail')}")
        live.wait_workers(count)
        load.wait_asked(BETWEEN, CHANGE_TIMEOUT)
    leaver = live.workers()[0]["pid"]
    result.ended.append(leaver)
    os.kill(leaver, signal.SIGTERM)
    live.wait_workers(WORKERS, gone=leaver)
    load.wait_asked(BETWEEN, CHANGE_TIMEOUT)


def stop(live: Live, result: Result) -> None:
    """Stop the server and look for what it has left."""
    began = time.monotonic()
    live.process.terminate()
    try:
        result.exit_status = live.process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise LoadError(f"no end within {STOP_TIMEOUT:g} s of SIGTERM") from None
    result.stop_seconds = time.monotonic() - began
    place = live.place
    result.left_processes = [name for _, name in processes_of(place.mark)]
    left = files_below(place.temporary) + files_below(place.runtime)
    result.left_files, result.own_files = told_apart(left, live.application.leaves)


def files_below(directory: Path) -> list[str]:
    """Return the files, sockets and empty directories below a directory; of many, the first."""
    found = sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    )
    # The admin socket's directory stays for the next server of this user.
    return [name for name in found if name != "asgireload"]


def clear(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def take_log(place: Place, result: Result) -> None:
    with place.log.open(errors="replace") as log:
        facts = read_log(log, result.ended)
    result.startups, result.shutdowns = facts.startups, facts.shutdowns
    result.has_lifespan, result.tracebacks = facts.has_lifespan, facts.tracebacks
    result.killed, result.warnings = list(facts.killed), list(facts.warnings)


def versions_of(application: Application) -> str:
    """Return the name and version of the distribution that an application is."""
    distribution = application.packages[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return f"{distribution} {first_line([str(python_of(application)), '-c', code])}"


def is_compiled(application: Application) -> bool:
    """Return whether the asgireload in the environment of an application has compiled modules."""
    code = "import asgireload.http1.reader as reader; print(reader.__file__)"
    return first_line([str(python_of(application)), "-c", code]).endswith(".so")


def examine(application: Application, digest: str, failures: dict[str, str]) -> Result:
    """Run one application and return what was found, whatever happens."""
    result = Result(
        application.name,
        asgireload=digest,
        asked=application.asked,
        python=platform.python_version(),
        commit=first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    if application.name in failures:
        result.failure = f"not installed: {failures[application.name]}"
        return result
    result.packages = versions_of(application)
    result.compiled = is_compiled(application)
    try:
        carry_out(application, result)
    except (LoadError, OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
        result.failure = str(error) or type(error).__name__
    return result


def kept_result(application: Application) -> Result | None:
    """Return what is kept of an application, if it was this version of the script that has written it."""
    try:
        return Result(**json.loads((BUILD / f"{application.name}.json").read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def keep(result: Result) -> None:
    path = BUILD / f"{result.name}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(result), indent=1) + "\n")
    fresh.replace(path)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.applications", description=__doc__)
    parser.add_argument("--applications", default="", help="names or patterns, as 'data* gradio'")
    parser.add_argument(
        "--again", action="store_true", help="also those that this asgireload has been run with"
    )
    parser.add_argument("--docs", action="store_true", help="write the page from all that is kept")
    parser.add_argument("--docs-only", action="store_true", help="run nothing, write the page")
    options = parser.parse_args(words)
    try:
        options.chosen = choose(options.applications)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Return 1 when something is wrong with an application that was chosen."""
    options = parse_arguments(words)
    digest = digest_of_sources()
    BUILD.mkdir(parents=True, exist_ok=True)
    missing = [
        application
        for application in options.chosen
        if options.again or (kept := kept_result(application)) is None or kept.asgireload != digest
    ]
    if missing and not options.docs_only:
        failures = install_all(tuple(missing))
        for application in missing:
            result = examine(application, digest, failures)
            keep(result)
            print(f"{application.name}: {report.summary(result)}", flush=True)
    results = [kept for each in options.chosen if (kept := kept_result(each)) is not None]
    if options.docs or options.docs_only:
        report.write(results)
    wrong = [result.name for result in results if problems(result)]
    print(f"{len(results)} applications, {len(results) - len(wrong)} as expected")
    if wrong:
        print(f"not as expected: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0
