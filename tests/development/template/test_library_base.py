"""Importing libraries early, in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys
from asgireload.libraries import find_places
from asgireload.development.template.library_base import Replay

app_dir, library, names, variables, excluded = json.loads(sys.argv[1])
sys.path.insert(0, library)
replay = Replay(find_places([app_dir]), app_dir, excluded)
unfit = replay.run(names, variables)
print(json.dumps({
    "unfit": unfit and [unfit.module, unfit.reason],
    "loaded": [name for name in names if name in sys.modules],
    "left out": replay.contents().left_out,
    "tops": replay.contents().tops,
    "environment": os.environ.get("SEEN"),
    "seen": getattr(sys.modules.get("reads"), "SEEN", None),
}))
"""


@pytest.fixture
def replay(tmp_path):
    library = tmp_path / "site-packages"
    library.mkdir()
    (tmp_path / "app").mkdir()

    def run(files, names, *, variables=None, excluded=(), application=None):
        for name, text in files.items():
            (library / f"{name}.py").write_text(text)
        for name, text in (application or {}).items():
            (tmp_path / "app" / f"{name}.py").write_text(text)
        order = [str(tmp_path / "app"), str(library), names, variables or {}, list(excluded)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(order)],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ,
        )
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_libraries_are_imported_and_what_fails_is_left_out(replay):
    done = replay(
        {
            "good": "",
            "bad": "raise RuntimeError('not configured')",
            "leaves": "import sys; sys.exit(1)",
        },
        ["bad", "good", "leaves"],
    )
    assert done["unfit"] is None
    assert done["loaded"] == ["good"]
    assert done["left out"] == ["bad", "leaves"]
    assert "good" in done["tops"]
    assert "json" not in done["tops"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "thread",
        ),
        ("import asyncio\nloop = asyncio.new_event_loop()", "event loop"),
        ("import socket\nserver = socket.create_server(('127.0.0.1', 0))", "listens"),
        ("import tempfile\ndirectory = tempfile.TemporaryDirectory()", "removed at exit"),
        ("import os, weakref\nclass A: pass\na = A()\nweakref.finalize(a, os.getpid)", "at exit"),
    ],
)
def test_a_library_that_leaves_something_behind_is_named(replay, text, reason):
    files = {"culprit": text, "innocent": ""}
    module, why = replay(files, ["innocent", "culprit"])["unfit"]
    assert module == "culprit"
    assert reason in why
    done = replay(files, ["innocent", "culprit"], excluded=["culprit"])
    assert done["unfit"] is None
    assert done["loaded"] == ["innocent"]


def test_the_receivers_of_djangos_signals_stay_in_memory(replay):
    """`Signal.connect` gives each receiver a finalizer, which only sets an attribute."""
    pytest.importorskip("django")
    done = replay({}, ["django.db.utils", "django.http", "django.template", "django.core.cache"])
    assert done["unfit"] is None
    assert "django.template" in done["loaded"]


def test_code_of_the_application_is_found_out(replay):
    files = {"plugin": "import sys; sys.path.insert(0, sys.argv[1].split('\"')[1])\nimport mine"}
    module, reason = replay(files, ["plugin"], application={"mine": ""})["unfit"]
    assert module == "plugin"
    assert "mine of the application" in reason


def test_a_library_that_the_application_hides_is_found_out(replay):
    module, reason = replay({"tools": ""}, ["tools"], application={"tools": ""})["unfit"]
    assert module == "tools"
    assert "takes the place" in reason


def test_libraries_find_the_variables_of_the_application_which_are_gone_afterwards(replay):
    files = {"reads": "import os\nSEEN = os.environ.get('SEEN')"}
    done = replay(files, ["reads"], variables={"SEEN": "yes"})
    assert done["seen"] == "yes"
    assert done["environment"] is None
