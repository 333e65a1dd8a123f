"""What starting the first template early, and forking it, brings: time to the first answer, CPU time, memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.suite.measure import cpu_seconds, pss_bytes, wait_settled
from benchmarks.suite.running import APPS

from .figures import Samples
from .serving import serving
from .variants import Variant

SETTLE_TIMEOUT = 5.0
WORKERS = 4
APP = "fast:app"
"""Hello from FastAPI."""
METRICS = {"first answer, ms": 0, "CPU of the start, ms": 0, "memory, MB": 1}


def measure(homes: Mapping[Variant, Path], rounds: int) -> Samples:
    """Start each variant once in each round, every round from another one on."""
    samples = Samples(METRICS)
    variants = list(homes)
    for number in range(-1, rounds):
        for variant in turned(variants, number):
            found = start_once(homes[variant], variant)
            if number >= 0:  # the one before has only read files into the cache of the system
                samples.add(variant.name, found)
    return samples


def turned(variants: Sequence[Variant], number: int) -> list[Variant]:
    """Return the variants from another one on in each round: none always follows the same one."""
    by = number % len(variants)
    return [*variants[by:], *variants[:by]]


def start_once(home: Path, variant: Variant) -> dict[str, float]:
    flags = ("--workers", str(WORKERS), "--admin-socket", "none")
    with serving(home, variant, APP, APPS, flags) as live:
        wait_settled(live.pid, SETTLE_TIMEOUT)
        return {
            "first answer, ms": live.answered_seconds * 1e3,
            "CPU of the start, ms": cpu_seconds(live.pid) * 1e3,
            "memory, MB": pss_bytes(live.pid) / (1 << 20),
        }
