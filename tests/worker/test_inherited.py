"""What cleans up at exit is the template's; what writes out is each worker's."""

import atexit
import contextlib
import functools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from multiprocessing import util

import pytest

from asgireload.worker.inherited import removes

DIRECTORY = tempfile.TemporaryDirectory.__new__(tempfile.TemporaryDirectory)
"""Only its type matters here."""
STACK = contextlib.ExitStack()


class Client:
    def __init__(self):
        self.items = []

    def flush(self):
        self.items.remove(1)

    def close(self):
        os.unlink("socket")


def remove_path():
    os.remove("path")


def remove_within():
    for path in ("a", "b"):
        (lambda path=path: shutil.rmtree(path))()


@pytest.mark.parametrize(
    "handler",
    [
        shutil.rmtree,
        os.unlink,
        functools.partial(shutil.rmtree, "path"),
        lambda: shutil.rmtree("path"),
        remove_path,
        remove_within,
        DIRECTORY.cleanup,
        lambda: DIRECTORY.cleanup(),
        STACK.close,
        Client().close,
    ],
)
def test_handlers_that_remove(handler):
    assert removes(handler)


@pytest.mark.parametrize(
    "handler",
    [
        print,
        Client().flush,
        logging.shutdown,
        util._exit_function,
        weakref.finalize._exitfunc,
        functools.partial(print, "x"),
        lambda: [1].remove(1),
    ],
)
def test_handlers_that_do_not(handler):
    assert not removes(handler)


@pytest.mark.parametrize(
    ("module", "handler"),
    [
        ("opentelemetry.sdk.trace", lambda module: module.TracerProvider().shutdown),
        ("sentry_sdk.integrations.atexit", lambda module: module.default_callback),
    ],
)
def test_handlers_of_libraries_that_send_what_they_have_collected(module, handler):
    found = pytest.importorskip(module)
    assert not removes(handler(found))


FORKED = """
import atexit, gc, os, shutil, sys, tempfile, weakref
from asgireload.worker.inherited import any_handler, disown, has_cleanup, removes

class Thing:
    pass

assert not has_cleanup()
thing, called = Thing(), Thing()
weakref.finalize(thing, print, "finalized", flush=True)
kept = weakref.finalize(called, print, "called", flush=True)
path = tempfile.mkdtemp()
atexit.register(shutil.rmtree, path)
atexit.register(print, "flushed", flush=True)
assert has_cleanup()
pid = os.fork()
if pid == 0:
    disown()
    assert not has_cleanup()
    own = Thing()
    weakref.finalize(own, print, "own", flush=True)
    del thing
    kept()
    atexit._run_exitfuncs()
    os._exit(0)
os.waitpid(pid, 0)
assert os.path.exists(path)
print("worker is gone", flush=True)
atexit._run_exitfuncs()
assert not os.path.exists(path)
"""


def test_a_worker_leaves_finalizers_to_the_template_and_runs_its_own():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], check=True, capture_output=True, text=True, timeout=30
    )
    worker, template = done.stdout.split("worker is gone\n")
    assert sorted(worker.split()) == ["called", "flushed", "own"]
    assert sorted(template.split()) == ["called", "finalized", "flushed"]
    assert not done.stderr


INERT = """
import atexit, os, weakref
from asgireload.worker.inherited import disown, has_cleanup

class Signal:
    is_outdated = False

    def _remove_receiver(self):
        self.is_outdated = True

class Receiver:
    pass

signal, receiver = Signal(), Receiver()
weakref.finalize(receiver, signal._remove_receiver)
assert not has_cleanup()
disown()
del receiver
assert signal.is_outdated
"""


def test_a_finalizer_that_calls_nothing_cleans_up_nothing():
    """As those of Django's signals, one for each receiver: workers keep them."""
    subprocess.run([sys.executable, "-c", INERT], check=True, timeout=30)


def test_registered_handlers_are_found_without_a_change():
    """The trick with `atexit.unregister` is of use only as long as it compares each handler with ours."""
    from asgireload.worker.inherited import any_handler

    atexit.register(remove_path)
    try:
        before = atexit._ncallbacks()
        assert any_handler(lambda handler: handler is remove_path)
        assert not any_handler(lambda handler: handler is remove_within)
        assert atexit._ncallbacks() == before
    finally:
        atexit.unregister(remove_path)
