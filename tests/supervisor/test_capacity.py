"""More workers than the system has room for are refused before they are started."""

import pytest

from asgireload.config import Config
from asgireload.ipc.linux import tasks_left
from asgireload.supervisor.capacity import (
    SPARE_DESCRIPTORS,
    Demand,
    Room,
    demand_of,
    look_for_room,
    refusal,
)

NINE = Demand(per_worker=9, per_slot=0)


def room(descriptors=1024, open_now=10, tasks=None):
    return Room(descriptors, open_now, tasks)


def test_workers_fit_with_those_that_drain_beside_them():
    most = (1024 - 10 - SPARE_DESCRIPTORS) // 9
    assert refusal(most, 0, 0, room(), NINE) is None
    assert f"room for {most} workers and not for {most + 1}" in refusal(
        most + 1, 0, 0, room(), NINE
    )


def test_what_workers_have_open_already_is_not_counted_twice():
    assert refusal(100, 60, 20, room(open_now=70), NINE) is None
    assert refusal(100, 0, 20, room(open_now=120), NINE) is not None


def test_a_limit_that_is_too_small_for_anything_has_room_for_none():
    assert "room for 0 workers" in refusal(1, 0, 0, room(descriptors=16), NINE)


def test_processes_that_the_control_group_forbids():
    assert refusal(5, 12, 4, room(tasks=1), NINE) is None
    assert "room for 5 workers and not for 6" in refusal(6, 12, 4, room(tasks=1), NINE)
    assert "TasksMax=" in refusal(6, 12, 4, room(tasks=1), NINE)


@pytest.mark.parametrize(
    ("options", "addresses", "demand"),
    [
        ({}, 1, Demand(9, 0)),
        ({"drain_generations": 5}, 1, Demand(18, 0)),
        ({"drain_overlap": False}, 1, Demand(6, 0)),
        ({"accept": "per-slot"}, 2, Demand(11, 2)),
    ],
)
def test_what_a_worker_takes_depends_on_how_many_drain_and_on_its_sockets(
    options, addresses, demand
):
    assert demand_of(Config(**options), addresses) == demand


def test_the_usual_number_fits_here():
    assert look_for_room(4, 0, 0, NINE) is None


def write_group(root, place, most, current):
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / "pids.max").write_text(f"{most}\n")
    (root / place / "pids.current").write_text(f"{current}\n")


def test_the_tightest_control_group_counts(tmp_path):
    groups = tmp_path / "cgroup"
    groups.write_text("1:name=systemd:/old\n0::/system.slice/shop.service\n")
    root = tmp_path / "fs"
    write_group(root, "system.slice/shop.service", "max", 7)
    assert tasks_left(str(groups), str(root)) is None
    write_group(root, "system.slice", 100, 60)
    assert tasks_left(str(groups), str(root)) == 40
    write_group(root, "system.slice/shop.service", 20, 19)
    assert tasks_left(str(groups), str(root)) == 1
    write_group(root, "system.slice/shop.service", 20, 25)
    assert tasks_left(str(groups), str(root)) == 0


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert tasks_left(str(tmp_path / "none")) is None
    (tmp_path / "cgroup").write_text("12:pids:/old\n")
    assert tasks_left(str(tmp_path / "cgroup"), str(tmp_path)) is None
