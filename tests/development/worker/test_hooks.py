"""What a worker does beside serving under --reload, with a supervisor and an acceptor that only take notes."""

import asyncio
import functools
import os
import sys
import types
from importlib.util import spec_from_file_location
from types import SimpleNamespace

import pytest

from asgireload.config import Config
from asgireload.development.pages.failure import FailureApp
from asgireload.development.worker import hooks as module
from asgireload.development.worker.hooks import DevelopmentWorker
from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.messages import AppImported, AssetsChanged, Hold, Release, WorkerImported
from asgireload.ipc.records import ImportRecord, unseal


def in_loop(test):
    """Run a test that is a coroutine function."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        asyncio.run(test(*arguments, **fixtures))

    return run


class Supervisor:
    """Our end of a worker's channel. `unread` messages are delivered when the worker looks for them."""

    def __init__(self):
        self.heard = []
        self.has_heard = asyncio.Event()
        self.unread = []
        self.deliver_to = None

    def post(self, message, descriptors):
        self.heard.append((message, unseal(os.dup(descriptors[0]), ImportRecord)))
        self.has_heard.set()

    def deliver(self):
        unread, self.unread = self.unread, []
        for message in unread:
            self.deliver_to.hear(message)


class Acceptor:
    def __init__(self):
        self.accepts = False

    def start(self):
        self.accepts = True

    def stop(self):
        self.accepts = False


class Wire:
    def __init__(self):
        self.is_stale = False
        live = SimpleNamespace(is_held=False, connections=[])
        self.server = SimpleNamespace(
            live=live, clock=SimpleNamespace(loop=asyncio.get_running_loop())
        )

    def mark_stale(self):
        self.is_stale = True


def begun(record_imports=None, **options):
    hooks = DevelopmentWorker(record_imports)
    supervisor = Supervisor()
    supervisor.deliver_to = hooks
    order = SimpleNamespace(
        config=Config(app="shop:app", reload=True, **options),
        app_dir="/srv/shop",
        generation=7,
        supervisor=os.getpid(),
        is_stand_in=False,
    )
    hooks.begin(order, supervisor)
    return hooks, supervisor


def serving(hooks):
    wire, acceptor = Wire(), Acceptor()
    hooks.begin_serving(wire, acceptor)
    return wire, acceptor


@in_loop
async def test_it_accepts_when_no_newer_code_is_on_its_way():
    hooks, _ = begun()
    _, acceptor = serving(hooks)
    assert acceptor.accepts


@pytest.mark.parametrize("is_read", [True, False], ids=["heard before", "unread"])
@in_loop
async def test_newer_code_that_came_before_it_was_ready_is_waited_for(is_read):
    hooks, supervisor = begun()
    if is_read:
        hooks.hear(Hold(30.0))
    else:
        supervisor.unread = [Hold(30.0)]
    wire, acceptor = serving(hooks)
    assert (acceptor.accepts, wire.server.live.is_held) == (False, True)
    hooks.hear(Release())
    assert (acceptor.accepts, wire.server.live.is_held, wire.is_stale) == (True, False, True)


@in_loop
async def test_newer_code_that_was_called_off_before_it_was_ready_is_not_waited_for():
    hooks, _ = begun()
    hooks.hear(Hold(30.0))
    hooks.hear(Release())
    wire, acceptor = serving(hooks)
    assert (acceptor.accepts, wire.is_stale) == (True, False)


@pytest.mark.parametrize("reason", [DrainReason.RELOAD, DrainReason.STOP])
@in_loop
async def test_what_it_answers_while_it_drains_is_stale_after_a_reload_only(reason):
    hooks, _ = begun()
    wire, _ = serving(hooks)
    hooks.end_serving(reason)
    assert wire.is_stale is (reason is DrainReason.RELOAD)


@in_loop
async def test_the_worker_that_was_the_template_tells_what_it_has_imported(monkeypatch):
    monkeypatch.setattr(module, "TELL_DELAY", 0.0)
    record = ImportRecord(("yaml",), (), {})
    hooks, supervisor = begun(lambda: record)
    serving(hooks)
    async with asyncio.timeout(10):
        await supervisor.has_heard.wait()
    assert supervisor.heard == [(AppImported(is_whole=True), record)]
    hooks.beat()
    assert len(supervisor.heard) == 1


@in_loop
async def test_libraries_that_are_imported_while_it_serves_are_told_once(monkeypatch):
    hooks, supervisor = begun()
    hooks.beat()
    assert not supervisor.heard
    library = types.ModuleType("imported_late")
    library.__spec__ = spec_from_file_location("imported_late", pytest.__file__)
    monkeypatch.setitem(sys.modules, "imported_late", library)
    hooks.beat()
    hooks.beat()
    assert supervisor.heard == [(WorkerImported(), ImportRecord(("imported_late",)))]


@in_loop
async def test_open_pages_hear_of_assets():
    hooks, _ = begun(reload_browser=True)
    hooks.hear(AssetsChanged(("before.css",)))  # nobody has a page yet

    async def app(scope, receive, send):
        raise AssertionError(scope)

    assert hooks.wrap_app(app) is not app
    told = []
    hooks._bulletin.tell_changes = told.append
    hooks.hear(AssetsChanged(("style.css",)))
    assert told == [("style.css",)]


@in_loop
async def test_an_application_that_does_not_start_is_replaced_by_a_page():
    hooks, _ = begun()
    error = ValueError("no database")
    app = hooks.replace_app(error, "lifespan", Failure("lifespan", "no database"))
    assert isinstance(app, FailureApp)
