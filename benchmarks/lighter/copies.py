"""Copies of the package, one for each variant: with bytecode, and compiled where that is asked for."""

import ast
import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.suite.load import ROOT
from benchmarks.suite.running import FOREIGN

from .edits import apply_all
from .variants import Variant

PACKAGE = "asgireload"
COMPILE_TIMEOUT = 1800.0
"""Seconds; two minutes where nothing else computes."""
WITHOUT = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPATH", *FOREIGN)
"""Variables that would configure a server, or leave it without bytecode."""


def sources_of(package: Path) -> dict[str, str]:
    """Return the modules of a package by their paths."""
    return {
        path.relative_to(package).as_posix(): path.read_text()
        for path in sorted(package.rglob("*.py"))
    }


def make_copy(checkout: Path, variant: Variant, place: Path, *, is_compiled: bool = False) -> Path:
    """Write the package of a checkout with the edits of a variant below `place`; return what to import it from.

    Raise EditError.
    """
    # Of one length: paths are part of what is read and hashed.
    home = place / f"{len(list(place.iterdir())):03}"
    package = home / PACKAGE
    shutil.copytree(
        checkout / PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    for path, text in apply_all(sources_of(package), variant.edits).items():
        (package / path).write_text(text)
    if is_compiled:
        _compile(checkout, home)
    compileall.compile_dir(package, quiet=1)
    return home


def _compile(checkout: Path, home: Path) -> None:
    """Compile the copy as a wheel's modules are. Needs mypy, setuptools and a C compiler."""
    words = {"MODULES": (), "SCRIPT": "", "PACKAGE": ""}
    for node in ast.parse((checkout / "hatch_build.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in words:
            words[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    sources = [f"{words['PACKAGE']}/{module}" for module in words["MODULES"]]
    subprocess.run(
        [sys.executable, "-c", words["SCRIPT"], *sources],
        cwd=home,
        check=True,
        capture_output=True,
        timeout=COMPILE_TIMEOUT,
    )


def environment(home: Path, *more: Path) -> dict[str, str]:
    """Return the environment of a server whose package lies in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(WITHOUT)}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, (home, *more)))}


def default_checkout() -> Path:
    return ROOT
