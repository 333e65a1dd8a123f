"""Packages for the virtual environment of a benchmark. Needs nothing but the standard library."""

import subprocess
from pathlib import Path

INSTALL_TIMEOUT = 600


def install(python: Path, packages: tuple[str, ...]) -> str | None:
    """Install with pip and return its last words when it failed."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*pip, *packages],
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return f"not installed within {INSTALL_TIMEOUT} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"]
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1])
