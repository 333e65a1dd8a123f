"""Directory trees under inotify and under watchfiles, on a real file system."""

import os
import shutil
import threading
import time

import pytest

from asgireload.development.watch import _watchfiles, inotify
from asgireload.development.watch._watchfiles import WatchfilesTree
from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.filters import make_filter
from asgireload.development.watch.inotify import Inotify, Notice, parse
from asgireload.development.watch.tree import Tree


class Watched:
    """A tree that was begun; the kernel queues a notice before the call that causes it returns."""

    def __init__(
        self, *directories, include=(), exclude=(), environment_file=None, project_file=None
    ):
        names = [os.path.realpath(name) for name in directories]
        chosen = make_filter(names, include, exclude)
        self.tree = Tree(
            names,
            chosen,
            environment_file and str(environment_file),
            project_file and str(project_file),
        )
        self.begun = self.tree.begin(float("inf"))

    def read(self):
        return self.tree.read()

    def close(self):
        self.tree.close()


class WatchedByWatchfiles:
    """The same by watchfiles, which tells when it likes: what was read is complete when a later save is told."""

    def __init__(
        self, *directories, include=(), exclude=(), environment_file=None, project_file=None
    ):
        self._names = [os.path.realpath(name) for name in directories]
        self.tree = WatchfilesTree(
            self._names,
            make_filter(self._names, include, exclude),
            environment_file and str(environment_file),
            project_file and str(project_file),
        )
        self.begun = self.tree.begin(float("inf"))
        self.tree.wait()  # entries are watched from here on
        self._saves = 0

    def read(self):
        self._saves += 1
        mark = os.path.join(self._names[0], f"mark_{self._saves}.py")
        with open(mark, "w"):
            pass
        changes = self.read_until(lambda seen: mark in seen.arrived)
        if self.tree._entries is not None:
            changes |= self.tree.wait()
        return changes.without(lambda path: path == mark)

    def read_until(self, condition):
        deadline = time.monotonic() + 20
        changes = NOTHING
        while not condition(changes):
            assert time.monotonic() < deadline, changes
            changes |= self.tree.wait()
        return changes

    def close(self):
        self.tree.stop()
        assert self.tree.wait() is None


@pytest.fixture
def opened():
    opened = []
    yield opened
    for watched in opened:
        watched.close()


@pytest.fixture(params=[Watched, WatchedByWatchfiles], ids=["inotify", "watchfiles"])
def watch(request, opened):
    def begin(*directories, **options):
        opened.append(request.param(*directories, **options))
        return opened[-1]

    return begin


@pytest.fixture
def watch_by_inotify(opened):
    def begin(*directories, **options):
        opened.append(Watched(*directories, **options))
        return opened[-1]

    return begin


@pytest.fixture
def watch_by_watchfiles(opened):
    def begin(*directories, **options):
        opened.append(WatchedByWatchfiles(*directories, **options))
        return opened[-1]

    return begin


def save(path, text="x = 1\n"):
    path.write_text(text)
    return str(path)


def test_notices_are_taken_apart():
    data = bytes.fromhex("01000000080000000000000010000000") + b"main.py".ljust(16, b"\0")
    data += bytes.fromhex("ffffffff004000000000000000000000")
    assert parse(data) == [
        Notice(1, inotify.CLOSE_WRITE, "main.py"),
        Notice(-1, inotify.OVERFLOW, ""),
    ]


def test_a_file_counts_when_its_writer_closes_it(tmp_path, watch_by_inotify):
    watched = watch_by_inotify(tmp_path)
    with (tmp_path / "main.py").open("w") as file:
        file.write("x = 1\n")
        file.flush()
        assert watched.read() == NOTHING
    assert watched.read().arrived == {str(tmp_path / "main.py")}


