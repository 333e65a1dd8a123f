"""What is made of a run: what its log says, and what is wrong with it. Pure."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

PRELOADED, EACH_WORKER = "preloaded", "each worker imports it"
_UNSAFE = "The application cannot be shared by forking"
"""The admin surface tells the reasons, too."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OURS = re.compile(r"^(WARNING|ERROR|CRITICAL):\s+(.*)")
_TOLD_TO_LEAVE = "Told to leave by a signal"
_KILLED = re.compile(
    r"was killed|killed by SIG|ended while it drained|was ended before its time|hangs|is stuck"
)


@dataclass(frozen=True, slots=True)
class LogFacts:
    startups: int
    shutdowns: int
    has_lifespan: bool
    killed: tuple[str, ...]
    """Lines about workers that did not leave by themselves."""
    warnings: tuple[str, ...]
    """Other lines of asgireload above the level info, each once, with how often it came."""
    tracebacks: int


def read_log(lines: Iterable[str], expected: Iterable[int] = ()) -> LogFacts:
    """Return what the log of a server says of its workers.

    `expected`: the pids of workers that the run has ended itself; the log may say so.
    """
    ended = {str(pid) for pid in expected}
    startups = shutdowns = unsupported = tracebacks = 0
    killed: list[str] = []
    warnings: Counter[str] = Counter()
    for line in lines:
        text = _COLOURS.sub("", line).rstrip()
        startups += text.endswith("Application startup complete.")
        shutdowns += text.endswith("Application shutdown complete.")
        unsupported += "'lifespan' protocol appears unsupported" in text
        tracebacks += text.startswith("Traceback (most recent call last)")
        if _UNSAFE in text or _TOLD_TO_LEAVE in text or ended & set(re.findall(r"[0-9]+", text)):
            continue
        if _KILLED.search(text) and _OURS.match(text):
            killed.append(text)
        elif (found := _OURS.match(text)) is not None:
            # Without what changes from line to line.
            warnings[f"{found[1]}: {re.sub(r'[0-9]+', '#', found[2])}"] += 1
    told = tuple(f"{count} × {text}" for text, count in warnings.items())
    return LogFacts(
        startups, shutdowns, startups > 0 and not unsupported, tuple(killed), told, tracebacks
    )


def told_apart(files: Iterable[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that no pattern names, and those that one does."""
    unknown: list[str] = []
    own: list[str] = []
    for name in files:
        (own if any(fnmatch.fnmatchcase(name, each) for each in known) else unknown).append(name)
    return unknown, own


def loading_told(preload: bool, reasons: Iterable[str]) -> str:
    """Return how the application was loaded, with the reason where it was not preloaded."""
    if preload:
        return PRELOADED
    counted = Counter(reasons)
    told = [f"{count} × {text}" if count > 1 else text for text, count in counted.items()]
    return f"{EACH_WORKER}: {'; '.join(told) or 'no reason was given'}"


@dataclass(slots=True)
class Result:
    """What was found of one application. Seconds are those of this machine, and no verdict."""

    name: str
    packages: str = ""
    """Its distribution with the version."""
    asgireload: str = ""
    """Digest of the sources, to know what need not be run again."""
    asked: str = ""
    python: str = ""
    commit: str = ""
    compiled: bool | None = None
    """Whether the hot modules of asgireload were compiled; None: nobody has looked."""
    date: str = ""
    loaded: str = ""
    start_seconds: float | None = None
    verdicts: list[str] = field(default_factory=list)
    reload_seconds: list[float] = field(default_factory=list)
    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """Why requests failed, with how often."""
    endings: dict[str, int] = field(default_factory=dict)
    """How streams and WebSockets ended that clients kept open, with how often."""
    exit_status: int | None = None
    stop_seconds: float | None = None
    startups: int = 0
    shutdowns: int = 0
    has_lifespan: bool = False
    killed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tracebacks: int = 0
    ended: list[int] = field(default_factory=list)
    """Pids of the workers that the run has ended."""
    left_processes: list[str] = field(default_factory=list)
    left_files: list[str] = field(default_factory=list)
    own_files: list[str] = field(default_factory=list)
    """Files that the application is known to leave."""
    failure: str = ""
    """Why the run ended early; empty: it did not."""

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def counted(lines: Iterable[str]) -> list[str]:
    """Return each line once, without the numbers that change from line to line, with how often it came."""
    found = Counter(re.sub(r"[0-9]+", "#", _OURS.sub(r"\2", line)) for line in lines)
    return [f"{count} × {text}" for text, count in found.items()]


CRASHES = 1
"""Workers that the run itself kills: their lifespan has no shutdown."""
RELOADS = 3


def problems(result: Result) -> list[str]:
    """Return what is wrong with a run; empty: nothing."""
    if result.failure:
        return [result.failure]
    found = []
    if wrong := [verdict for verdict in result.verdicts if verdict != "committed"]:
        found.append(f"reloads: {', '.join(wrong)}")
    if len(result.verdicts) < RELOADS:
        found.append(f"{len(result.verdicts)} reloads of {RELOADS}")
    if result.failures:
        told = "; ".join(f"{count} × {reason}" for reason, count in result.failures.items())
        found.append(f"failed requests: {told}")
    if result.exit_status != 0:
        found.append(f"exit status {result.exit_status}")
    if result.killed:
        found.append(f"killed: {'; '.join(counted(result.killed))}")
    if result.has_lifespan and result.startups - result.shutdowns != CRASHES:
        found.append(
            f"lifespan: {result.startups} startups, {result.shutdowns} shutdowns, "
            f"{CRASHES} worker was killed on purpose"
        )
    if result.left_processes:
        found.append(f"processes left: {', '.join(result.left_processes)}")
    if result.left_files:
        found.append(f"files left: {', '.join(result.left_files)}")
    return found
