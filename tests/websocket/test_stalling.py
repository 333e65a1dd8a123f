"""When a client that does not read is given up: with an invented clock."""

from asgireload.websocket.stalling import StallWatch


def test_a_client_that_takes_nothing_stalls_after_the_timeout() -> None:
    watch = StallWatch(8.0)
    assert watch.interval == 1.0
    looks = [watch.is_stalled(float(second), 100) for second in range(10)]
    assert looks == [False] * 8 + [True] * 2


def test_every_byte_taken_begins_a_new_time() -> None:
    watch = StallWatch(8.0)
    assert not any(watch.is_stalled(second * 5.0, second) for second in range(100))


def test_a_rest_begins_a_new_time() -> None:
    watch = StallWatch(8.0)
    watch.is_stalled(0.0, 100)
    watch.rest()
    assert not watch.is_stalled(100.0, 100)
    assert watch.is_stalled(108.0, 100)
