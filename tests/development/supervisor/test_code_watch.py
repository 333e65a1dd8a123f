"""What the supervisor is told about saved files."""

from asgireload.config import Config
from asgireload.development.supervisor.code_watch import MANY_ASSETS, MOST_ASSETS, CodeWatch
from asgireload.development.watch.changes import Changes
from asgireload.ipc.messages import AssetsChanged


class Supervisor:
    def __init__(self):
        self.heard = []

    def note_change(self, *, gives_up):
        self.heard.append(("change", gives_up))

    def reload_changed(self, origin, *, supersede):
        self.heard.append((origin, supersede))

    def tell_workers(self, message):
        self.heard.append(message)


class Cache:
    def __init__(self):
        self.outdated = []

    def take_changes(self, changes):
        self.outdated.append(changes)


def watched():
    supervisor = Supervisor()
    watch = CodeWatch(Config(app="shop:app", reload=True), supervisor)
    watch.cache = Cache()
    return watch, supervisor


def test_code_that_changes_outdates_what_was_forked_ahead_before_anybody_loads_it():
    watch, supervisor = watched()
    changes = Changes(arrived=frozenset({"/srv/shop/views.py"}))
    watch.on_changing(changes, gives_up=True)
    assert watch.cache.outdated == [changes]
    assert supervisor.heard == [("change", True)]


def test_what_asks_for_no_reload_outdates_only():
    watch, supervisor = watched()
    watch.on_changing(Changes(), gives_up=False)
    assert watch.cache.outdated == [Changes()]
    assert not supervisor.heard


def test_code_that_has_settled_is_loaded():
    watch, supervisor = watched()
    watch.on_settled(Changes(arrived=frozenset({"views.py"})), gives_up=False)
    assert supervisor.heard == [("changed: views.py", False)]


def test_pages_are_told_of_assets_by_name_unless_there_are_many():
    watch, supervisor = watched()
    watch.on_assets(frozenset({"/srv/static/b.css", "/srv/static/a.css"}))
    watch.on_assets(frozenset(f"/srv/static/{n}.css" for n in range(MOST_ASSETS + 1)))
    assert supervisor.heard == [AssetsChanged(("a.css", "b.css")), AssetsChanged((MANY_ASSETS,))]
