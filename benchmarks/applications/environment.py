"""Installs each application into a virtual environment of its own, .venv-applications/NAME, with this asgireload.

    python -m benchmarks.applications.environment [--applications 'datasette gradio'] [--asgireload-only]

Runs on any Python with the standard library; the newest versions for it are taken. asgireload is
built once from the checkout, compiled where there is a compiler, and installed as users install it. What is
installed already stays as it is until its packages change in `known.py`. An application that does not install is
named with the reason; the others go on.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common.machine import ROOT

from .known import APPLICATIONS, Application, choose

ENVIRONMENTS = ROOT / ".venv-applications"
BUILD = ROOT / "build" / "applications"
INSTALL_TIMEOUT = 1200
AT_ONCE = 2
SOURCES = ("asgireload", "hatch_build.py", "pyproject.toml")
"""What a wheel is built from."""


def python_of(application: Application) -> Path:
    return ENVIRONMENTS / application.name / "bin" / "python"


def digest_of_sources(root: Path = ROOT) -> str:
    """Return a short digest of all that asgireload is built from: the same digest, the same server."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = root / name
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def run(command: list[str]) -> str | None:
    """Run a command and return its last words when it failed."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=INSTALL_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return f"no end within {INSTALL_TIMEOUT} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1])


def installer() -> Path:
    """Return the path of uv, installed unless it is there. Raise OSError with the reason.

    Dozens of environments hold the same packages: uv links them, where pip would write and compile each again.
    """
    environment = ENVIRONMENTS / ".uv"
    path = environment / "bin" / "uv"
    if not path.exists():
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet"]
        reason = run([*pip, "--disable-pip-version-check", "install", "uv"])
        if reason is not None:
            raise OSError(f"uv was not installed: {reason}")
    return path


def build_wheel(digest: str) -> Path:
    """Return a wheel of the checkout; build it unless one of the same sources is there.

    Raise OSError with the reason.
    """
    place = BUILD / "wheels" / digest
    if not (found := list(place.glob("*.whl"))):
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
        reason = run([*pip, "--no-deps", "--wheel-dir", str(place), str(ROOT)])
        if reason is not None:
            raise OSError(f"asgireload was not built: {reason}")
        found = list(place.glob("*.whl"))
    return found[0]


def install(application: Application, uv: Path, wheel: Path, digest: str) -> str | None:
    """Install an application and asgireload; return why it failed. Nothing is done where all is there."""
    environment = ENVIRONMENTS / application.name
    stamp, server_stamp = environment / ".installed", environment / ".asgireload"
    wanted = " ".join(application.packages)
    python = python_of(application)
    pip = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
    if not python.exists():
        venv.create(environment)
    if not stamp.exists() or stamp.read_text() != wanted:
        # Together, so that versions are found that agree. What is not compiled now would be at each start.
        words = ["--upgrade", "--compile-bytecode", f"{wheel}[standard]", *application.packages]
        reason = run([*pip, *words])
        if reason is not None:
            return reason
        stamp.write_text(wanted)
        server_stamp.write_text(digest)
    elif not server_stamp.exists() or server_stamp.read_text() != digest:
        reason = run([*pip, "--reinstall", "--no-deps", "--compile-bytecode", str(wheel)])
        if reason is not None:
            return reason
        server_stamp.write_text(digest)
    return None


def install_all(applications: tuple[Application, ...]) -> dict[str, str]:
    """Install applications, two at a time; return the names of those that did not install, with the reason."""
    digest = digest_of_sources()
    wheel, uv = build_wheel(digest), installer()
    failures = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reasons = pool.map(lambda each: install(each, uv, wheel, digest), applications)
        for application, reason in zip(applications, reasons, strict=True):
            if reason is not None:
                failures[application.name] = reason
                print(f"{application.name}: not installed: {reason}", flush=True)
            else:
                print(f"{application.name}: installed", flush=True)
    return failures


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--applications", default="", help="names or patterns")
    options = parser.parse_args()
    os.chdir(ROOT)
    chosen = choose(options.applications) if options.applications else APPLICATIONS
    failures = install_all(chosen)
    if len(failures) == len(chosen):
        sys.exit("no application was installed")


if __name__ == "__main__":
    main()
