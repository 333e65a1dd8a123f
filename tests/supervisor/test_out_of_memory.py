"""The likely cause of a SIGKILL that nobody here has sent."""

import pytest

from asgireload.supervisor.out_of_memory import (
    RECENT,
    OutOfMemory,
    counter_files,
    read_counters,
)

OWN = "/sys/fs/cgroup/app/memory.events"


def test_counter_that_has_risen_explains_a_kill():
    watch = OutOfMemory({OWN: 3})
    text = watch.explain({OWN: 4}, 100.0)
    assert text == (
        "most likely by the kernel because memory ran out"
        " (oom_kill of /sys/fs/cgroup/app/memory.events rose from 3 to 4)"
    )


def test_counter_that_stands_still_explains_nothing():
    watch = OutOfMemory({OWN: 3})
    assert watch.explain({OWN: 3}, 100.0) == ""
    watch.explain({OWN: 4}, 101.0)
    assert watch.explain({OWN: 4}, 102.0) == "", "one rise explains one kill"


def test_children_that_were_killed_together_are_all_explained():
    watch = OutOfMemory({OWN: 0})
    assert "from 0 to 1" in watch.explain({OWN: 2}, 100.0)
    assert "from 1 to 2" in watch.explain({OWN: 2}, 100.1)
    assert watch.explain({OWN: 2}, 100.2) == ""


def test_kills_of_strangers_explain_no_later_exit():
    watch = OutOfMemory({OWN: 0})
    assert watch.explain({OWN: 3}, 100.0)
    assert watch.explain({OWN: 3}, 100.1 + RECENT) == ""
    assert "from 3 to 4" in watch.explain({OWN: 4}, 200.0)


def test_first_file_that_rose_is_named():
    watch = OutOfMemory({"a": 0, "b": 0})
    assert "oom_kill of b" in watch.explain({"a": 0, "b": 1}, 100.0)
    assert "oom_kill of a" in watch.explain({"a": 1, "b": 2}, 200.0)


def test_file_that_appears_later_says_nothing_at_first():
    watch = OutOfMemory({})
    assert watch.explain({OWN: 7}, 100.0) == ""
    assert watch.explain({OWN: 8}, 101.0)


@pytest.mark.parametrize(
    ("membership", "first"),
    [
        ("0::/", "/sys/fs/cgroup/memory.events"),
        ("0::/system.slice/shop.service", "/sys/fs/cgroup/system.slice/shop.service/memory.events"),
        (
            "5:cpu:/\n4:memory:/docker/ab\n0::/",
            "/sys/fs/cgroup/memory/docker/ab/memory.oom_control",
        ),
        ("7:cpu,memory:/a:b\n", "/sys/fs/cgroup/memory/a:b/memory.oom_control"),
    ],
)
def test_files_of_a_control_group(membership, first):
    files = counter_files(membership)
    assert files[0] == first
    assert len(set(files)) == len(files)


def test_counters_are_read_where_there_are_any(tmp_path):
    v2 = tmp_path / "memory.events"
    v2.write_text("low 0\nhigh 12\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n")
    v1 = tmp_path / "memory.oom_control"
    v1.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    missing = tmp_path / "missing"
    assert read_counters([str(v2), str(missing), str(v1)]) == {str(v2): 2, str(v1): 5}


def test_without_a_control_group_the_machine_is_asked(tmp_path):
    assert set(read_counters([str(tmp_path / "missing")])) <= {"/proc/vmstat"}
    assert read_counters() is not None