def test_a_file_that_is_moved_into_place_counts(tmp_path, watch):
    """An editor writes a temporary file and renames it."""
    watched = watch(tmp_path)
    save(tmp_path / "main.py.tmp")
    assert watched.read() == NOTHING
    (tmp_path / "main.py.tmp").rename(tmp_path / "main.py")
    assert watched.read().arrived == {str(tmp_path / "main.py")}


def test_clutter_does_not_count(tmp_path, watch):
    (tmp_path / "env").mkdir()
    save(tmp_path / "env" / "pyvenv.cfg")
    watched = watch(tmp_path)
    for name in ("notes.txt", ".hidden.py", "main.py~", "4913"):
        save(tmp_path / name)
    for name in ("__pycache__", ".git", "node_modules", ".venv"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "x.py")
    save(tmp_path / "env" / "x.py")
    assert watched.read() == NOTHING


def test_new_directories_are_watched_with_what_is_in_them_already(tmp_path, watch):
    watched = watch(tmp_path)
    (tmp_path / "shop" / "models").mkdir(parents=True)
    first = save(tmp_path / "shop" / "models" / "first.py")
    assert watched.read().arrived == {first}
    second = save(tmp_path / "shop" / "models" / "second.py")
    assert watched.read().arrived == {second}


def test_a_directory_that_is_moved_away_counts_if_it_held_code(tmp_path, watch):
    for name in ("shop", "uploads"):
        (tmp_path / name).mkdir()
    save(tmp_path / "shop" / "models.py")
    save(tmp_path / "uploads" / "photo.jpg")
    watched = watch(tmp_path)
    (tmp_path / "uploads").rename(tmp_path / "pictures")
    assert watched.read() == NOTHING
    (tmp_path / "shop").rename(tmp_path / ".shop")
    if isinstance(watched, WatchedByWatchfiles):
        assert watched.read().vanished == {str(tmp_path / "shop" / "models.py")}
    else:
        assert watched.read().vanished == {str(tmp_path / "shop")}
    save(tmp_path / ".shop" / "models.py")
    assert watched.read() == NOTHING


def test_a_directory_that_is_deleted_and_made_anew_is_watched_again(tmp_path, watch_by_inotify):
    """A deleted watched directory does not end the watching."""
    source = tmp_path / "src"
    source.mkdir()
    save(source / "main.py")
    watched = watch_by_inotify(source)
    shutil.rmtree(source)
    assert str(source / "main.py") in watched.read().vanished
    source.mkdir()
    assert watched.read().is_vague
    path = save(source / "new.py")
    assert watched.read().arrived == {path}


def test_a_watched_directory_whose_parent_is_exchanged_is_found_by_looking(
    tmp_path, watch_by_inotify
):
    source = tmp_path / "release" / "src"
    source.mkdir(parents=True)
    save(source / "main.py")
    watched = watch_by_inotify(source)
    (tmp_path / "release").rename(tmp_path / "old")
    source.mkdir(parents=True)
    path = save(source / "main.py")
    watched.read()
    changes = watched.tree.check()
    assert changes.is_vague
    assert changes.arrived == {path}
    assert watched.tree.check() == NOTHING
    path = save(source / "more.py")
    assert watched.read().arrived == {path}


def test_a_lost_notice_is_a_vague_change_and_the_watching_goes_on(
    tmp_path, watch_by_inotify, monkeypatch
):
    """An overflow of the kernel's queue means that anything may have changed."""
    watched = watch_by_inotify(tmp_path)
    (tmp_path / "unseen").mkdir()
    lost = [[Notice(-1, inotify.OVERFLOW, "")]]
    with monkeypatch.context() as patched:
        patched.setattr(
            watched.tree._inotify, "read", lambda: lost.pop() if lost else [], raising=False
        )
        changes = watched.read()
    assert changes.is_vague
    path = save(tmp_path / "unseen" / "x.py")
    assert path in watched.read().arrived


