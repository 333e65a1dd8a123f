"""What a command says while its server waits."""

import threading

import msgspec

from asgireload.admin.port import WorkerSnapshot
from asgireload.cli import progress
from asgireload.cli.progress import Progress, gist_of
from asgireload.cli.render import render_waiting
from asgireload.errors import ControlError
from tests.cli.test_control import status_snapshot

WAITING = "Reload 3 waits for 1 worker to drain, 14 s at most"


def status(waits_for=WAITING, held_by=""):
    worker = WorkerSnapshot(
        slot=0, generation=1, pid=7, state="draining", ready_at=0.0, age=3.0, heartbeat_age=0.1,
        connections=1, websockets=0, exchanges=1, requests_total=1, rss_bytes=None, waits_for=held_by,
    )  # fmt: skip
    return status_snapshot(waits_for=waits_for, workers=(msgspec.to_builtins(worker),))


class Server:
    """Gives one answer after the other, then says that it has none."""

    def __init__(self, *answers):
        self.client = self
        self.answers = list(answers)
        self.is_done = threading.Event()

    def request(self, method, path, timeout):
        if not self.answers:
            self.is_done.set()
            raise ControlError("it is gone")
        return 200, self.answers.pop(0)


def told(monkeypatch, capsys, *answers):
    monkeypatch.setattr(progress, "LOOK_INTERVAL", 0.001)
    server = Server(*answers)
    with Progress(server):
        assert server.is_done.wait(20)
    return capsys.readouterr().err.splitlines()


def test_who_waits_and_what_holds_it_is_told():
    assert render_waiting({}) == ""
    assert render_waiting(status("")) == ""
    assert render_waiting(status()) == f"{WAITING}\n"
    assert render_waiting(status(held_by="1 request")) == f"{WAITING}\n  slot 0, pid 7: 1 request\n"


def test_a_moment_of_waiting_is_not_told(monkeypatch, capsys):
    """Every roll that waits for old workers does so for a moment."""
    assert told(monkeypatch, capsys, status(), status(""), status()) == []


def test_what_lasts_is_told_once_though_its_seconds_go_by(monkeypatch, capsys):
    later = WAITING.replace("14", "12")
    assert told(monkeypatch, capsys, status(), status(later), status(later)) == [later]
    assert gist_of(WAITING) == gist_of(later)


def test_what_holds_a_worker_is_told_at_once_and_again_when_it_changes(monkeypatch, capsys):
    lines = told(
        monkeypatch,
        capsys,
        status(held_by="2 requests: GET /a for 3 s"),
        status(held_by="2 requests: GET /a for 5 s"),
        status(held_by="1 WebSocket: WebSocket /b for 5 s"),
    )
    assert lines == [
        WAITING,
        "  slot 0, pid 7: 2 requests: GET /a for 3 s",
        WAITING,
        "  slot 0, pid 7: 1 WebSocket: WebSocket /b for 5 s",
    ]
