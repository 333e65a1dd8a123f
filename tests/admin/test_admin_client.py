"""Finding a running server and talking to it, against small real servers on Unix sockets."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from admin_fakes import close_unix

from asgireload.admin import client as client_module
from asgireload.admin.client import AdminClient, find_server
from asgireload.admin.sockets import make_runtime_directory, open_admin_unix
from asgireload.errors import ControlError

JSON = "application/json"


@contextmanager
def serve(path: str, answer: bytes) -> Iterator[list[bytes]]:
    """Give every connection the same bytes; yield the request heads that came in."""
    sock = open_admin_unix(path)
    sock.setblocking(True)
    heads: list[bytes] = []

    def run() -> None:
        while True:
            connection, _ = sock.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                    head += chunk
                if head == b"END\r\n\r\n":
                    return
                if head:
                    heads.append(head)
                    connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heads
    finally:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(path)
            last.sendall(b"END\r\n\r\n")
            thread.join()
        close_unix(sock)


def http(value: object, status: int = 200, content_type: str = JSON) -> bytes:
    body = json.dumps(value).encode() if content_type.endswith("json") else str(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only runtime directory there is: servers that really run on this machine are left out."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = make_runtime_directory()
    monkeypatch.setattr(client_module, "runtime_directories", lambda: (path,))
    return Path(path)


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

    def test_a_server_that_is_gone_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ControlError, match="no admin socket at"):
            AdminClient(str(tmp_path / "a.sock")).request("GET", "/status")


class TestFinding:
    def test_the_only_server_is_meant(self, directory: Path) -> None:
        sock = open_admin_unix(str(directory / "123.sock"))
        assert find_server().path == str(directory / "123.sock")
        close_unix(sock)

    def test_none_is_told(self, directory: Path) -> None:
        with pytest.raises(ControlError, match=f"no running server found in {directory}"):
            find_server()

    def test_stale_files_are_ignored_and_removed(self, directory: Path) -> None:
        stale = directory / "99.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(stale))
        running = open_admin_unix(str(directory / "123.sock"))
        assert find_server().path == str(directory / "123.sock")
        assert not stale.exists()
        close_unix(running)

    def test_several_are_listed_with_what_they_serve(self, directory: Path) -> None:
        status = {"app": "shop.main:app", "state": "serving"}
        with ExitStack() as stack:
            stack.enter_context(serve(str(directory / "11.sock"), http(status)))
            stack.enter_context(serve(str(directory / "12.sock"), b""))
            stack.enter_context(serve(str(directory / "13.sock"), http({}, 500)))
            with pytest.raises(ControlError) as caught:
                find_server()
            assert find_server(pid=12).path == str(directory / "12.sock")
        lines = str(caught.value).splitlines()
        assert lines[1:] == [
            "  --pid 11  shop.main:app, serving",
            "  --pid 12  (does not answer)",
            "  --pid 13  (answers with status 500)",
        ]

    def test_a_pid_file_names_the_server(self, directory: Path, tmp_path: Path) -> None:
        sock = open_admin_unix(str(directory / "123.sock"))
        pid_file = tmp_path / "pid"
        pid_file.write_text("123\n")
        assert find_server(pid_file=str(pid_file)).path == str(directory / "123.sock")
        close_unix(sock)
        with pytest.raises(ControlError, match="no admin socket of process 123"):
            find_server(pid_file=str(pid_file))
        pid_file.write_text("no number")
        with pytest.raises(ControlError, match="does not hold a process id"):
            find_server(pid_file=str(pid_file))
        with pytest.raises(ControlError, match="No such file"):
            find_server(pid_file=str(tmp_path / "none"))

    def test_a_socket_path_is_taken_as_it_is(self, directory: Path, tmp_path: Path) -> None:
        path = str(tmp_path / "mine.sock")
        with pytest.raises(ControlError, match="no admin socket at"):
            find_server(socket=path)
        sock = open_admin_unix(path)
        assert find_server(socket=path).path == path
        sock.close()
        with pytest.raises(ControlError, match="nobody listens"):
            find_server(socket=path)
        with pytest.raises(ControlError, match="too long"):
            find_server(socket="/tmp/" + "x" * 200)

    def test_a_directory_that_others_can_write_is_not_trusted(self, directory: Path) -> None:
        sock = open_admin_unix(str(directory / "123.sock"))
        os.chmod(directory, 0o777)
        with pytest.raises(ControlError, match="no running server"):
            find_server()
        os.chmod(directory, 0o700)
        close_unix(sock)