def test_watchfiles_tells_of_a_file_as_it_grows(tmp_path, watch_by_watchfiles):
    """It cannot say that the writer has closed it; `bursts.py` gives such a load up when more comes."""
    watched = watch_by_watchfiles(tmp_path)
    path = str(tmp_path / "main.py")
    with open(path, "w") as file:
        file.write("x =")
        file.flush()
        assert watched.read().arrived == {path}
        file.write(" 1\n")
    assert watched.read().arrived == {path}


def test_a_directory_that_is_made_anew_is_given_to_watchfiles_again(tmp_path, watch_by_watchfiles):
    """A deleted watched directory does not end the watching."""
    source = tmp_path / "release" / "src"
    source.mkdir(parents=True)
    main = save(source / "main.py")
    watched = watch_by_watchfiles(source)
    shutil.rmtree(source)
    watched.read_until(lambda changes: main in changes.vanished)
    source.mkdir()
    assert watched.read_until(lambda changes: changes.is_vague)
    path = save(source / "new.py")
    watched.read_until(lambda changes: path in changes.arrived)
    # Nobody tells that its parent has another name: it is found by looking.
    (tmp_path / "release").rename(tmp_path / "old")
    source.mkdir(parents=True)
    path = save(source / "more.py")
    changes = watched.read_until(lambda changes: changes.is_vague)
    assert changes.arrived == {path}
    path = save(source / "again.py")
    watched.read_until(lambda changes: path in changes.arrived)


def test_watchfiles_ends_at_once_and_gives_everything_back(tmp_path, monkeypatch):
    monkeypatch.setattr(_watchfiles, "LOOK_MILLISECONDS", 30_000)
    before = set(os.listdir("/proc/self/task")), set(os.listdir("/proc/self/fd"))
    names = [os.path.realpath(tmp_path)]
    tree = WatchfilesTree(names, make_filter(names, (), ()))
    tree.begin(float("inf"))
    thread = threading.Thread(target=tree.wait)
    thread.start()
    began = time.monotonic()
    tree.stop()
    thread.join(20)
    assert time.monotonic() - began < 10
    deadline = time.monotonic() + 10
    while set(os.listdir("/proc/self/task")) - before[0]:
        assert time.monotonic() < deadline  # its own threads hear of it a moment later
    assert len(os.listdir("/proc/self/fd")) <= len(before[1])


def test_the_variables_of_watchfiles_make_it_poll(tmp_path):
    environ = {"WATCHFILES_FORCE_POLLING": "true", "WATCHFILES_POLL_DELAY_MS": "10"}
    names = [os.path.realpath(tmp_path)]
    tree = WatchfilesTree(names, make_filter(names, (), ()), environ=environ)
    tree.begin(float("inf"))
    try:
        assert repr(tree._trees).startswith("RustNotify(Poll")
    finally:
        tree.stop()
        tree.wait()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_without_permission_is_left_out(tmp_path, watch_by_inotify):
    """A permission error does not end the watching."""
    (tmp_path / "secret").mkdir(mode=0)
    watched = watch_by_inotify(tmp_path)
    path = save(tmp_path / "main.py")
    assert watched.read().arrived == {path}


@pytest.mark.parametrize("what", ["inotify_add_watch", "scandir"])
def test_what_the_system_does_not_let_us_read_is_left_out(
    tmp_path, watch_by_inotify, monkeypatch, what
):
    """The same for whoever tests as root, who may read everything."""
    (tmp_path / "secret").mkdir()

    def refusing(real):
        def call(*arguments):
            if arguments and arguments[-1] == str(tmp_path / "secret"):
                raise PermissionError(13, "Permission denied")
            return real(*arguments)

        return call

    if what == "scandir":
        monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    else:
        monkeypatch.setattr(Inotify, "add", refusing(Inotify.add))
    watched = watch_by_inotify(tmp_path)
    path = save(tmp_path / "main.py")
    assert watched.read().arrived == {path}


