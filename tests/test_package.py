"""What is in the wheel: everything the server needs, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build in a copy, without the network: the build backend is installed already."""
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    source = tmp_path_factory.mktemp("source")
    for name in ("asgireload", "pyproject.toml", "README.md", "LICENSE"):
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
        timeout=60,
    )
    (path,) = target.glob("*.whl")
    return path


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
