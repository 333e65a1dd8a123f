import os
import subprocess
import sys

import msgspec
import pytest

from asgireload.admin.port import (
    CertificateSnapshot,
    ReloadSnapshot,
    SlotSteps,
    StatusSnapshot,
    Step,
    WorkerSnapshot,
)
from asgireload.admin.servers import Server as Found
from asgireload.cli import control as control_module
from asgireload.cli.main import main
from asgireload.errors import ControlError
from asgireload.failures import Failure


def reload_snapshot(**changes):
    values = {
        "id": 4,
        "outcome": "committed",
        "phase": "done",
        "origins": ("curl",),
        "from_generation": 1,
        "to_generation": 2,
        "requested_at": 0.0,
        "started_at": 0.0,
        "ended_at": 1.0,
        "duration": 1.25,
        "serving_generation": 2,
        "uniform": True,
        "failure": None,
        "slots": (
            SlotSteps(slot=0, steps=(Step(name="ready", seconds=0.5, generation=2, detail="ok"),)),
        ),
        "workers_drained": 2,
    }
    return msgspec.to_builtins(ReloadSnapshot(**(values | changes)))


FAILED = reload_snapshot(
    outcome="failed",
    serving_generation=1,
    failure=Failure(stage="import", summary="ValueError: no", traceback="File x\nValueError: no"),
)


def status_snapshot(state="serving", **changes):
    values = {
        "version": "1",
        "pid": os.getpid(),
        "state": state,
        "message": "serving generation 2",
        "app": "main:app",
        "started_at": 0.0,
        "uptime": 61.0,
        "generation": 2,
        "workers_wanted": 2,
        "workers_ready": 2,
        "workers_old": 1,
        "listeners": ("http://127.0.0.1:1",),
        "accept": "shared",
        "restarts_total": 0,
        "reloads_total": 3,
        "workers": (
            WorkerSnapshot(
                slot=0, generation=2, pid=None, state="ready", ready_at=0.0, age=3.0,
                heartbeat_age=0.1, connections=1, websockets=0, exchanges=0, requests_total=17,
                rss_bytes=2**20,
            ),
        ),
        "templates": (),
        "current_reload": None,
        "pending_reload": None,
        "last_reload": None,
    }  # fmt: skip
    return msgspec.to_builtins(StatusSnapshot(**(values | changes)))