def test_links_are_followed_and_loops_end(tmp_path, watch):
    for name in ("app", "shared"):
        (tmp_path / name).mkdir()
    save(tmp_path / "shared" / "settings.py")
    (tmp_path / "app" / "loop").symlink_to(tmp_path / "app")
    (tmp_path / "app" / "lib").symlink_to(tmp_path / "shared")
    (tmp_path / "single").mkdir()
    save(tmp_path / "single" / "target.py")
    (tmp_path / "app" / "link.py").symlink_to(tmp_path / "single" / "target.py")
    watched = watch(tmp_path / "app")
    path = save(tmp_path / "shared" / "settings.py")
    assert watched.read().arrived == {path}
    save(tmp_path / "single" / "other.py")
    assert watched.read() == NOTHING
    save(tmp_path / "single" / "target.py")
    # watchfiles watches directories, and this one is not below the watched one.
    is_seen = isinstance(watched, Watched)
    assert watched.read().arrived == ({str(tmp_path / "app" / "link.py")} if is_seen else set())


def test_a_link_that_is_made_counts(tmp_path, watch):
    save(tmp_path / "target.txt")
    watched = watch(tmp_path)
    (tmp_path / "link.py").symlink_to(tmp_path / "target.txt")
    assert watched.read().arrived == {str(tmp_path / "link.py")}


def test_what_was_saved_before_the_watch_stood_is_found(tmp_path):
    before = time.time() - 60
    old = tmp_path / "old.py"
    save(old)
    tree = Tree([str(tmp_path)], make_filter([str(tmp_path)], (), ()))
    try:
        assert tree.begin(before).arrived == {str(old)}
    finally:
        tree.close()


def test_the_environment_file_asks_for_a_reload_and_is_told_apart(tmp_path, watch):
    (tmp_path / "app").mkdir()
    watched = watch(tmp_path / "app", environment_file=tmp_path / ".env")
    path = save(tmp_path / ".env", "A=1\n")
    assert watched.read() == Changes(arrived=frozenset({path}), is_environment=True)
    save(tmp_path / ".envrc")
    assert watched.read() == NOTHING


def test_the_projects_file_is_told_of_and_asks_for_no_reload(tmp_path, watch):
    watched = watch(tmp_path, project_file=tmp_path / "pyproject.toml")
    path = save(tmp_path / "pyproject.toml", "[project]\n")
    assert watched.read() == Changes(is_environment=True)
    os.unlink(path)
    assert watched.read() == Changes(is_environment=True)


def test_the_projects_file_asks_for_one_where_the_user_names_it(tmp_path, watch):
    watched = watch(tmp_path, project_file=tmp_path / "pyproject.toml", include=["*.toml"])
    path = save(tmp_path / "pyproject.toml", "[project]\n")
    assert watched.read() == Changes(arrived=frozenset({path}), is_environment=True)


def test_libraries_that_change_are_told_of_and_ask_for_no_reload(tmp_path, watch):
    library = tmp_path / "site-packages"
    (library / "thing").mkdir(parents=True)
    (tmp_path / "app").mkdir()
    watched = watch(tmp_path / "app")
    watched.tree.watch_libraries([str(library), str(library / "thing")])
    (library / "thing" / "__pycache__").mkdir()
    assert watched.read() == NOTHING
    save(library / "thing" / "core.py")
    changes = watched.read()
    assert changes.is_environment
    assert not changes.asks_for_reload
    watched.tree.watch_libraries([])
    save(library / "thing" / "core.py")
    assert watched.read() == NOTHING


def test_patterns_of_the_user_are_stronger_than_the_defaults(tmp_path, watch):
    watched = watch(tmp_path, include=["*.html", ".env"], exclude=["generated/*", "data"])
    for name in ("generated", "data"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "x.py")
    paths = {save(tmp_path / "page.html"), save(tmp_path / ".env")}
    assert watched.read().arrived == paths
