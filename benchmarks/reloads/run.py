"""Runs the parts: `make reload-bench`, `make reload-bench-kill`, `make reload-bench-quiet`, or
`python -m benchmarks.reloads --help`."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence

from benchmarks.common import keeping, machine
from benchmarks.common.machine import installed_version

from . import kill, quiet, report, trial
from .records import kinds_for
from .results import KILL, MIXED, QUIET, Run, dump, summary
from .servers import OURS, Server, choose, competing
from .trial import Machine

BESIDE = ("uvloop", "httptools", "gunicorn_h1c", "websockets")
"""What some of the servers stand on."""
RELOADS = 20
SECONDS = 60.0
TARGETS = {MIXED: "reload-bench", KILL: "reload-bench-kill", QUIET: "reload-bench-quiet"}


def describe(options: argparse.Namespace) -> dict[str, str]:
    """Return what one must know to repeat the run and to judge it."""
    words = ["make", TARGETS[options.part]]
    words += [f"{name.upper()}={value}" for name, value in options.given.items()]
    rows = {
        **machine.describe(" ".join(words)),
        "commit": machine.commit(),
        "pinned": (
            "nothing"
            if options.server_cpus is None
            else f"servers to CPU {options.server_cpus}, clients to CPU {options.load_cpus}"
        ),
    }
    if options.checkout:
        rows["asgireload"] = "from the checkout, not compiled"
    return rows


def versions(chosen: Sequence[Server]) -> dict[str, str]:
    """Return the versions of the servers and of what they stand on."""
    names = (*(server.distribution for server in chosen), *BESIDE)
    found = ((name, installed_version(name)) for name in names)
    return {name: version for name, version in found if version is not None}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    server_cpus, load_cpus = machine.default_cpus()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reloads", description=__doc__)
    parser.add_argument("--kill", action="store_true", help="kill processes of ours meanwhile")
    parser.add_argument("--quiet", action="store_true", help="a steady load, with and without")
    parser.add_argument("--servers", default="", help="names, comma-separated")
    parser.add_argument("--reloads", default="", help=f"reloads of each server ({RELOADS})")
    parser.add_argument("--seconds", default="", help=f"each half of the quiet part ({SECONDS:g})")
    parser.add_argument("--seed", default="", help="of everything that is random (0)")
    parser.add_argument("--server-cpus", default=server_cpus, help="as taskset takes them")
    parser.add_argument("--load-cpus", default=load_cpus, help="as taskset takes them")
    parser.add_argument(
        "--checkout", action="store_true", help="run asgireload from the checkout, not as installed"
    )
    parser.add_argument("--docs", action="store_true", help="write the report into docs/")
    options = parser.parse_args(arguments)
    # make hands an unset variable down as an empty word
    names = ("servers", "reloads", "seconds", "seed")
    options.given = {name: getattr(options, name) for name in names if getattr(options, name)}
    if options.kill and options.quiet:
        parser.error("--kill and --quiet are two runs")
    options.part = KILL if options.kill else QUIET if options.quiet else MIXED
    if options.part == QUIET:
        # Here it matters what a whole machine makes of a reload; elsewhere that clients take nothing away.
        options.server_cpus = options.load_cpus = None
    try:
        options.reloads = int(options.reloads or RELOADS)
        options.seconds = float(options.seconds or SECONDS)
        options.seed = int(options.seed or 0)
        options.chosen = choose(options.servers or ("" if options.part == MIXED else OURS))
        if options.part == QUIET and not options.servers:
            options.chosen += [competing(server) for server in options.chosen]
    except ValueError as error:
        parser.error(str(error))
    if options.reloads < 1 or not options.seconds > 0:
        parser.error("--reloads is a whole number from 1, --seconds a number above 0")
    if options.part == KILL and [server.name for server in options.chosen] != [OURS]:
        parser.error(f"--kill is for {OURS} only: it asks the server for its processes")
    return options


def carry_out(options: argparse.Namespace) -> Run:
    """Run one part and return what came of it."""
    run = Run(options.part, describe(options), versions(options.chosen))
    where = Machine(options.server_cpus, options.load_cpus, options.checkout)
    if os.getloadavg()[0] > machine.BUSY_LOAD:
        print("the machine is not quiet: the figures will not be worth much", flush=True)
    for server in options.chosen:
        if installed_version(server.distribution) is None:
            run.left_out[server.name] = "not installed"
            print(f"left out: {server.name} (not installed)", flush=True)
            continue
        # Names of Unix sockets may have 107 bytes; the system's directory is short.
        with tempfile.TemporaryDirectory(prefix="reloads-") as directory:
            began = time.monotonic()
            if options.part == MIXED:
                kinds = kinds_for(server.name)
                done = trial.carry_out(
                    server, kinds, options.reloads, directory, where, options.seed
                )
                run.trials.append(done)
            elif options.part == KILL:
                run.kill = kill.carry_out(options.reloads, directory, where, options.seed)
            else:
                run.quiet.append(quiet.carry_out(server, options.seconds, directory, where))
            print(f"{server.name}: {time.monotonic() - began:.0f} s", flush=True)
    return run


def main() -> None:
    options = parse_arguments()
    began = time.monotonic()
    run = carry_out(options)
    run.about["took"] = f"{(time.monotonic() - began) / 60:.0f} minutes"
    print(report.console(run))
    keeping.keep(dump(run), f"reloads-{run.part}")
    if options.docs:
        keeping.keep_latest(summary(run), f"reloads-{run.part}")
        report.write(run)
