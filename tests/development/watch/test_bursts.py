"""When to hold and when to load, with invented times."""

from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.watch.bursts import LONGEST_BURST, Bursts
from asgireload.development.watch.changes import Changes

QUIET = 0.05


def saved(*names):
    return Changes(arrived=frozenset(names))


def gone(*names):
    return Changes(vanished=frozenset(names))


def test_the_first_save_is_loaded_at_once():
    decision = Bursts(QUIET).add(saved("a.py"), 10.0)
    assert decision.load == saved("a.py")
    assert decision.gives_up


def test_what_follows_gives_the_load_up_and_waits_for_quiet():
    bursts = Bursts(QUIET)
    bursts.add(saved("a.py"), 10.0)
    decision = bursts.add(saved("b.py"), 10.01)
    assert decision.load is None
    assert decision.gives_up
    assert bursts.deadline == 10.01 + QUIET
    assert bursts.expire(10.02).load is None
    assert bursts.expire(10.01 + QUIET).load == saved("b.py")
    assert bursts.deadline is None


def test_a_checkout_of_two_thousand_files_is_one_early_attempt_and_one_load():
    """A large checkout makes one reload after quiet."""
    bursts = Bursts(QUIET)
    loads = []
    for number in range(2000):
        now = 10.0 + number * 0.0001
        loads.append(bursts.add(saved(f"{number}.py"), now).load)
    assert bursts.deadline is not None
    loads.append(bursts.expire(bursts.deadline).load)
    assert [len(load.paths) for load in loads if load is not None] == [1, 1999]


def test_an_editor_that_moves_the_old_version_away_first_is_one_save():
    bursts = Bursts(QUIET)
    assert bursts.add(gone("a.py"), 10.0).load is None
    assert bursts.add(saved("a.py"), 10.001).load == saved("a.py")
    assert bursts.deadline is None


def test_a_deleted_file_is_loaded_when_it_stays_away():
    bursts = Bursts(QUIET)
    assert bursts.add(gone("a.py"), 10.0).load is None
    assert bursts.expire(10.0 + QUIET).load == gone("a.py")


def test_a_save_after_quiet_is_again_a_first_one():
    bursts = Bursts(QUIET)
    bursts.add(saved("a.py"), 10.0)
    assert bursts.add(saved("a.py"), 10.0 + QUIET).load == saved("a.py")


def test_what_changes_without_end_is_loaded_now_and_then_and_not_given_up():
    bursts = Bursts(QUIET)
    loads, given_up_after_forced = 0, False
    for step in range(1000):
        now = 10.0 + step * QUIET / 2
        if bursts.deadline is not None and bursts.deadline <= now:
            loads += bursts.expire(bursts.deadline).load is not None
        decision = bursts.add(saved("busy.py"), now)
        loads += decision.load is not None
        given_up_after_forced |= decision.gives_up and loads > 1
    assert 1000 / 2 / LONGEST_BURST - 2 <= loads <= 1000 / 2 / LONGEST_BURST + 2
    assert not given_up_after_forced


def test_without_a_delay_every_save_is_loaded():
    bursts = Bursts(0.0)
    assert bursts.add(saved("a.py"), 10.0).load == saved("a.py")
    assert bursts.add(saved("b.py"), 10.0).load == saved("b.py")
    assert bursts.add(gone("b.py"), 10.1).load is None
    assert bursts.expire(10.1).load == gone("b.py")


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("abc"), st.floats(0, 0.2)), min_size=1, max_size=30
    )
)
def test_every_change_is_in_a_load_that_comes_after_it(doings):
    bursts = Bursts(QUIET)
    now, owed = 10.0, set()
    for arrives, name, pause in doings:
        if bursts.deadline is not None and bursts.deadline <= now:
            load = bursts.expire(now).load
            assert load is not None
            owed -= load.paths
        owed.add(name)
        decision = bursts.add(saved(name) if arrives else gone(name), now)
        if decision.load is not None:
            owed -= decision.load.paths
        assert bool(owed) == (bursts.deadline is not None)
        now += pause
    if owed:
        load = bursts.expire(bursts.deadline).load
        assert owed <= load.paths