class Server:
    """Answers in place of a running server."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.found_by = None
        self.on_request = None
        self.path = "/run/x.sock"

    def find(self, address, words, *, acts):
        self.found_by = (address.socket, address.pid, address.pid_file)
        self.words = words
        self.acts = acts
        status, answer = self.request("GET", "/status") if "/status" in self.answers else (200, {})
        assert status == 200
        self.asked.clear()
        return Found(self, answer.get("pid", 4242), {"app": "main:app", **answer})

    def request(self, method, path, timeout=10.0):
        self.asked.append((method, path, timeout))
        if self.on_request is not None:
            self.on_request(path)
        answer = self.answers[path.partition("?")[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server(monkeypatch):
    fake = Server()
    monkeypatch.setattr(control_module, "find_server", fake.find)
    monkeypatch.delenv("ASGIRELOAD_ADMIN_SOCKET", raising=False)
    return fake


def test_a_reload_that_is_only_asked_for_tells_its_number(server, capsys):
    server.answers["/reload"] = (202, {"id": 4, "outcome": "pending", "coalesced": True})
    assert main(["reload"]) == 0
    assert "Reload 4 is pending, which others asked for too" in capsys.readouterr().out


def test_a_reload_that_waits_for_old_workers_says_so(server, capsys):
    waits_for = "4 of 8 workers of generations 1, 2 to drain, 14 s at most"
    ticket = {"id": 4, "outcome": "pending", "coalesced": False, "waits_for": waits_for}
    server.answers["/reload"] = (202, ticket)
    assert main(["reload"]) == 0
    assert f"Reload 4 is pending. It waits for {waits_for}. " in capsys.readouterr().out
    server.answers["/reload"] = (200, reload_snapshot(waited=14.2, workers_draining=3))
    assert main(["reload", "--wait"]) == 0
    shown = capsys.readouterr().out
    assert "waited 14.2 s for old workers to drain" in shown
    assert "old workers: 5 (2 drained, 3 still draining)" in shown


def test_a_committed_reload_is_a_success(server, capsys):
    server.answers["/reload"] = (200, reload_snapshot())
    assert main(["reload", "--wait"]) == 0
    shown = capsys.readouterr().out
    assert "Reload 4: committed after 1.2 s (generation 1 to 2)" in shown
    assert "generation 2 serves in every slot" in shown
    assert "old workers: 2 (2 drained)" in shown
    assert "slot 0: ready at 0.50 s (ok)" in shown
    assert server.asked == [("POST", "/reload?wait=1", None)]


def test_a_failed_reload_ends_with_1_and_shows_the_traceback(server, capsys):
    """A deploy script learns from the exit status that the new code does not serve."""
    problem = {"title": "Bad Gateway", "detail": "Reload 4 was not committed", "reload": FAILED}
    server.answers["/reload"] = (502, problem)
    assert main(["reload", "--wait", "--timeout", "1m"]) == 1
    shown = capsys.readouterr()
    assert "failed at import: ValueError: no\n    File x\n    ValueError: no" in shown.out
    assert "asgireload: error: Reload 4 was not committed" in shown.err
    assert server.asked == [("POST", "/reload?wait=1&timeout=60", 65.0)]


def test_a_failure_that_is_shown_as_a_page_is_not_a_generation_that_serves(server, capsys):
    """Under --reload the generation that failed answers, with its error page."""
    shown_as_page = FAILED | {"serving_generation": FAILED["to_generation"]}
    server.answers["/reload"] = (502, {"detail": "no", "reload": shown_as_page})
    assert main(["reload", "--wait"]) == 1
    shown = capsys.readouterr().out
    assert "every request is answered with an error page" in shown
    assert "in every slot" not in shown


@pytest.mark.parametrize(
    ("words", "path", "status", "answer", "again"),
    [
        (["reload"], "/reload", 202, {"id": 4, "outcome": "running", "coalesced": False}, "reload"),
        (["reload", "--wait"], "/reload", 200, reload_snapshot(), "reload --wait"),
        (["reload", "--wait"], "/reload", 502, {"detail": "no", "reload": FAILED}, "reload --wait"),
        (["reload"], "/reload", 503, {"detail": "The server stops."}, "reload"),
        (["reload-certificates"], "/tls/reload", 200, {"certificates": []}, "reload-certificates"),
        (["reload-certificates"], "/tls/reload", 502, {"detail": "no"}, "reload-certificates"),
        (["scale", "3"], "/scale", 202, {"workers_wanted": 3}, "scale 3"),
        (["scale", "3"], "/scale", 409, {"detail": "no"}, "scale 3"),
        (["stop"], "/stop", 202, {"state": "stopping"}, "stop"),
        (["stop"], "/stop", 500, {"detail": "no"}, "stop"),
    ],
)
def test_every_verdict_names_the_server(server, capsys, words, path, status, answer, again):
    """A server that was found without an address may be another one than was meant."""
    server.answers[path] = (status, answer)
    main(words)
    shown = capsys.readouterr()
    name = "main:app, pid 4242, /run/x.sock"
    if status < 300:
        assert f"\n  server: {name}\n" in shown.out
    else:
        assert f" ({name})\n" in shown.err
    assert (server.words, server.acts) == (again, True)


def test_status_reads_and_names_the_server(server, capsys):
    server.answers["/status"] = (200, status_snapshot(pid=4242, directory="/srv/shop"))
    main(["status", "--json"])
    assert (server.words, server.acts) == ("status --json", False)
    capsys.readouterr()
    main(["status"])
    shown = capsys.readouterr().out
    assert "  app         main:app in /srv/shop\n" in shown
    assert "  socket      /run/x.sock\n" in shown
    assert "  process     4242, up for" in shown


def test_what_a_server_tells_cannot_steer_the_terminal(server, capsys):
    """Root looks at the server of another user."""
    server.answers["/status"] = (200, status_snapshot(message="fine\x1b]0;title\x07"))
    main(["status"])
    assert "\x1b" not in capsys.readouterr().out


def test_a_refusal_without_details_still_says_something(server, capsys):
    server.answers["/reload"] = (503, "busy")
    assert main(["reload"]) == 1
    assert "status 503" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "status"),
    [("serving", 0), ("reloading", 0), ("degraded", 1), ("starting", 1), ("stopping", 1)],
)
def test_status_is_a_success_at_full_strength_only(server, capsys, state, status):
    server.answers["/status"] = (200, status_snapshot(state, last_reload=FAILED))
    assert main(["status"]) == status
    shown = capsys.readouterr().out
    assert f"{state}: serving generation 2" in shown
    assert "2 of 2 ready, 1 draining" in shown
    assert "0     2    ready  -    3.0 s  100 ms ago  1" in shown
    assert "Last reload\nReload 4: failed" in shown


def test_status_as_json(server, capsys):
    server.answers["/status"] = (200, status_snapshot())
    assert main(["status", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["workers_old"] == 1


CERTIFICATE = msgspec.to_builtins(
    CertificateSnapshot(
        certfile="a.pem", subject="CN=a", names=("a.example", "b.example"), not_before=0.0,
        not_after=1_800_000_000.0, loaded_at=1_700_000_000.0,
    )
)  # fmt: skip


def test_reload_certificates(server, capsys):
    server.answers["/tls/reload"] = (200, {"certificates": [CERTIFICATE]})
    assert main(["reload-certificates"]) == 0
    shown = capsys.readouterr().out
    assert "a.pem        a.example, b.example  2027-01-15 08:00 UTC  2023-11-14 22:13 UTC" in shown
    server.answers["/tls/reload"] = (502, {"detail": "private key a.key: it is encrypted."})
    assert main(["reload-certificates"]) == 1
    assert "it is encrypted" in capsys.readouterr().err
    server.answers["/tls/reload"] = (200, {"certificates": []})
    assert main(["reload-certificates"]) == 0
    assert "factory was called" in capsys.readouterr().out


def test_status_shows_certificates_and_why_those_on_disk_are_not_used(server, capsys):
    status = status_snapshot(
        certificates=(CERTIFICATE,), certificates_error="private key a.key: no such file"
    )
    server.answers["/status"] = (200, status)
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "a.example, b.example  2027-01-15" in shown
    assert "the certificates on disk cannot be used: private key a.key: no such file" in shown


def test_scale(server, capsys):
    server.answers["/scale"] = (202, {"workers_wanted": 3})
    assert main(["scale", "3"]) == 0
    assert server.asked[0][:2] == ("POST", "/scale?workers=3")
    server.answers["/scale"] = (409, {"detail": "The server stops."})
    assert main(["scale", "3"]) == 1
    assert "The server stops." in capsys.readouterr().err


def test_stop_waits_until_the_process_is_gone(server, capsys):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        server.answers["/status"] = (200, status_snapshot(pid=process.pid))
        server.answers["/stop"] = (202, {"state": "stopping"})
        assert main(["stop", "--wait", "--timeout", "50ms"]) == 1
        assert "still stops" in capsys.readouterr().err
        server.on_request = lambda path: path == "/stop" and process.stdin.close()
        assert main(["stop", "--wait"]) == 0
    assert "has stopped" in capsys.readouterr().out
    assert main(["stop"]) == 0


def test_a_server_that_cannot_be_reached_ends_with_3(server, capsys):
    server.answers["/status"] = ControlError("nobody there")
    assert main(["status"]) == 3
    assert capsys.readouterr().err == "asgireload: error: nobody there\n"


@pytest.mark.parametrize(
    ("words", "found_by"),
    [
        ([], (None, None, None)),
        (["--admin-socket", "/x"], ("/x", None, None)),
        (["--pid", "7"], (None, 7, None)),
        (["-p", "x.pid"], (None, None, "x.pid")),
    ],
)
def test_ways_to_name_the_server(server, words, found_by):
    server.answers["/status"] = (200, status_snapshot())
    main(["status", *words])
    assert server.found_by == found_by


def test_the_variable_of_the_server_finds_it_too(server, monkeypatch):
    server.answers["/status"] = (200, status_snapshot())
    monkeypatch.setenv("ASGIRELOAD_ADMIN_SOCKET", "/run/x.sock")
    main(["status"])
    assert server.found_by == ("/run/x.sock", None, None)
    main(["status", "--pid", "7"])
    assert server.found_by == (None, 7, None)
