"""Installs the servers to compare with into a virtual environment of their own, .venv-bench.

    python -m benchmarks.suite.peers [--environment .venv-bench] [--development]

Runs on any Python with the standard library. asgireload is built from this checkout and installed as users
install it, compiled where there is a compiler; `make bench` does that again before each run. A peer that does
not install is named and skipped; without what the suite itself needs, this fails.
"""

import argparse
import sys
import venv
from pathlib import Path

from benchmarks.common.machine import ROOT
from benchmarks.common.packages import install

BASE = (f"{ROOT}[standard]", "fastapi", "django")
PEERS: tuple[tuple[str, ...], ...] = (
    ("uvicorn", "httptools", "uvloop", "websockets", "wsproto"),
    # Its extra "fast" names a parser newer than some indexes have; pip would then take an older gunicorn.
    ("gunicorn", "gunicorn_h1c"),
    ("granian",),
    ("hypercorn",),
    ("h2corn",),
    ("fastpysgi",),
    ("peregrine-server",),
    ("freastal",),
    ("m0serve",),
)
"""Each group is installed or skipped as one."""
DEVELOPMENT = ("watchfiles", "fastapi", "sqlalchemy", "pandas", "numpy", "django")
"""What the applications of `make dev-bench` import, and what servers watch files with."""


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-bench")
    parser.add_argument(
        "--development", action="store_true", help="also what benchmarks/development needs"
    )
    options = parser.parse_args()
    environment: Path = options.environment
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    needed = (*BASE, *DEVELOPMENT) if options.development else BASE
    reason = install(python, needed)
    if reason is not None:
        sys.exit(f"the suite needs {', '.join(needed)}: {reason}")
    for packages in PEERS:
        reason = install(python, packages)
        print(
            f"{packages[0]}: installed" if reason is None else f"{packages[0]}: left out: {reason}"
        )


if __name__ == "__main__":
    main()
