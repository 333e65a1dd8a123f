"""Two saves of one size within one second must not leave the first one serving."""

import os
import subprocess
import sys

from asgireload.bytecode import remove_doubtful_bytecode, remove_if_doubtful


def load(directory):
    """Import the module in a fresh interpreter that writes bytecode, and return its value."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", "import module; print(module.X)"],
        cwd=directory,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def save(path, text, at):
    path.write_text(text)
    os.utime(path, ns=(at, at))


def test_bytecode_written_right_after_its_source_is_not_trusted(tmp_path):
    source = tmp_path / "module.py"
    second = 1_700_000_000 * 10**9
    save(source, "X = 1\n", second + 100_000_000)
    assert load(tmp_path) == "1"
    (bytecode,) = (tmp_path / "__pycache__").iterdir()
    os.utime(bytecode, ns=(second + 200_000_000, second + 200_000_000))
    save(source, "X = 2\n", second + 300_000_000)
    assert load(tmp_path) == "1", "the trap: Python takes the old bytecode"
    assert remove_doubtful_bytecode(str(tmp_path)) == 1
    assert load(tmp_path) == "2"


def test_bytecode_of_old_sources_and_of_packages_is_kept(tmp_path):
    save(tmp_path / "module.py", "X = 1\n", 1_700_000_000 * 10**9)
    load(tmp_path)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "module.py").write_text("X = 1\n")
    load(installed)
    assert remove_doubtful_bytecode(str(tmp_path)) == 0


def test_a_file_moved_into_the_place_of_another_is_not_trusted_in_development(tmp_path):
    """Size and time of change in whole seconds are equal, so Python sees no difference."""
    at = 1_700_000_000 * 10**9
    source, other = tmp_path / "module.py", tmp_path / "other.txt"
    save(source, "X = 1\n", at)
    save(other, "X = 2\n", at)
    assert load(tmp_path) == "1"
    other.rename(source)
    assert load(tmp_path) == "1", "the trap: Python takes the old bytecode"
    assert not remove_if_doubtful(str(source))
    assert remove_if_doubtful(str(source), is_strict=True)
    assert load(tmp_path) == "2"


def test_bytecode_that_is_newer_than_everything_else_is_kept_in_development(tmp_path):
    source = tmp_path / "module.py"
    save(source, "X = 1\n", 1_700_000_000 * 10**9)
    load(tmp_path)
    (bytecode,) = (tmp_path / "__pycache__").iterdir()
    later = source.stat().st_ctime_ns + 3 * 10**9
    os.utime(bytecode, ns=(later, later))
    assert not remove_if_doubtful(str(source), is_strict=True)
