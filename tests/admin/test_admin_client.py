"""Talking to a running server, against small real servers on Unix sockets."""

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from asgireload.admin import client as client_module
from asgireload.admin.client import AdminClient, WrongPeerError
from asgireload.admin.sockets import open_admin_unix
from asgireload.errors import ControlError
from tests.admin.admin_fakes import close_unix
from tests.admin.admin_listeners import http, serve


class TestRequest:
    def test_the_answer_is_decoded(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        with serve(path, http({"state": "serving"})) as heads:
            assert AdminClient(path).request("GET", "/status") == (200, {"state": "serving"})
        assert heads[0].startswith(b"GET /status HTTP/1.1\r\nHost: localhost\r\n")
        assert b"User-Agent: asgireload/" in heads[0]

    def test_an_error_is_an_answer_too(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        problem = {"status": 502, "detail": "Reload 5 was not committed."}
        with serve(path, http(problem, 502, "application/problem+json")) as heads:
            assert AdminClient(path).request("POST", "/reload?wait=1", None) == (502, problem)
        assert b"Content-Length: 0\r\n" in heads[0]

    def test_text_is_returned_as_text(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        with serve(path, http("asgireload_up 1", 200, "text/plain; charset=utf-8")):
            assert AdminClient(path).request("GET", "/metrics") == (200, "asgireload_up 1")

    @pytest.mark.parametrize(
        "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"!\r\n"]
    )
    def test_an_answer_that_breaks_off_is_told(self, tmp_path: Path, answer: bytes) -> None:
        path = str(tmp_path / "a.sock")
        with serve(path, answer), pytest.raises(ControlError, match="ended the connection"):
            AdminClient(path).request("GET", "/status")

    def test_json_that_is_none_is_told(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{"
        with serve(path, answer), pytest.raises(ControlError, match="not valid JSON"):
            AdminClient(path).request("GET", "/status")

    def test_a_server_that_does_not_answer_is_told(self, tmp_path: Path) -> None:
        sock = open_admin_unix(str(tmp_path / "a.sock"))
        with pytest.raises(ControlError, match="did not answer GET /status in time"):
            AdminClient(str(tmp_path / "a.sock")).request("GET", "/status", timeout=0.01)
        close_unix(sock)

    def test_a_long_wait_with_a_limit_ends_when_the_server_answers_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`reload --wait --timeout 300` on a stopped supervisor would say nothing for five minutes."""
        monkeypatch.setattr(client_module, "SILENCE_INTERVAL", 0.1)
        monkeypatch.setattr(client_module, "ANSWER_TIMEOUT", 0.3)
        sock = open_admin_unix(str(tmp_path / "a.sock"))
        began = time.monotonic()
        with pytest.raises(ControlError, match="does not answer any more"):
            AdminClient(str(tmp_path / "a.sock")).request("POST", "/reload?wait=1", timeout=300)
        assert time.monotonic() - began < 60
        close_unix(sock)

    def test_a_server_whose_queue_is_full_is_told(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.sock")
        with socket.socket(socket.AF_UNIX) as full, ExitStack() as opened:
            full.bind(path)
            full.listen(0)
            error = 0
            while not error:
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                error = client.connect_ex(path)
            with pytest.raises(ControlError, match="full queue of connections"):
                AdminClient(path).request("GET", "/status")

    def test_a_server_that_is_gone_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ControlError, match="no admin socket at"):
            AdminClient(str(tmp_path / "a.sock")).request("GET", "/status")

    def test_a_socket_path_that_is_too_long_is_told(self) -> None:
        with pytest.raises(ControlError, match="too long"):
            AdminClient("/tmp/" + "x" * 200).request("GET", "/status")

    def test_nothing_is_sent_to_another_process_than_the_one_that_is_meant(
        self, tmp_path: Path
    ) -> None:
        """Another process may have taken the path between two requests."""
        path = str(tmp_path / "a.sock")
        with serve(path, http({})) as heads:
            with pytest.raises(
                WrongPeerError, match=f"listens process {os.getpid()}, not 1: nothing"
            ):
                AdminClient(path, 1).request("POST", "/stop")
            assert AdminClient(path, os.getpid()).request("POST", "/stop") == (200, {})
        assert [head.split()[0] for head in heads] == [b"POST"]


def test_a_path_that_is_too_long_for_an_address_is_reached(tmp_path: Path) -> None:
    """As that of a server in a container, which begins with /proc/PID/root."""
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    number = os.open(directory, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as sock:
        listening.bind(f"/proc/self/fd/{number}/a.sock")
        os.close(number)
        listening.listen()
        client_module.connect(sock, str(directory / "a.sock"))
        listening.accept()[0].close()
