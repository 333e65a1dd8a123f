"""What is saved at each start by patterns kept as text, Structs and late imports: instructions, and CPU time.

Instructions are counted by cachegrind (Debian: valgrind), which does not mind what else the machine does: two
counts differ by some thousand. Without it there is CPU time only.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .copies import environment
from .early import turned
from .figures import Samples
from .variants import Variant

PROGRAMS = {
    "command line": "import asgireload.cli.main",
    "supervisor": "import asgireload.cli.main, asgireload.cli.serve, asgireload.supervisor.start,"
    " asgireload.supervisor.loop",
    "template": "import asgireload.template.main",
}
"""What the processes of a start import of the package, each in an interpreter of its own."""
TIMED = ("supervisor", "template")
YARDSTICK = "import fastapi"
METRICS = {
    **{f"{name}, million instructions": 1 for name in PROGRAMS},
    **{f"{name}, CPU ms": 1 for name in TIMED},
    f"{YARDSTICK}, million instructions": 1,
}


def measure(homes: Mapping[Variant, Path], rounds: int) -> Samples:
    """Count once, and take the time in each round."""
    samples = Samples(METRICS)
    variants = list(homes)
    if shutil.which("valgrind") is not None:
        for variant in variants:
            samples.add(
                variant.name,
                {
                    f"{name}, million instructions": count(homes[variant], program)
                    for name, program in PROGRAMS.items()
                },
            )
        counted = count(homes[variants[0]], YARDSTICK)
        samples.add(variants[0].name, {f"{YARDSTICK}, million instructions": counted})
    for number in range(rounds):
        for variant in turned(variants, number):
            samples.add(
                variant.name,
                {f"{name}, CPU ms": spend(homes[variant], PROGRAMS[name]) for name in TIMED},
            )
    return samples


def count(home: Path, program: str) -> float:
    """Return the million instructions of an interpreter that runs a program."""
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*tool, sys.executable, "-c", program],
        cwd=home,
        env={**environment(home), "PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    return parse_count(done.stderr) / 1e6


def parse_count(output: str) -> int:
    """Return the instructions that cachegrind tells. Raise ValueError without them. Pure."""
    found = re.search(r"I +refs: +([\d,]+)", output)
    if found is None:
        raise ValueError(f"cachegrind told no instructions: {output[-200:]!r}")
    return int(found[1].replace(",", ""))


def spend(home: Path, program: str) -> float:
    """Return the CPU milliseconds of an interpreter that runs a program."""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=home, env=environment(home))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return (usage.ru_utime + usage.ru_stime) * 1e3
