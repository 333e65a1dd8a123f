"""Which connections of the admin port give way to others, as plain values."""

from asgireload.admin.crowd import (
    FEWEST_CONNECTIONS,
    LEFT_DESCRIPTORS,
    MAX_CONNECTIONS,
    Guest,
    most_connections,
    to_give_way,
)


def guests(count: int, host: str, *, begin: int = 0, **state: bool) -> list[Guest]:
    flags = {"is_trusted": False, "is_busy": False, **state}
    return [Guest(begin + number, host, **flags) for number in range(count)]


def test_nobody_gives_way_while_there_is_room() -> None:
    assert to_give_way(guests(10, "a"), 10) == []


def test_of_strangers_the_one_that_came_first_gives_way() -> None:
    crowd = guests(12, "a")
    assert to_give_way(crowd[::-1], 10) == crowd[:2]


def test_the_address_with_most_connections_bears_it() -> None:
    probes, flood = guests(3, "probe"), guests(9, "flood", begin=3)
    assert to_give_way([*probes, *flood], 10) == flood[:2]
    assert to_give_way([*probes, *flood], 5) == flood[:6] + probes[:1]


def test_who_shows_no_right_gives_way_also_while_it_is_answered() -> None:
    """It may not read its answers."""
    crowd = guests(5, "a", is_busy=True)
    assert to_give_way(crowd, 4) == crowd[:1]


def test_who_was_let_in_gives_way_last_and_never_while_it_is_answered() -> None:
    waiting = guests(5, "operator", is_trusted=True, is_busy=True)
    idle = guests(3, "operator", begin=5, is_trusted=True)
    strangers = guests(2, "a", begin=8)
    everybody = [*waiting, *idle, *strangers]
    assert to_give_way(everybody, 9) == strangers[:1]
    assert to_give_way(everybody, 7) == [*strangers, idle[0]]
    assert to_give_way(everybody, 0) == [*strangers, *idle]


def test_connections_leave_descriptors_to_the_supervisor() -> None:
    assert most_connections(limit=1024, open_descriptors=60, present=0) == MAX_CONNECTIONS
    assert most_connections(limit=100, open_descriptors=40, present=10) == 70 - LEFT_DESCRIPTORS
    assert most_connections(limit=64, open_descriptors=64, present=2) == FEWEST_CONNECTIONS


def test_without_a_descriptor_to_look_with_a_part_of_the_limit_is_taken() -> None:
    assert most_connections(limit=80, open_descriptors=0, present=30) == 20
    assert most_connections(limit=65536, open_descriptors=0, present=30) == MAX_CONNECTIONS
