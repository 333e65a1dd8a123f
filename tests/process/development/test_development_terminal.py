"""`--reload` in a terminal: the debugger, what is printed, and Ctrl-C."""

import threading
import time

import pytest

from tests.process.running import wait_until, write_version
from tests.process.terminal import CTRL_C, TerminalServer

pytestmark = pytest.mark.process

DEBUGGED = (
    "\nasync def debugged(scope, receive, send):\n    number = 6\n    breakpoint()\n"
    "    await version(scope, receive, send)\nPATHS['/debug'] = debugged\n"
)
PAUSE = "\nimport time\nprint('importing', VERSION, flush=True)\ntime.sleep(30)\n"
SLOW_LIFESPAN = (
    "\nasync def lifespan(receive, send):\n    await receive()\n"
    "    print('starting', VERSION, flush=True)\n    await asyncio.sleep(30)\n"
)


def develop(directory, *options, workers=1):
    return TerminalServer(directory, "--reload", *options, workers=workers)


class Asking:
    """A request that is answered some time."""

    def __init__(self, server, path):
        self.answer = None
        self._thread = threading.Thread(target=self._ask, args=(server, path))
        self._thread.start()

    def _ask(self, server, path):
        self.answer = server.get(path, timeout=30)

    def wait_answer(self):
        self._thread.join(30)
        return self.answer


def test_the_debugger_has_the_terminal_and_all_the_time_it_needs(tmp_path):
    """No deadline ends the worker, a save is served beside it, and it goes on where it stood."""
    write_version(tmp_path, 1, extra=DEBUGGED)
    with develop(tmp_path, "--timeout-worker-healthcheck", "0.3", "--boot-timeout", "1") as server:
        asking = Asking(server, "/debug")
        server.wait_shown("(Pdb)")
        time.sleep(1.5)  # several times what a silent worker is given otherwise
        server.press(b"p number * 7\n")
        server.wait_shown("42")
        write_version(tmp_path, 2, extra=DEBUGGED)
        wait_until(lambda: server.version() == 2)
        time.sleep(1.5)
        server.press(b"p number * 11\n")
        server.wait_shown("66")
        server.press(b"c\n")
        assert asking.wait_answer().startswith("1 ")
        assert "replaced" not in server.log
        assert server.version() == 2


def test_a_debugger_in_an_import_has_no_deadline_and_makes_way_for_a_save(tmp_path):
    write_version(tmp_path, 1, extra="\nnumber = 6\nbreakpoint()\n")
    server = develop(tmp_path, "--boot-timeout", "1", "--port", "0")
    server.launch()
    try:
        server.wait_shown("(Pdb)")
        time.sleep(1.5)
        server.press(b"p number * 7\n")
        server.wait_shown("42")
        write_version(tmp_path, 2)
        server.wait_log("asgireload running on")
        assert server.interrupt() == 0
        assert not server.left_behind()
    finally:
        server._destroy()


def test_what_the_application_prints_is_shown(tmp_path):
    extra = (
        "\nprint('printed by the import')\n"
        "async def printing(scope, receive, send):\n    print('printed by a request')\n"
        "    await version(scope, receive, send)\nPATHS['/print'] = printing\n"
    )
    write_version(tmp_path, 1, extra=extra)
    with develop(tmp_path) as server:
        server.wait_shown("printed by the import")
        server.get("/print")
        server.wait_shown("printed by a request")
        write_version(tmp_path, 2, extra=extra)
        wait_until(lambda: server.version() == 2)
        server.wait_shown("printed by the import", 2)


@pytest.mark.parametrize(
    ("extra", "shown"),
    [("", "Started parent process"), (PAUSE, "importing 1"), (SLOW_LIFESPAN, "starting 1")],
    ids=["at the first line", "first import", "first lifespan"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_start(tmp_path, extra, shown, workers):
    write_version(tmp_path, 1, extra=extra)
    server = develop(tmp_path, workers=workers)
    server.launch()
    try:
        server.wait_log(shown)
        assert server.interrupt() == 0
        assert not server.left_behind()
    finally:
        server._destroy()


def test_ctrl_c_before_anything_is_shown_leaves_nothing(tmp_path):
    """The interpreter itself may be still starting: then its own answer to Ctrl-C is the right one."""
    write_version(tmp_path, 1)
    for pause in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        server = develop(tmp_path)
        server.launch()
        try:
            time.sleep(pause)
            server.interrupt()
            assert not server.left_behind()
        finally:
            server._destroy()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        (None, None),
        ("", "Reload 1 begins"),
        (PAUSE, "importing 2"),
        (SLOW_LIFESPAN, "starting 2"),
        ("\ndef (\n", "every request is answered with an error page"),
    ],
    ids=["serving", "a save", "import", "lifespan", "mistake"],
)
def test_ctrl_c_ends_a_server_whatever_it_does(tmp_path, extra, shown, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, workers=workers) as server:
        if extra is not None:
            server.wait_log("Watching")
            write_version(tmp_path, 2, extra=extra)
            server.wait_log(shown)
        assert server.interrupt() == 0
        assert "Traceback (most recent call last)" not in server.log.split("^C")[-1]
        assert not server.left_behind()


def test_ctrl_c_ends_a_server_that_stands_in_the_debugger(tmp_path):
    write_version(tmp_path, 1, extra=DEBUGGED)
    with develop(tmp_path) as server:
        asking = Asking(server, "/slow")
        asking.wait_answer()
        connection = threading.Thread(target=_ask_in_vain, args=(server,))
        connection.start()
        server.wait_shown("(Pdb)")
        server.press(CTRL_C)
        server.wait_shown("shutting down")
        assert server.interrupt() == 0
        assert not server.left_behind()
        connection.join()


def _ask_in_vain(server):
    try:
        server.get("/debug", timeout=30)
    except (OSError, AssertionError):
        pass  # reset, closed, or told that the server stops
