"""Programs that start the server inside themselves, or change what every interpreter does before it begins.

ddtrace-run and opentelemetry-instrument put a sitecustomize on PYTHONPATH that starts threads, registers what runs
around forks and wraps functions, in the supervisor as in each template. coverage and debugpy run the module
themselves. Those that are installed are tried really.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

WRAPPER = """
import os, threading, time

def wait():
    while True:
        time.sleep(0.01)

def start():
    threading.Thread(target=wait, name="wrapper", daemon=True).start()

start()
os.register_at_fork(after_in_child=start)
plain = os.fork
def fork():
    return plain()
os.fork = fork
"""
THREADS = """
async def threads(scope, receive, send):
    import threading
    await answer(send, " ".join(thread.name for thread in threading.enumerate()).encode())
PATHS["/threads"] = threads
"""


def serve_reload_stop(directory, wrap, **surroundings):
    """Take a wrapped server through its life; return what it logged."""
    write_version(directory, 1, extra=THREADS)
    server = Server(directory, "--probation", "0", workers=2, **surroundings)
    server.command = wrap(server.command)
    with server:
        assert server.version() == 1
        write_version(directory, 2, extra=THREADS)
        server.reload()
        assert server.version() == 2
        if "PYTHONPATH" in surroundings.get("env", {}):
            assert "wrapper" in server.get("/threads")
        assert server.stop() == 0
    return server.log


@pytest.mark.parametrize("preload", [[], ["--preload"], ["--no-preload"]])
def test_a_sitecustomize_that_starts_threads_and_wraps_fork(tmp_path, preload):
    """The first template is not forked from a process with threads then, and each has what the wrapper does."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WRAPPER)
    log = serve_reload_stop(
        tmp_path,
        lambda command: [*command, *preload],
        env={"PYTHONPATH": str(tmp_path / "site")},
    )
    assert "Traceback" not in log


def script(name):
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_ddtrace_run(tmp_path):
    """Its own work at exit may take its time: no agent listens."""
    wrapper = script("ddtrace-run")
    environment = {
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    }
    serve_reload_stop(tmp_path, lambda command: [wrapper, *command], env=environment)


def test_opentelemetry_instrument(tmp_path):
    wrapper = script("opentelemetry-instrument")
    environment = {f"OTEL_{kind}_EXPORTER": "none" for kind in ("TRACES", "METRICS", "LOGS")}
    serve_reload_stop(tmp_path, lambda command: [wrapper, *command], env=environment)


@pytest.mark.parametrize("package", ["coverage", "debugpy"])
def test_modules_that_run_modules(tmp_path, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    words = {
        "coverage": ["run", f"--data-file={tmp_path / 'coverage'}"],
        # Else each process that is started waits until a debugger has attached to it, too.
        "debugpy": ["--listen", "127.0.0.1:0", "--configure-subProcess", "false"],
    }[package]

    def wrap(command):
        python, *module = command
        return [python, "-m", package, *words, *module]

    serve_reload_stop(tmp_path, wrap)


def test_import_times(tmp_path):
    def wrap(command):
        python, *module = command
        return [python, "-X", "importtime", *module]

    assert "import time:" in serve_reload_stop(tmp_path, wrap)
