"""Which connections of the admin port give way to others, as plain values."""

from asgireload.admin.crowd import Guest, to_give_way


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
