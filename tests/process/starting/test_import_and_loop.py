"""An import that needs a running event loop, and one that starts a loop itself, with and without preloading."""

import contextlib
import os
import signal
import threading

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

STARTS = """
SECRET = asyncio.run(asyncio.sleep(0, "read"))

async def shown(scope, receive, send):
    await answer(send, SECRET.encode())

PATHS["/shown"] = shown
"""
NEEDS = """
LOOP = asyncio.get_running_loop()

async def shown(scope, receive, send):
    await answer(send, b"same" if asyncio.get_running_loop() is LOOP else b"another")

PATHS["/shown"] = shown
"""
SESSION = """
import aiohttp

SESSION = aiohttp.ClientSession()

async def shown(scope, receive, send):
    async with SESSION.get(f"http://127.0.0.1:{scope['server'][1]}/") as response:
        await answer(send, str(response.status).encode())

PATHS["/shown"] = shown
"""
THREAD = """
import threading, time

threading.Thread(target=time.sleep, args=[3600], daemon=True, name="poller").start()
"""
BOTH = STARTS + NEEDS

WAYS = [(), ("--no-preload",), ("--reload", "--no-reload-browser")]


def serves(directory, code, options, expected, workers=2):
    """Start, reload, lose a worker and stop; return the log."""
    write_version(directory, 1, extra=code)
    with Server(directory, *options, workers=workers) as server:
        assert server.get("/shown") == expected
        if "--reload" not in options:
            write_version(directory, 2, extra=code)
            server.reload()
            assert server.version() == 2
        assert server.get("/shown") == expected
        pids = set(server.worker_pids())
        os.kill(min(pids), signal.SIGKILL)
        wait_until(lambda: set(server.worker_pids()) - pids, what="another worker")
        assert server.get("/shown") == expected
        assert server.stop() == 0
        return server.log


@pytest.mark.parametrize("options", [*WAYS, ("--preload",)])
def test_import_may_start_an_event_loop(tmp_path, options):
    log = serves(tmp_path, STARTS, options, "read")
    assert "cannot be shared by forking" not in log
    # Found out once, and not again for the reload and for the worker that was killed.
    assert log.count("The import starts an event loop itself") == ("--no-preload" in options)


@pytest.mark.parametrize("options", WAYS)
def test_import_may_need_the_running_event_loop_which_is_the_one_that_serves(tmp_path, options):
    log = serves(tmp_path, NEEDS, options, "same")
    if "--no-preload" not in options:
        assert "each worker imports it by itself: its import needs a running event loop" in log
        assert f"{tmp_path / 'app.py'}:" in log


def test_client_session_of_aiohttp_may_be_made_at_import(tmp_path):
    pytest.importorskip("aiohttp")
    serves(tmp_path, SESSION, (), "200")


def test_import_that_leaves_a_thread_may_start_an_event_loop(tmp_path):
    log = serves(tmp_path, STARTS + THREAD, (), "read")
    assert "thread 'poller' was started at import" in log


def test_single_worker_in_development_imports_in_its_loop(tmp_path):
    serves(tmp_path, NEEDS, ("--reload", "--no-reload-browser"), "same", workers=1)


def refused(directory, code, *options):
    """Return the log of a start that fails."""
    write_version(directory, 1, extra=code)
    server = Server(directory, *options, workers=2).launch()
    try:
        assert server.process.wait(30) == 3
    finally:
        server._destroy()
    return server.log


def test_preload_says_what_to_do_about_an_import_that_needs_a_loop(tmp_path):
    log = refused(tmp_path, NEEDS, "--preload")
    assert (
        "RuntimeError: no running event loop; --preload imports the application in a template"
        in log
    )
    assert "leave --preload out, or do this in the lifespan startup" in log


@pytest.mark.parametrize("options", [(), ("--no-preload",)])
def test_import_that_does_both_is_refused_with_what_to_do(tmp_path, options):
    log = refused(tmp_path, BOTH, *options)
    assert "do one of the two in the lifespan startup" in log


EXITING = """
import pathlib, signal, sys

HERE = pathlib.Path(__file__).parent
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *arguments: sys.exit(1))

async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    (HERE / f"shutdown-{os.getpid()}").touch()
    await send({"type": "lifespan.shutdown.complete"})

BEGUN = asyncio.Event()

async def waits(scope, receive, send):
    (HERE / "begun").touch()
    await asyncio.sleep(1.5)
    await answer(send, b"whole")

PATHS["/waits"] = waits
"""


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_handlers_of_an_import_do_not_cut_the_drain_short(tmp_path, preload, number):
    """Tracers and task queues install such handlers, and service managers send SIGTERM to every process."""
    write_version(tmp_path, 1, extra=EXITING)
    with Server(tmp_path, preload, workers=1) as server:
        (pid,) = server.worker_pids()
        answers = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/waits", 20)))
        asking.start()
        wait_until((tmp_path / "begun").exists, what="the request")
        server.kill(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        asking.join(20)
        assert server.process.wait(30) == 0
        log = server.log
    assert answers == ["whole"], log
    assert (tmp_path / f"shutdown-{pid}").exists()
