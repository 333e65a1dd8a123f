"""Runs the comparison: `make frameworks`, or `python -m benchmarks.frameworks --help`.

For each framework every server runs one process with all its stacks of middleware. The servers are asked side by
side, each by a thread of its own, one check after the other. What differs is asked again, and told only if it
differs every time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.common import machine
from benchmarks.common.asking import LoadError
from benchmarks.common.machine import ROOT, installed_version
from benchmarks.common.serving import free_port, make_certificate, server_environment, started

from . import report
from . import servers as tables
from .asking import Target
from .checks import FEATURES, Feature, Stacks, carry_out
from .environment import MIDDLEWARE
from .judging import Facts, Row, Verdict, judge
from .known import BETTER
from .servers import FRAMEWORKS, SERVERS, Framework, Server, arguments

APPS = Path(__file__).parent / "apps"
DATA = b"".join(b"row %05d of a text that compresses well\n" % number for number in range(4000))
"""About 160 kB: more than one read, and more than fits into what a kernel takes at once with a small buffer."""
MODIFIED_AT = 1_700_000_000
"""Of the file that is served: its validators are the same in every run."""
AGAIN = 2
"""How often a row that differs is asked again before it is told."""
AT_ONCE = 4
"""Comparisons side by side; nearly all of the time is spent waiting."""
STACKS_AT_ONCE = 13
"""A framework with more stacks is compared in several parts, each with servers of its own."""
BARE = "none"


@contextmanager
def running(
    server: Server, framework: Framework, place: Path, certificate: tuple[str, str], checkout: str
) -> Iterator[Target]:
    """Start a server over a framework's stacks and end all its processes afterwards.

    Raise LoadError with the last line of its log when it does not answer.
    """
    place.mkdir()
    data = place / "data"
    data.mkdir()
    (data / "data.txt").write_bytes(DATA)
    os.utime(data / "data.txt", (MODIFIED_AT, MODIFIED_AT))
    log_path, notes = place / "server.log", place / "notes"
    port = free_port()
    more = {
        "FRAMEWORKS_NOTES": str(notes),
        "FRAMEWORKS_DATA": str(data),
        # Where a deprecation is told once per process would be told by whichever check comes first.
        "PYTHONWARNINGS": "ignore",
    }
    places = [str(APPS)] + ([checkout] if checkout and server.is_ours else [])
    with started(
        [sys.executable, *arguments(server, f"{framework.module}:app", port, certificate)],
        port,
        log_path,
        cwd=data,
        environment=server_environment(*places, extra=more),
        is_tls=server.is_tls,
    ):
        yield Target(server.name, port, server.is_tls, log_path, notes, DATA)


def stacks_of(framework: Framework, data: str) -> list[str]:
    """Return the names of a framework's stacks, which only its module knows.

    `data`: a directory for what it serves. Raise LoadError with the reason when it cannot be imported.
    """
    code = f"import {framework.module} as m; print(*m.app.apps, sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(APPS), "FRAMEWORKS_DATA": data}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    if done.returncode:
        raise LoadError(f"{framework.module} cannot be imported: {done.stderr.strip()[-300:]}")
    return done.stdout.splitlines()


Task = tuple[str, Feature]


def plan(framework: Framework, stacks: Sequence[str], middleware: str, feature: str) -> list[Task]:
    """Return what is asked of each server, in order: the stack and the feature."""
    return [
        (stack, row)
        for stack in stacks
        for row in FEATURES
        if row.path not in framework.lacks
        and stack not in row.not_for
        and (
            stack == BARE
            or row.stacks is Stacks.ALL
            or (row.stacks is Stacks.OWN and stack.partition(",")[0] not in MIDDLEWARE)
        )
        and fnmatchcase(stack, middleware)
        and fnmatchcase(row.name, feature)
    ]


def is_asked(server: Server, feature: Feature, stack: str) -> bool:
    return not server.is_tls or (feature.over_tls and stack == BARE)


def compare(
    framework: Framework,
    tasks: Sequence[Task],
    servers: Sequence[Server],
    checkout: str,
    certificate: tuple[str, str],
    directory: Path,
) -> list[tuple[Row, Verdict]]:
    """Ask all servers about one framework and judge each row. Raise LoadError when a server does not start."""
    with ExitStack() as open_servers:
        targets = {
            server.name: open_servers.enter_context(
                running(
                    server,
                    framework,
                    directory / str(number),
                    certificate,
                    checkout,
                )
            )
            for number, server in enumerate(servers)
        }

        found: dict[tuple[str, str, str], Facts] = {}
        verdicts: dict[tuple[str, str, str], tuple[Row, Verdict]] = {}
        left = tasks
        with ThreadPoolExecutor(len(servers)) as pool:
            for _ in range(1 + AGAIN):
                orders = [(server, targets[server.name], left) for server in servers]
                for facts in pool.map(_ask_all, orders):
                    found.update(facts)
                rows = list(_rows(framework, servers, left, found))
                verdicts.update({key: (row, judge(row, BETTER)) for key, row in rows})
                again = {
                    (name, feature)
                    for (name, feature, _), (_, verdict) in verdicts.items()
                    if verdict.kind == "differs"
                }
                left = [task for task in left if (task[0], task[1].name) in again]
                if not left:
                    break
    return list(verdicts.values())


def _ask_all(order: tuple[Server, Target, Sequence[Task]]) -> dict[tuple[str, str, str], Facts]:
    server, target, tasks = order
    return {
        (stack, feature.name, server.name): carry_out(feature, target, stack)
        for stack, feature in tasks
        if is_asked(server, feature, stack)
    }


def _rows(
    framework: Framework,
    servers: Sequence[Server],
    tasks: Sequence[Task],
    found: dict[tuple[str, str, str], Facts],
) -> Iterator[tuple[tuple[str, str, str], Row]]:
    """Give out each row that was asked of asgireload, with what names it."""
    for stack, feature in tasks:
        for server in servers:
            if server.is_ours and is_asked(server, feature, stack):
                ours = found[stack, feature.name, server.name]
                theirs = found[stack, feature.name, server.reference]
                row = Row(framework.name, stack, feature.name, server.name, ours, theirs)
                yield (stack, feature.name, server.name), row


def describe(options: argparse.Namespace) -> dict[str, str]:
    return {
        **machine.describe(has_load=False),
        "commit": machine.commit(options.checkout or ROOT),
        "asgireload": "as it lies in a checkout" if options.checkout else "as installed",
    }


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frameworks", description=__doc__)
    parser.add_argument("--frameworks", default="", help="names, comma-separated")
    parser.add_argument("--middleware", default="*", help="pattern of stacks, as 'BaseHTTP*'")
    parser.add_argument("--feature", default="*", help="pattern of features, as 'client leaves*'")
    parser.add_argument(
        "--checkout",
        default="",
        metavar="DIRECTORY",
        help="asgireload from this checkout, not as installed",
    )
    parser.add_argument("--facts", type=Path, help="write the facts of every row as JSON")
    parser.add_argument("--docs", action="store_true", help="write the page into docs/")
    options = parser.parse_args(words)
    options.middleware = options.middleware or "*"
    options.feature = options.feature or "*"
    try:
        options.chosen = tables.choose(options.frameworks) if options.frameworks else FRAMEWORKS
    except ValueError as error:
        parser.error(str(error))
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Return 1 when a row differs in a way that is not known, or a framework could not be compared."""
    options = parse_arguments(words)
    began = time.monotonic()
    about = describe(options)
    judged: list[tuple[Row, Verdict]] = []
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="frameworks-") as directory:
        certificate = make_certificate(directory)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            pending: list[tuple[Framework, Future[list[tuple[Row, Verdict]]]]] = []
            for framework in options.chosen:
                try:
                    stacks = stacks_of(framework, directory)
                except LoadError as error:
                    failures[framework.name] = str(error)
                    continue
                for first in range(0, len(stacks), STACKS_AT_ONCE):
                    part = stacks[first : first + STACKS_AT_ONCE]
                    tasks = plan(framework, part, options.middleware, options.feature)
                    if not tasks:
                        continue
                    place = Path(directory) / f"{framework.module}-{first}"
                    place.mkdir()
                    future = pool.submit(
                        compare, framework, tasks, SERVERS, options.checkout, certificate, place
                    )
                    pending.append((framework, future))
            for framework, future in pending:
                try:
                    judged += future.result()
                except LoadError as error:
                    failures[framework.name] = str(error)
                print(f"{framework.name}: {time.monotonic() - began:.0f} s", flush=True)
    about["took"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    names = ("asgireload", "uvicorn", *(f.distribution for f in FRAMEWORKS), *MIDDLEWARE)
    versions = {name: v for name in names if (v := installed_version(name)) is not None}
    outcome = report.Outcome(about, versions, tuple(judged), failures)
    if options.facts:
        options.facts.write_text(json.dumps(report.facts(outcome), indent=1) + "\n")
    print(report.summary(outcome))
    if options.docs:
        report.write(outcome)
    return 0 if outcome.is_good else 1
