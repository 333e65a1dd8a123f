"""Which process a new template is forked from, and which a change makes useless."""

from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.supervisor.fork_sources import (
    MOST_CHECKPOINTS,
    ForkSources,
    ImportCheckpoint,
    LibraryBase,
    choose_checkpoint,
    choose_source,
    with_checkpoint,
    with_modules,
    with_used,
    without_outdated,
)
from asgireload.development.watch.changes import Changes

MODULES = {f"/app/{name}.py": name for name in ("first", "second", "third", "last")}
BASE = LibraryBase(1, frozenset({"yaml", "numpy"}))


def checkpoint(source_id, module):
    """A checkpoint before `module`: it has read what comes before that."""
    files = list(MODULES)
    return ImportCheckpoint(source_id, module, frozenset(files[: files.index(f"/app/{module}.py")]))


def sources(*modules):
    return ForkSources(
        BASE, tuple(checkpoint(10 + n, name) for n, name in enumerate(modules)), MODULES
    )


def saved(*names):
    return Changes(arrived=frozenset(f"/app/{name}" for name in names))


def left(before, changes):
    after = without_outdated(before, changes, ["/app"])
    return after.library_base is not None, [checkpoint.module for checkpoint in after.checkpoints]


def test_the_checkpoint_that_has_read_most_serves_else_the_base_else_nothing():
    assert choose_source(sources("last", "second")).module == "last"
    assert choose_source(sources()) == BASE
    assert choose_source(ForkSources()) is None


def test_a_change_spares_the_checkpoints_that_have_not_read_it():
    before = sources("second", "last")
    assert left(before, saved("last.py")) == (True, ["second", "last"])
    assert left(before, saved("third.py")) == (True, ["second"])
    assert left(before, saved("third.py", "last.py")) == (True, ["second"])
    assert left(before, saved("first.py")) == (True, [])


def test_a_change_that_may_have_been_looked_for_before_spares_no_checkpoint():
    for changes in (
        saved("new.py"),
        saved("settings.yaml"),
        saved("last.py", "new.py"),
        Changes(vanished=frozenset({"/app/last.py"})),
        Changes(is_vague=True),
    ):
        assert left(sources("second", "last"), changes)[1] == []


def test_a_file_that_hides_a_library_outdates_the_base():
    assert left(sources(), saved("yaml.py"))[0] is False
    assert left(sources(), saved("numpy/core.py"))[0] is False
    assert left(sources(), saved("yaml_tools.py", "shop/yaml.py"))[0] is True


def test_a_module_that_is_imported_already_hides_nothing():
    before = ForkSources(LibraryBase(1, frozenset({"first"})), (), MODULES)
    assert left(before, saved("first.py"))[0] is True


def test_a_change_of_the_environment_outdates_everything():
    assert left(sources("last"), Changes(is_environment=True)) == (False, [])


def test_a_checkpoint_is_left_before_the_first_module_that_changed():
    assert choose_checkpoint(sources(), ["/app/last.py", "/app/third.py"]) == "third"
    assert choose_checkpoint(sources(), ["/app/unknown.py"]) == ""
    assert choose_checkpoint(sources("third"), ["/app/third.py"]) == ""


def test_who_edits_two_modules_in_turn_keeps_a_checkpoint_before_each():
    kept = sources("second", "last")
    kept = with_used(kept, 10)
    assert [b.module for b in kept.checkpoints] == ["last", "second"]
    kept = with_checkpoint(kept, checkpoint(20, "third"))
    assert [b.module for b in kept.checkpoints] == ["second", "third"]
    kept = with_checkpoint(kept, checkpoint(21, "third"))
    assert [b.source_id for b in kept.checkpoints] == [10, 21]
    assert len(kept.checkpoints) == MOST_CHECKPOINTS


def test_a_load_that_did_not_end_adds_to_what_is_known_and_a_whole_one_replaces_it():
    half = with_modules(sources(), {"/app/new.py": "new"}, is_whole=False)
    assert "/app/last.py" in half.modules
    assert "/app/new.py" in half.modules
    assert list(with_modules(half, {"/app/new.py": "new"}, is_whole=True).modules) == [
        "/app/new.py"
    ]


names = st.sampled_from(["first.py", "second.py", "third.py", "last.py", "new.py", "x.html"])


@given(st.lists(st.sampled_from(["second", "third", "last"]), unique=True), st.sets(names))
def test_no_layer_that_is_left_has_read_what_changed(modules, changed):
    after = without_outdated(sources(*modules), saved(*changed), ["/app"])
    chosen = choose_source(after)
    paths = {f"/app/{name}" for name in changed}
    if isinstance(chosen, ImportCheckpoint):
        assert not chosen.read & paths
        assert paths <= set(MODULES)
