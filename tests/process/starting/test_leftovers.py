"""Nothing is left of a child that was killed: what its import has started, and forks that hang."""

import signal

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

HANGING = """
import pathlib, time

PLACE = pathlib.Path(__file__).parent

def hang():
    (PLACE / "hangs").touch()
    while True:
        time.sleep(60)

os.register_at_fork({hook}=hang)
"""


@pytest.mark.parametrize("hook", ["before", "after_in_child", "after_in_parent"])
def test_a_fork_that_hangs_in_a_hook_does_not_outlive_the_server(tmp_path, hook):
    """debugpy's waits for the debugger, with all signals blocked and the listening socket open."""
    write_version(tmp_path, 1, extra=HANGING.format(hook=hook))
    server = Server(tmp_path, "--boot-timeout", "60", workers=1)
    server.launch()
    try:
        wait_until((tmp_path / "hangs").exists)
        server.stop()
        wait_until(lambda: not server.left_behind())
    finally:
        server._destroy()


def test_a_fork_that_hangs_is_killed_when_its_boot_takes_too_long(tmp_path):
    write_version(tmp_path, 1, extra=HANGING.format(hook="after_in_child"))
    server = Server(tmp_path, "--preload", "--boot-timeout", "2", workers=1)
    server.launch()
    try:
        assert server.process.wait(60) == 3
        wait_until(lambda: not server.left_behind())
    finally:
        server._destroy()


STARTING = """
import pathlib, subprocess, sys, time

PLACE = pathlib.Path(__file__).parent
CODE = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
HELPER = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE)
HELPER.stdout.readline()
(PLACE / "started").touch()
time.sleep(600)
"""


@pytest.mark.parametrize("number", [None, signal.SIGTERM], ids=["boot timeout", "stop"])
def test_what_an_import_has_started_ends_with_a_template_that_is_killed(tmp_path, number):
    """It ignores SIGTERM, and the template has no time to end it."""
    write_version(tmp_path, 1, extra=STARTING)
    server = Server(tmp_path, "--boot-timeout", "60" if number else "2", workers=1)
    server.launch()
    try:
        wait_until((tmp_path / "started").exists)
        if number is None:
            assert server.process.wait(60) == 3
        else:
            server.stop(number)
        wait_until(lambda: not server.left_behind())
    finally:
        server._destroy()
