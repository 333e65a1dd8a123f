"""Which changed paths mean new code."""

import pytest

from asgireload.development.watch.filters import describe, make_filter


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app/main.py", True),
        ("/app/shop/models.py", True),
        ("/app/shop/page.html", False),
        ("/app/.hidden.py", False),
        ("/app/main.pyc", False),
        ("/app/.main.py.swp", False),
        ("/app/main.py~", False),
        ("/app/4913", False),
        ("/app/.git/hooks/x.py", False),
        ("/app/venv/lib/python3.11/site-packages/thing/x.py", False),
        ("/app/__pycache__/x.py", False),
        ("/elsewhere/x.py", True),
    ],
)
def test_python_files_count_and_clutter_does_not(path, expected):
    assert make_filter(["/app"], (), ()).accepts(path) is expected


def test_directories_above_the_watched_one_do_not_matter():
    assert make_filter(["/home/me/venv/app"], (), ()).accepts("/home/me/venv/app/main.py")


def test_patterns_of_the_user_are_added():
    chosen = make_filter(["/app"], ["*.html"], ["migrations/*"])
    assert chosen.accepts("/app/page.html")
    assert chosen.accepts("/app/main.py")
    assert not chosen.accepts("/app/migrations/0001.py")


def test_a_large_burst_is_described_shortly(monkeypatch):
    monkeypatch.chdir("/")
    assert describe([f"/a{number}.py" for number in range(2000)]) == (
        "a0.py, a1.py, a10.py and 1997 more"
    )


def test_changes_are_described_without_a_working_directory(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert describe(["/srv/code/app.py"]) == "/srv/code/app.py"
