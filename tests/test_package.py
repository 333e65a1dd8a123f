"""What is in the wheel: everything the server needs, and nothing else."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parent.parent


def build(tmp_path_factory, **environment):
    """Build in a copy, without the network: the build backend is installed already."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    source = tmp_path_factory.mktemp("source")
    for name in ("asgireload", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=170,
        env={**os.environ, **environment},
    )
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory, ASGIRELOAD_COMPILE="0")


def test_without_a_compiler_the_wheel_is_pure_python(tmp_path_factory):
    path = build(tmp_path_factory, CC="/no/such/compiler", ASGIRELOAD_COMPILE="auto")
    assert path.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".so")]


def test_wheel_holds_the_package_its_types_and_its_style_sheet(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"asgireload/py.typed", "asgireload/admin/style.css", "asgireload/__main__.py"} <= names
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "asgireload").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= names
    assert all(name.startswith(("asgireload/", "asgireload-")) for name in names)


def test_wheel_needs_few_packages_and_names_its_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert b"asgireload = asgireload.cli.main:main" in archive.read(entry)
    hard = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(hard) == 3, hard


def compiled_modules():
    for node in ast.walk(ast.parse((ROOT / "hatch_build.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            return ast.literal_eval(node.value)
    raise AssertionError("hatch_build.py has no MODULES any more")


@pytest.mark.parametrize("name", compiled_modules())
def test_nothing_compiled_waits_while_it_handles_an_exception(name):
    """mypyc keeps the exception for whoever runs next, for good if the coroutine ends in that wait."""
    tree = ast.parse((ROOT / "asgireload" / name).read_text())
    handlers = [node.body for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    endings = [node.finalbody for node in ast.walk(tree) if isinstance(node, ast.Try)]
    waits = [
        node.lineno
        for body in [*handlers, *endings]
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom)
    ]
    assert waits == []


@pytest.mark.parametrize("name", compiled_modules())
def test_no_attribute_becomes_a_keyword_of_c(name):
    """mypyc puts an underscore before the names of attributes, and gcc has `__inline` and the like."""
    keywords = {"alignof", "asm", "attribute", "complex", "const", "imag"}
    keywords |= {"inline", "int128", "real", "restrict", "signed", "thread", "typeof"}
    tree = ast.parse((ROOT / "asgireload" / name).read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {f"_{keyword}" for keyword in {*keywords, "volatile"}} & attributes
