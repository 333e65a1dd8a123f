"""Which process a new template is forked from, and which a change makes useless."""

from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.supervisor.fork_sources import (
    MOST_BOOKMARKS,
    Base,
    Bookmark,
    Layers,
    choose_bookmark,
    choose_layer,
    with_bookmark,
    with_modules,
    with_used,
    without_outdated,
)
from asgireload.development.watch.changes import Changes

MODULES = {f"/app/{name}.py": name for name in ("first", "second", "third", "last")}
BASE = Base(1, frozenset({"yaml", "numpy"}))


def bookmark(layer_id, module):
    """A bookmark before `module`: it has read what comes before that."""
    files = list(MODULES)
    return Bookmark(layer_id, module, frozenset(files[: files.index(f"/app/{module}.py")]))


def layers(*modules):
    return Layers(BASE, tuple(bookmark(10 + n, name) for n, name in enumerate(modules)), MODULES)


def saved(*names):
    return Changes(arrived=frozenset(f"/app/{name}" for name in names))


def left(before, changes):
    after = without_outdated(before, changes, ["/app"])
    return after.base is not None, [bookmark.module for bookmark in after.bookmarks]


def test_the_bookmark_that_has_read_most_serves_else_the_base_else_nothing():
    assert choose_layer(layers("last", "second")).module == "last"
    assert choose_layer(layers()) == BASE
    assert choose_layer(Layers()) is None


def test_a_change_spares_the_bookmarks_that_have_not_read_it():
    before = layers("second", "last")
    assert left(before, saved("last.py")) == (True, ["second", "last"])
    assert left(before, saved("third.py")) == (True, ["second"])
    assert left(before, saved("third.py", "last.py")) == (True, ["second"])
    assert left(before, saved("first.py")) == (True, [])


def test_a_change_that_may_have_been_looked_for_before_spares_no_bookmark():
    for changes in (
        saved("new.py"),
        saved("settings.yaml"),
        saved("last.py", "new.py"),
        Changes(vanished=frozenset({"/app/last.py"})),
        Changes(is_vague=True),
    ):
        assert left(layers("second", "last"), changes)[1] == []


def test_a_file_that_hides_a_library_outdates_the_base():
    assert left(layers(), saved("yaml.py"))[0] is False
    assert left(layers(), saved("numpy/core.py"))[0] is False
    assert left(layers(), saved("yaml_tools.py", "shop/yaml.py"))[0] is True


def test_a_module_that_is_imported_already_hides_nothing():
    before = Layers(Base(1, frozenset({"first"})), (), MODULES)
    assert left(before, saved("first.py"))[0] is True


def test_a_change_of_the_environment_outdates_everything():
    assert left(layers("last"), Changes(is_environment=True)) == (False, [])


def test_a_bookmark_is_left_before_the_first_module_that_changed():
    assert choose_bookmark(layers(), ["/app/last.py", "/app/third.py"]) == "third"
    assert choose_bookmark(layers(), ["/app/unknown.py"]) == ""
    assert choose_bookmark(layers("third"), ["/app/third.py"]) == ""


def test_who_edits_two_modules_in_turn_keeps_a_bookmark_before_each():
    kept = layers("second", "last")
    kept = with_used(kept, 10)
    assert [b.module for b in kept.bookmarks] == ["last", "second"]
    kept = with_bookmark(kept, bookmark(20, "third"))
    assert [b.module for b in kept.bookmarks] == ["second", "third"]
    kept = with_bookmark(kept, bookmark(21, "third"))
    assert [b.layer_id for b in kept.bookmarks] == [10, 21]
    assert len(kept.bookmarks) == MOST_BOOKMARKS


def test_a_load_that_did_not_end_adds_to_what_is_known_and_a_whole_one_replaces_it():
    half = with_modules(layers(), {"/app/new.py": "new"}, is_whole=False)
    assert "/app/last.py" in half.modules
    assert "/app/new.py" in half.modules
    assert list(with_modules(half, {"/app/new.py": "new"}, is_whole=True).modules) == [
        "/app/new.py"
    ]


names = st.sampled_from(["first.py", "second.py", "third.py", "last.py", "new.py", "x.html"])


@given(st.lists(st.sampled_from(["second", "third", "last"]), unique=True), st.sets(names))
def test_no_layer_that_is_left_has_read_what_changed(modules, changed):
    after = without_outdated(layers(*modules), saved(*changed), ["/app"])
    chosen = choose_layer(after)
    paths = {f"/app/{name}" for name in changed}
    if isinstance(chosen, Bookmark):
        assert not chosen.read & paths
        assert paths <= set(MODULES)
