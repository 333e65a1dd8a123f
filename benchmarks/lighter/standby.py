"""What import checkpoint and standby template bring in development, on top of the library base.

From a save to the first new answer; CPU time and memory."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.development.asking import save
from benchmarks.development.projects import VERSION, versioned
from benchmarks.suite.clients import LoadError
from benchmarks.suite.measure import cpu_seconds, pss_bytes, wait_settled

from .early import turned
from .figures import Samples
from .serving import ask, serving
from .variants import Variant

MODULES = 40
"""Of the application; each takes a millisecond or two, for a few models of pydantic."""
WARM_UP = 3
"""Saves before the first that counts: the base is built after a load, and a checkpoint is left by one."""
REST = 1.0
"""Seconds after the saves of a round: a base is built anew half a second after a load."""
ANSWER_TIMEOUT = 20.0

_MODELS = """from pydantic import BaseModel


class Item{n}(BaseModel):
    name: str
    note: str | None = None
    numbers: list[int] = []


class Order{n}(BaseModel):
    items: list[Item{n}]
    total: float


class Answer{n}(BaseModel):
    order: Order{n}
    message: str
"""

_MAIN = """from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

{imports}

app = FastAPI(openapi_url=None)


@app.get("/")
async def front():
    return PlainTextResponse(VERSION)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the edited module is imported."""

    name: str
    position: int
    """How many modules of the application are imported before it."""


PLACES = (Place("edited first", 0), Place("edited last", MODULES))
METRICS = {
    f"{place.name}: {metric}": digits
    for place in PLACES
    for metric, digits in (
        ("save to answer, ms", 1),
        ("CPU until the answer, ms", 1),
        ("CPU of a save, ms", 1),
        ("memory, MB", 1),
    )
}


def write_project(directory: Path, place: Place) -> Path:
    """Write an application there; return the file that is edited."""
    package = directory / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    lines = [f"from shop import models{n}" for n in range(MODULES)]
    for n in range(MODULES):
        (package / f"models{n}.py").write_text(_MODELS.format(n=n))
    lines.insert(place.position, "from shop.version import VERSION")
    (directory / "main.py").write_text(_MAIN.format(imports="\n".join(lines)))
    (package / "version.py").write_text(versioned(0))
    return package / "version.py"


def measure(homes: Mapping[Variant, Path], rounds: int) -> Samples:
    """Save for each variant in each round; all servers of one place live at the same time."""
    samples = Samples(METRICS)
    for place in PLACES:
        with ExitStack() as stack:
            servers = {}
            for variant, home in homes.items():
                directory = home / place.name.replace(" ", "-")
                file = write_project(directory, place)
                flags = ("--reload", "--admin-socket", "none")
                live = stack.enter_context(serving(home, variant, "main:app", directory, flags))
                servers[variant] = live, file
            for number in range(-WARM_UP, rounds):
                version = number + WARM_UP + 1
                found: dict[Variant, dict[str, float]] = {}
                for variant in turned(list(servers), number):
                    live, file = servers[variant]
                    spent = cpu_seconds(live.pid)
                    found[variant] = {
                        "save to answer, ms": _save_and_wait(live.port, file, version) * 1e3
                    }
                    # What somebody waits for, and what a busy machine changes least.
                    waited = cpu_seconds(live.pid) - spent
                    found[variant]["CPU until the answer, ms"] = waited * 1e3
                    # With what is done ahead for the next save.
                    wait_settled(live.pid, REST)
                    found[variant]["CPU of a save, ms"] = (cpu_seconds(live.pid) - spent) * 1e3
                time.sleep(REST)
                if number >= 0:
                    for variant, values in found.items():
                        values["memory, MB"] = pss_bytes(servers[variant][0].pid) / (1 << 20)
                        named = {f"{place.name}: {metric}": v for metric, v in values.items()}
                        samples.add(variant.name, named)
    return samples


def _save_and_wait(port: int, file: Path, version: int) -> float:
    """Return the seconds from the save to the first answer with it. Raise LoadError."""
    saved = save(file, versioned(version))
    while time.monotonic() < saved + ANSWER_TIMEOUT:
        found = VERSION.search(ask(port))
        if found is not None and int(found[1]) == version:
            return time.monotonic() - saved
    raise LoadError(f"version {version} was not served within {ANSWER_TIMEOUT:g} s")
