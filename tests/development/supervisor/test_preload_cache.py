"""What a template is started from under --reload, with sources that only listen."""

import asyncio
import functools
import socket
from contextlib import contextmanager

import pytest

from asgireload.config import Config
from asgireload.development.supervisor.preload_cache import MOST_DEATHS, PreloadCache
from asgireload.development.watch.changes import Changes
from asgireload.failures import Failure
from asgireload.ipc.messages import ForkTemplate
from asgireload.ipc.records import FilesRead, ImportRecord, ModuleFile, seal, sign
from asgireload.supervisor.cpu_priority import CpuPriority
from asgireload.supervisor.events import StartTemplate
from asgireload.supervisor.handles import Handles
from asgireload.supervisor.system import LinuxSystem


def in_loop(test):
    """Run a test that is a coroutine function."""

    @functools.wraps(test)
    def run(*arguments, **fixtures):
        asyncio.run(test(*arguments, **fixtures))

    return run


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The directory of an application, watched as a whole."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("models", "views"):
        (tmp_path / f"{name}.py").write_text("")
    return tmp_path


@contextmanager
def serving(directory, **options):
    config = Config(app="main:app", reload=True, reload_dir=(str(directory),), **options)
    loop, system = asyncio.get_running_loop(), LinuxSystem()
    handles = Handles(loop, system, CpuPriority(loop, system, 10.0), lambda event: None)
    cache = PreloadCache(handles, config, str(directory), lambda _: None)
    try:
        cache.begin()
        yield cache
    finally:
        cache.stop()


def start(template_id=1, **fields):
    return StartTemplate(template_id, generation=template_id, preload=True, **fields)


def origin_of(cache, step):
    origins = []
    cache.prepare(step, origins.append)
    return origins[0]


def load(cache, directory):
    """Let a template tell that it has imported both modules."""
    files = tuple(ModuleFile(name, str(directory / f"{name}.py")) for name in ("models", "views"))
    cache.take_record(seal(ImportRecord((), files, {})), is_whole=True)


def leave_checkpoint(cache, directory, template_id=1):
    """Let a template leave a checkpoint before `views`; return the end of the process that sleeps there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = str(directory / "models.py")
    files = seal(FilesRead({path: sign(path)}))
    cache.take_checkpoint(template_id, None, "views", [ours.detach(), files])
    return theirs


def changed(directory, name):
    return Changes(arrived=frozenset({str(directory / name)}))


@in_loop
async def test_without_anything_to_fork_from_it_is_a_fresh_interpreter(shop):
    with serving(shop) as cache:
        origin = origin_of(cache, start())
        assert not origin.is_fork
        assert origin.request.source_variables is None


@in_loop
async def test_a_checkpoint_serves_changes_of_what_it_has_not_read(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop):
            cache.take_changes(changed(shop, "views.py"))
            origin = origin_of(cache, start(2))
            assert origin.is_fork
            assert origin.request.checkpoint == ""  # there is one already


@in_loop
async def test_a_checkpoint_is_asked_for_before_the_module_that_changed(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        cache.take_changes(changed(shop, "views.py"))
        assert origin_of(cache, start(2)).request.checkpoint == "views"


@in_loop
async def test_a_change_of_what_it_has_read_ends_a_checkpoint(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop) as sleeping:
            cache.take_changes(changed(shop, "models.py"))
            assert is_let_go(sleeping)
            assert not origin_of(cache, start(2)).is_fork


@in_loop
async def test_a_checkpoint_whose_files_changed_while_it_was_made_is_not_kept(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        cache.take_changes(changed(shop, "models.py"))
        with leave_checkpoint(cache, shop) as sleeping:
            assert is_let_go(sleeping)


@in_loop
@pytest.mark.parametrize(
    "step",
    [start(2, failure=Failure("import", "no")), StartTemplate(2, generation=2, preload=False)],
    ids=["a page", "no preload"],
)
async def test_what_does_not_import_the_application_is_not_forked_from_the_middle_of_it(shop, step):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop):
            assert not origin_of(cache, step).is_fork


@in_loop
async def test_a_reload_that_somebody_asks_for_is_a_fresh_interpreter_once(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop):
            cache.begin_anew()
            assert not origin_of(cache, start(2)).is_fork
        with leave_checkpoint(cache, shop, template_id=2):
            assert origin_of(cache, start(3)).is_fork


@in_loop
async def test_a_source_whose_forks_keep_dying_is_let_go(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop) as sleeping:
            for number in range(MOST_DEATHS):
                origin = origin_of(cache, start(2 + number))
                assert origin.is_fork
                origin.distrust()
            assert is_let_go(sleeping)
            assert not origin_of(cache, start(9)).is_fork


@in_loop
async def test_the_load_after_a_worker_has_died_without_a_word_relies_on_nothing(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop):
            origin_of(cache, start(2)).distrust(next_too=True)
            assert not origin_of(cache, start(3)).is_fork
            assert origin_of(cache, start(4)).is_fork


@in_loop
async def test_a_template_that_is_called_off_leaves_the_one_that_was_forked_ahead(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop) as sleeping:
            cache.take_record(
                seal(ImportRecord()), is_whole=False
            )  # a standby template is asked for
            assert sleeping.recv(1000)
            called_off, used = origin_of(cache, start(2)), origin_of(cache, start(3))
            assert called_off.source is used.source
            assert used.source.standby is not None
            assert used.start(sleeping).channel is not None


@in_loop
async def test_nothing_is_forked_when_the_server_stops(shop):
    with serving(shop) as cache:
        origin_of(cache, start())
        load(cache, shop)
        with leave_checkpoint(cache, shop) as sleeping:
            cache.stop()
            assert is_let_go(sleeping)
            assert not origin_of(cache, start(2)).is_fork


@in_loop
async def test_nothing_is_kept_when_the_template_shall_not_import_the_application(shop):
    with serving(shop, preload=False) as cache:
        assert cache._cache is None
        assert not origin_of(cache, start()).is_fork


def is_let_go(sleeping):
    """Return whether the other end of its channel is closed."""
    sleeping.settimeout(5)
    while data := sleeping.recv(1000):
        assert ForkTemplate.__name__.encode() in data
    return True
