"""Each connection on its way has exactly one owner, whatever happens in which order."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgireload.worker.offers import WINDOW, Claims, Fate, Offers


def test_turns_are_given_in_the_order_of_enlisting_as_long_as_there_is_room():
    offers = Offers()
    seen = []
    for number in range(WINDOW + 5):
        offers.enlist(lambda number=number: seen.append(number))
    while (turn := offers.next_turn()) is not None:
        turn()
        offers.offer(lambda is_taken: None)
    assert seen == list(range(WINDOW))
    assert not offers.has_room
    offers.settle([1], [2])
    for _ in range(2):
        turn = offers.next_turn()
        assert turn is not None
        turn()
        offers.offer(lambda is_taken: None)
    assert offers.next_turn() is None
    assert seen == list(range(WINDOW + 2))


def test_enlisting_says_whether_the_turn_comes_at_once():
    offers = Offers()
    said = [offers.enlist(lambda: None) for _ in range(WINDOW + 1)]
    assert said == [True] * WINDOW + [False]


def test_nobody_gets_a_turn_after_the_end():
    offers = Offers()
    offers.enlist(lambda: None)
    offers.end(keeps=True)
    assert offers.next_turn() is None
    assert not offers.enlist(lambda: None)
    assert offers.next_turn() is None


def test_settling_twice_or_what_is_unknown_tells_nobody():
    offers = Offers()
    number = offers.offer(lambda is_taken: None)
    assert len(offers.settle([number], [number])) == 1
    assert offers.settle([number, 99], [number]) == []
    assert (offers.handed_over, offers.came_back) == (1, 0)


def test_what_is_not_settled_at_the_end_is_kept_unless_that_is_not_safe():
    for keeps in (True, False):
        offers = Offers()
        offers.offer(lambda is_taken: None)
        ((_, is_taken),) = offers.end(keeps=keeps)
        assert is_taken is not keeps
        assert offers.end(keeps=keeps) == []


def test_claims_are_dropped_after_a_withdrawal_and_begun_without_one():
    claims = Claims()
    claims.hold(1, "a")
    assert claims.ended() == (Fate.BEGIN, ["a"])
    claims.hold(2, "b")
    claims.withdrawn()
    assert claims.ended() == (Fate.DROP, ["b"])
    assert claims.ended() == (Fate.DROP, [])


@dataclass
class Pipe:
    """An invented passage that behaves as the kernel's: ordered, with ends that close at one instant."""

    to_new: list = field(default_factory=list)
    to_old: list = field(default_factory=list)
    may_speak: bool = True
    """The new side's words still arrive in the old side's queue."""
    old_open: bool = True
    new_open: bool = True


