"""Which server is started when, and for which cases. Pure.

Servers take turns within a setting, and the whole sequence is repeated in each round, so that a slow
minute of the machine falls on all of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .cases import Case, Kind, Setting
from .servers import Server, takes_part

START_SECONDS = 1.6
"""What a start, the first answer and the stop of a small server take, roughly."""
HEAVY_START_SECONDS = 0.8
"""What each worker with FastAPI or Django adds where it imports by itself."""
SLOW_KINDS = {Kind.IDLE: 15.0, Kind.MEMORY: 2.0, Kind.STARTUP: 0.0}


@dataclass(frozen=True, slots=True)
class Block:
    """One start of one server with the cases that are measured on it."""

    round: int
    setting: Setting
    server: Server
    cases: tuple[Case, ...]


def plan(
    cases: Sequence[Case],
    servers: Sequence[Server],
    rounds: int,
    goal_rounds: int = 0,
    compared: Mapping[str, Collection[str]] | None = None,
) -> list[Block]:
    """Return the blocks in the order they are run.

    `compared`: for each case that a goal is about, the servers that it compares. Only these are measured in
    the rounds from `rounds` up to `goal_rounds`.
    """
    settings = list(dict.fromkeys(case.setting for case in cases))
    blocks = []
    for number in range(max(rounds, goal_rounds)):
        for setting in settings:
            wanted = [c for c in cases if c.setting == setting and (number == 0 or not c.once)]
            for server in servers:
                taken = tuple(
                    case
                    for case in wanted
                    if takes_part(server, case)
                    and (number < rounds or server.name in (compared or {}).get(case.name, ()))
                )
                if taken:
                    blocks.append(Block(number, setting, server, taken))
    return blocks


def estimate(blocks: Iterable[Block], seconds: int, *, latency_rounds: int) -> float:
    """Return about how many seconds the blocks will take, with open-loop runs in so many rounds."""
    total = 0.0
    for block in blocks:
        total += START_SECONDS
        if block.setting.app in {"fast", "classic"}:
            total += HEAVY_START_SECONDS * block.setting.workers
        for case in block.cases:
            total += SLOW_KINDS.get(case.kind, seconds + 0.4)
            if case.kind is Kind.CLOSED:
                total += case.connections / 4000
            if block.round < latency_rounds and case.latency_rate:
                total += seconds + 0.4
    return total
