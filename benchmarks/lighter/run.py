"""Runs one question: `python -m benchmarks.lighter --what spread|early|imports|standby|direct`."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.suite.run import cpu_model

from . import direct, early, imports, spread, standby
from .copies import default_checkout, make_copy
from .figures import Samples
from .variants import QUESTIONS, Variant

ROUNDS = {"spread": 5, "early": 8, "imports": 5, "standby": 5, "direct": 12}
"""Of each question, so that a run takes about a minute and a half on two CPUs that have nothing else to do."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lighter", description=__doc__)
    parser.add_argument("--what", choices=sorted(QUESTIONS), required=True)
    parser.add_argument("--rounds", type=int, default=0, help=f"usually {ROUNDS}")
    parser.add_argument(
        "--checkout", type=Path, default=default_checkout(), help="whose package is measured"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="compile every variant, for minutes"
    )
    parser.add_argument("--rate", type=float, help="spread: requests per second")
    parser.add_argument("--busy", type=int, default=0, help="spread: other processes that compute")
    parser.add_argument("--load-cpus", help="direct: CPUs for wrk, as taskset takes them")
    parser.add_argument("--only", default="", help="variants, comma-separated, beside the first")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or ROUNDS[options.what]
    return options


def chosen(options: argparse.Namespace) -> list[Variant]:
    """Return the variants that are asked for; the first is always among them. Raise SystemExit."""
    first, *others = QUESTIONS[options.what]
    names = options.only.split(",") if options.only else [variant.name for variant in others]
    known = {variant.name: variant for variant in others}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no variant is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [first, *(known[name] for name in names)]


def main() -> None:
    options = parse_arguments()
    measures: dict[str, Callable[[Mapping[Variant, Path], int], Samples]] = {
        "spread": lambda homes, rounds: spread.measure(homes, rounds, options.rate, options.busy),
        "early": early.measure,
        "imports": imports.measure,
        "standby": standby.measure,
        "direct": lambda homes, rounds: direct.measure(homes, rounds, options.load_cpus),
    }
    print(f"{cpu_model()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lighter-") as place:
        homes = {
            variant: make_copy(options.checkout, variant, Path(place), is_compiled=options.compiled)
            for variant in chosen(options)
        }
        began = time.monotonic()
        samples = measures[options.what](homes, options.rounds)
        took = time.monotonic() - began
    print(f"{options.what}, {options.rounds} rounds, {took:.0f} s\n")
    print(samples.table([variant.name for variant in homes]))