class Handing(RuleBasedStateMachine):
    """Any order of offers, words, refusals, withdrawals and deaths.

    `serves` notes who begins to serve which connection; a dead worker serves nothing any more, but what it
    may have served counts.
    """

    @initialize()
    def begin(self):
        self.pipe = Pipe()
        self.offers = Offers()
        self.claims = Claims()
        self.count = 0
        self.owner = {}
        """Connection to who may serve it: old, new, nobody (closed), or moving."""
        self.touched = {}
        """Connection to all who served it since it was offered."""
        self.old_alive = self.new_alive = True
        self.is_untold = self.has_given_up = False
        self.refusals = []

    # What both do with a connection.

    def serve(self, who, connection):
        assert self.owner[connection] == "moving", f"{connection} is {self.owner[connection]}'s"
        self.owner[connection] = who
        self.touched[connection].append(who)

    def settle(self, connection, is_taken):
        if not is_taken:
            self.serve("old", connection)

    # The old worker.

    @precondition(lambda self: self.old_alive and self.offers.has_room and self.pipe.new_open)
    @rule()
    def offer(self):
        self.count += 1
        connection = self.count
        self.owner[connection] = "moving"
        self.touched[connection] = []
        number = self.offers.offer(lambda is_taken: self.settle(connection, is_taken))
        self.pipe.to_new.append(("offer", number, connection))

    @precondition(lambda self: self.old_alive and self.pipe.old_open and self.pipe.to_old)
    @rule()
    def hear(self):
        self.hear_one()

    def hear_one(self):
        taken, refused = self.pipe.to_old.pop(0)
        for settle, is_taken in self.offers.settle(taken, refused):
            settle(is_taken)

    @precondition(lambda self: self.old_alive and self.pipe.old_open)
    @rule(is_full=st.booleans())
    def withdraw(self, is_full):
        """As `Passage.withdraw`: tell, silence the other at one instant, hear what it had said, close."""
        can_tell = not (is_full and self.pipe.new_open)
        if can_tell:
            self.pipe.to_new.append(("withdrawn",))
        self.pipe.may_speak = False
        self.is_untold = not can_tell
        self.leave(keeps=can_tell)

    @precondition(
        lambda self: (
            self.old_alive
            and self.pipe.old_open
            and not self.pipe.new_open
            and not self.pipe.to_old
        )
    )
    @rule()
    def see_the_end(self):
        self.leave(keeps=True)

    def leave(self, *, keeps):
        while self.pipe.to_old:
            self.hear_one()
        self.pipe.old_open = False
        self.pipe.may_speak = False
        for settle, is_taken in self.offers.end(keeps=keeps):
            settle(is_taken)

    @precondition(lambda self: self.old_alive)
    @rule()
    def old_dies(self):
        self.old_alive = False
        self.pipe.old_open = False
        self.pipe.may_speak = False
        for connection, owner in self.owner.items():
            if owner == "old":
                self.owner[connection] = "nobody"

    # The new worker.

    @precondition(lambda self: self.new_alive and self.pipe.new_open and self.pipe.to_new)
    @rule(accepts=st.booleans())
    def receive(self, accepts):
        message = self.pipe.to_new.pop(0)
        if message[0] == "withdrawn":
            self.claims.withdrawn()
        elif accepts:
            self.claims.hold(message[1], message[2])
        else:
            self.refusals.append(message[1])

    @precondition(
        lambda self: (
            self.new_alive
            and self.pipe.new_open
            and not self.claims.is_mute
            and (self.claims.held or self.refusals)
        )
    )
    @rule()
    def say(self):
        if not self.pipe.may_speak:
            self.claims.muted()
            return
        self.pipe.to_old.append((list(self.claims.held), list(self.refusals)))
        self.refusals.clear()
        for connection in self.claims.said():
            self.serve("new", connection)

    @precondition(
        lambda self: (
            self.new_alive
            and self.pipe.new_open
            and not self.pipe.old_open
            and not self.pipe.to_new
        )
    )
    @rule()
    def end(self):
        fate, connections = self.claims.ended()
        for connection in connections:
            if fate is Fate.BEGIN:
                self.serve("new", connection)
        self.pipe.new_open = False

    @precondition(lambda self: self.new_alive and self.pipe.new_open)
    @rule()
    def give_up(self):
        self.claims.given_up()
        self.has_given_up = True
        self.pipe.new_open = False
        self.pipe.may_speak = False

    @precondition(lambda self: self.new_alive)
    @rule()
    def new_dies(self):
        self.new_alive = False
        self.pipe.new_open = False
        for connection, owner in self.owner.items():
            if owner == "new":
                self.owner[connection] = "nobody"

    @rule()
    def time_passes(self):
        """Something can always happen, also when both are gone."""

    # What always holds.

    @invariant()
    def nothing_is_served_by_both(self):
        for connection, who in getattr(self, "touched", {}).items():
            assert len(who) <= 1, f"{connection} was served by {who}"

    def teardown(self):
        """Let both come to an end: then each connection has an owner who lives, or ended with one."""
        if not hasattr(self, "pipe"):
            return
        for _ in range(1000):
            if self.new_alive and self.pipe.new_open and self.pipe.to_new:
                self.receive(accepts=True)
            elif (
                self.new_alive
                and self.pipe.new_open
                and not self.claims.is_mute
                and (self.claims.held or self.refusals)
            ):
                self.say()
            elif self.old_alive and self.pipe.old_open and self.pipe.to_old:
                self.hear()
            elif self.new_alive and self.pipe.new_open and not self.pipe.old_open:
                self.end()
            elif self.old_alive and self.pipe.old_open and not self.pipe.new_open:
                self.see_the_end()
            else:
                break
        # Where no queue has room for one more word, not even the largest, offers are the new worker's. If it gives
        # up before it has read them, nobody has them, and their clients see the connection close, unanswered.
        if self.old_alive and self.new_alive and not (self.is_untold and self.has_given_up):
            assert "moving" not in self.owner.values(), self.owner
        if self.old_alive and not self.offers.is_open:
            assert not self.offers.unsettled


TestHanding = Handing.TestCase


@given(st.lists(st.integers(0, 80)), st.lists(st.integers(0, 80)))
def test_counts_agree_with_what_was_told(taken, refused):
    offers = Offers()
    told = []
    numbers = [offers.offer(told.append) for _ in range(WINDOW)]
    for settle, is_taken in offers.settle(taken, refused):
        settle(is_taken)
    for settle, is_taken in offers.end(keeps=True):
        settle(is_taken)
    assert len(told) == len(numbers)
    assert offers.handed_over == told.count(True)
    assert offers.came_back == told.count(False)
