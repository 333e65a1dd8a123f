"""Looking on while something is imported."""

import gc
import importlib
import os
import subprocess
import sys

import pytest

from asgireload.development.template.import_watch import (
    ImportWatch,
    changed_variables,
    record_imports,
)
from asgireload.ipc.records import ModuleFile
from asgireload.libraries import find_places


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules that can be imported, and is forgotten afterwards."""
    directory = tmp_path / "watched_shop"
    directory.mkdir()
    for name, text in (
        ("__init__", ""),
        ("first", "import watched_shop.second\n"),
        ("second", "import json\n"),
    ):
        (directory / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield directory
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_modules_are_told_in_the_order_in_which_their_import_begins(package):
    places = find_places([str(package.parent)])
    with ImportWatch(places) as watch:
        assert not gc.isenabled()
        importlib.import_module("watched_shop.first")
    assert gc.isenabled()
    assert watch not in sys.meta_path
    expected = ["watched_shop", "watched_shop.first", "watched_shop.second"]
    assert list(watch.files) == expected
    assert watch.files["watched_shop.second"] == str(package / "second.py")
    record = record_imports(watch, places, {"A": "1"}, {"B": "2"})
    assert record.files[1] == ModuleFile("watched_shop.first", str(package / "first.py"))
    assert "json" in record.libraries
    assert not any(name.startswith("watched_shop") for name in record.libraries)
    assert record.variables == {"A": None, "B": "2"}


def test_nothing_of_it_is_left_in_what_was_imported(package):
    with ImportWatch(find_places([str(package.parent)])):
        module = importlib.import_module("watched_shop.second")
    assert type(module.__loader__).__module__ == "_frozen_importlib_external"
    assert module.__spec__.loader is module.__loader__


def test_it_stops_before_the_named_module_once_something_else_was_read(package):
    stops = []
    places = find_places([str(package.parent)])
    watch = ImportWatch(places, "watched_shop.second", lambda: stops.append(list(watch.files)))
    with watch:
        importlib.import_module("watched_shop.first")
    assert stops == [["watched_shop", "watched_shop.first"]]


def test_it_does_not_stop_before_the_first_module(package):
    def fail():
        raise AssertionError("nothing was read yet")

    with ImportWatch(find_places([str(package.parent)]), "watched_shop", fail):
        importlib.import_module("watched_shop")


def test_an_import_that_raises_leaves_everything_in_order(package):
    (package / "second.py").write_text("1 / 0\n")
    with (
        pytest.raises(ZeroDivisionError),
        ImportWatch(find_places([str(package.parent)])) as watch,
    ):
        importlib.import_module("watched_shop.first")
    assert watch not in sys.meta_path
    assert gc.isenabled()


def test_variables_that_changed():
    assert changed_variables({"A": "1", "B": "2"}, {"A": "1", "B": "3", "C": "4"}) == {
        "B": "3",
        "C": "4",
    }


def test_doubtful_bytecode_is_not_believed(tmp_path):
    """Equal size and second, another text."""
    source = tmp_path / "doubtful.py"
    script = (
        "import sys\nfrom asgireload.libraries import find_places\n"
        "from asgireload.development.template.import_watch import ImportWatch\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "with ImportWatch(find_places([sys.argv[1]])):\n    import doubtful\nprint(doubtful.X)\n"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for value in ("1", "2"):
        source.write_text(f"X = {value}\n")
        os.utime(source, (1_700_000_000, 1_700_000_000))
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == value
