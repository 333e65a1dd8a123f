"""Watching by looking: pictures and their differences."""

import pytest

from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.filters import make_filter
from asgireload.development.watch.polling import compare, is_remote, take_picture


def test_what_came_changed_or_left_between_two_pictures():
    before = {"a.py": (1, 1, 10, 7), "b.py": (1, 1, 10, 8), "c.py": (1, 1, 10, 9)}
    after = {"a.py": (1, 1, 10, 7), "b.py": (1, 2, 10, 8), "d.py": (1, 1, 1, 1)}
    assert compare(before, after) == Changes(frozenset({"b.py", "d.py"}), frozenset({"c.py"}))
    assert compare(after, after) == NOTHING


def test_a_picture_holds_code_and_what_is_named_and_no_clutter(tmp_path):
    for name in ("shop", ".git", "myenv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("x")
    (tmp_path / "myenv" / "pyvenv.cfg").write_text("")
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / ".env").write_text("x")
    top = str(tmp_path)
    picture = take_picture([top], make_filter([top], (), ()), [f"{top}/.env", f"{top}/missing"])
    assert set(picture) == {f"{top}/shop/x.py", f"{top}/.env"}


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:30 / /work\\040dir rw shared:1 - 9p mount rw
41 22 0:31 / /app rw - fuse.grpcfuse grpcfuse rw
42 41 0:32 / /app/tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/home/me", False),
        ("/work dir/x", True),
        ("/app", True),
        ("/apple", False),
        ("/app/tmp/x", False),
    ],
)
def test_file_systems_that_others_write_to_are_known(directory, expected):
    assert is_remote(directory, MOUNTS) is expected
