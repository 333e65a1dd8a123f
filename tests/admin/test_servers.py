"""Which server a command means, decided over plain values and found by real sockets of this process."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from asgireload.admin import servers as servers_module
from asgireload.admin.client import AdminClient
from asgireload.admin.servers import Address, Found, FoundServer, choose, find_server, why_stale
from asgireload.admin.sockets import make_runtime_directory, open_admin_unix
from asgireload.errors import ControlError
from asgireload.net.unix_table import parse_unix_table
from tests.admin.admin_fakes import close_unix
from tests.admin.admin_listeners import http, serve

PID = os.getpid()
STATUS = {"app": "shop.main:app", "pid": 1, "state": "serving", "workers_ready": 2}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only runtime directory there is: servers that really run on this machine are left out."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = make_runtime_directory()
    monkeypatch.setattr(servers_module, "runtime_directories", lambda: (path,))
    monkeypatch.setattr(servers_module, "_pids_of_others", lambda found: [])
    return Path(path)


def found(pid: int, directory: Path | str = "", **status: object) -> Found:
    path = f"/run/{pid}.sock"
    told = {**STATUS, "directory": str(directory), **status}
    return Found(path, FoundServer(AdminClient(path), pid, told))


class TestChoosing:
    """A command without an address must not act on a server that somebody else may have meant."""

    def test_the_server_that_was_started_here_is_meant(self, tmp_path: Path) -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        both = [found(1, there), found(2, here)]
        assert choose(both, str(here), "reload", acts=True).pid == 2
        assert choose(both, str(here), "status", acts=False).pid == 2

    def test_a_link_to_the_directory_is_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "41").mkdir()
        (tmp_path / "current").symlink_to("41")
        chosen = choose([found(1, tmp_path / "current")], str(tmp_path / "41"), "stop", acts=True)
        assert chosen.pid == 1

    def test_the_directory_of_the_application_names_the_server_too(self, tmp_path: Path) -> None:
        entry = found(1, "/", app_dir=str(tmp_path))
        assert choose([entry], str(tmp_path), "reload", acts=True).pid == 1

    @pytest.mark.parametrize("told", ["/", "", "/gone"])
    def test_the_only_server_is_not_acted_upon_from_elsewhere(
        self, tmp_path: Path, told: str
    ) -> None:
        """A server of an older version does not tell where it was started."""
        entry = found(7, told)
        with pytest.raises(ControlError) as caught:
            choose([entry], str(tmp_path), "reload --wait", acts=True)
        first, line = str(caught.value).splitlines()
        assert f"was not started in {tmp_path}; say which one is meant" in first
        assert line.startswith("  asgireload reload --wait --pid 7    shop.main:app")
        assert choose([entry], str(tmp_path), "status", acts=False).pid == 7

    def test_nothing_is_done_in_a_directory_that_is_gone(self) -> None:
        with pytest.raises(ControlError, match="a directory that is gone"):
            choose([found(7, "/")], None, "stop", acts=True)

    def test_two_servers_of_one_directory_are_listed(self, tmp_path: Path) -> None:
        both = [found(1, tmp_path), found(2, tmp_path, app="other:app")]
        for acts in (True, False):
            with pytest.raises(ControlError) as caught:
                choose(both, str(tmp_path), "scale 3", acts=acts)
            assert str(caught.value).splitlines() == [
                f"2 servers were started in {tmp_path}; say which one is meant:",
                f"  asgireload scale 3 --pid 1    shop.main:app in {tmp_path}, serving",
                f"  asgireload scale 3 --pid 2    other:app in {tmp_path}, serving",
            ]

    def test_one_that_does_not_answer_is_not_chosen_but_named(self, tmp_path: Path) -> None:
        silent = Found("/run/9.sock", None, "it did not answer")
        with pytest.raises(ControlError, match=r"--socket /run/9\.sock    \(it did not answer\)"):
            choose([silent], str(tmp_path), "stop", acts=True)
        with pytest.raises(ControlError, match=r"^it did not answer$"):
            choose([silent], str(tmp_path), "status", acts=False)

    def test_servers_of_other_users_are_pointed_at(self) -> None:
        with pytest.raises(ControlError) as caught:
            choose([], "/", "status", acts=False, others=[4242])
        assert "no running server of this user" in str(caught.value)
        assert "asgireload status --pid 4242    a server of another user" in str(caught.value)

    def test_what_a_server_tells_cannot_steer_the_terminal(self) -> None:
        with pytest.raises(ControlError) as caught:
            choose([found(1, app="\x1b[2J")], "/tmp", "stop", acts=True)
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "is_its_own", "written_at", "stale"),
    [
        ("/run/a.pid", True, 0.0, ""),
        ("/run/b.pid", False, 2000.0, "whose pid file is /run/b.pid"),
        # Written by systemd, start-stop-daemon or a shell after the start of the process.
        ("", False, 1000.5, ""),
        ("", False, 999.0, ""),
        ("", False, 400.0, "which was started 600 s after the file was written"),
    ],
)
def test_a_pid_file_of_a_dead_server_does_not_name_the_one_that_has_its_pid_now(
    told: str, is_its_own: bool, written_at: float, stale: str
) -> None:
    reason = why_stale(told, written_at=written_at, began_at=1000.0, is_its_own=is_its_own)
    assert reason == stale


def test_the_kernels_table_of_sockets_is_read() -> None:
    table = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 22617 /run/shop/admin with space.sock
0000000000000000: 00000003 00000000 00000000 0001 03 22618 /run/shop/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 22619 @abstract
0000000000000000: 00000002 00000000 00010000 0005 01 22620
"""
    assert parse_unix_table(table) == {22617: "/run/shop/admin with space.sock"}


class TestFindingByPid:
    def test_the_socket_is_found_wherever_it_is(self, directory: Path, tmp_path: Path) -> None:
        path = str(tmp_path / "admin.sock")
        with serve(path, http(STATUS)):
            server = find_server(Address(pid=PID), "stop", acts=True)
        assert (server.path, server.pid, server.client.pid) == (path, PID, PID)
        assert server.name == f"shop.main:app, pid {PID}, {path}"

    def test_the_socket_of_the_application_is_not_asked(
        self, directory: Path, tmp_path: Path
    ) -> None:
        """Workers have it, too. Its name comes first here, and its mode is that of an admin socket."""
        application = open_admin_unix(str(tmp_path / "a.sock"))
        worker = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            pass_fds=[application.fileno()],
        )
        try:
            with serve(str(tmp_path / "b.sock"), http(STATUS)):
                server = find_server(Address(pid=PID), "stop", acts=True)
                assert server.path == str(tmp_path / "b.sock")
            with pytest.raises(BlockingIOError):
                application.accept()
        finally:
            worker.communicate()
            close_unix(application)

    def test_a_path_that_another_process_has_taken_is_not_talked_to(
        self, directory: Path, tmp_path: Path
    ) -> None:
        """The kernel's table names the path that was bound; who listens there now may be anybody."""
        path = tmp_path / "admin.sock"
        ours = open_admin_unix(str(path))
        path.unlink()
        code = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True)\n"
            "c, _ = s.accept(); sys.stdout.buffer.write(c.recv(100))\n"
        )
        stranger = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        try:
            assert stranger.stdout is not None
            stranger.stdout.readline()
            with pytest.raises(ControlError, match=f"process {PID} has no admin socket"):
                find_server(Address(pid=PID), "stop", acts=True)
            assert stranger.communicate(timeout=20)[0] == b""
        finally:
            stranger.kill()
            stranger.wait()
            ours.close()

    def test_one_that_does_not_answer_is_asked_once(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its socket has a second path under /proc/PID/root, where nobody else answers."""
        monkeypatch.setattr(servers_module._ask, "__defaults__", (None, 0.1))
        with open_admin_unix(str(tmp_path / "a.sock")) as sock:
            with pytest.raises(ControlError, match="did not answer GET /status in time"):
                find_server(Address(pid=PID), "status", acts=False)
            sock.setblocking(False)
            requests = []
            with suppress(BlockingIOError):
                while True:
                    connection, _ = sock.accept()
                    with connection:
                        requests.append(connection.recv(4))
        assert requests.count(b"GET ") == 1

    def test_a_worker_is_told_from_its_supervisor(self, directory: Path, tmp_path: Path) -> None:
        worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            with (
                serve(str(tmp_path / "admin.sock"), http(STATUS)),
                pytest.raises(ControlError, match=rf"give --pid {PID}$"),
            ):
                find_server(Address(pid=worker.pid), "stop", acts=True)
        finally:
            worker.communicate()

    def test_a_process_that_is_no_server_is_told(self, directory: Path) -> None:
        with pytest.raises(ControlError, match=r"process 1\b"):
            find_server(Address(pid=1), "stop", acts=True)

    def test_a_process_that_has_ended_is_told(self, directory: Path, tmp_path: Path) -> None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        with pytest.raises(ControlError, match=f"there is no process {ended.pid}"):
            find_server(Address(pid=ended.pid), "stop", acts=True)
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{ended.pid}\n")
        with pytest.raises(ControlError, match=f"names process {ended.pid}, which has ended"):
            find_server(Address(pid_file=str(pid_file)), "stop", acts=True)


class TestFindingByPidFile:
    def test_a_file_that_the_server_writes_names_it(self, directory: Path, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{PID}\n")
        os.utime(pid_file, (0, 0))  # restored from a backup, or the clock was set
        with serve(str(tmp_path / "a.sock"), http(STATUS | {"pid_file": str(pid_file)})):
            server = find_server(Address(pid_file=str(pid_file)), "stop", acts=True)
        assert server.pid == PID

    def test_a_file_that_something_else_writes_names_it(
        self, directory: Path, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{PID}\n")
        with serve(str(tmp_path / "a.sock"), http(STATUS)):
            assert find_server(Address(pid_file=str(pid_file)), "stop", acts=True).pid == PID

    def test_a_pipe_in_place_of_a_file_is_told(self, directory: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pid")
        with pytest.raises(ControlError, match="does not contain a pid"):
            find_server(Address(pid_file=str(tmp_path / "pid")), "stop", acts=True)

    def test_a_file_that_was_left_behind_names_nobody(
        self, directory: Path, tmp_path: Path
    ) -> None:
        """The pid of a dead server was given to another one."""
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{PID}\n")
        other = str(tmp_path / "other.pid")
        with (
            serve(str(tmp_path / "a.sock"), http(STATUS | {"pid_file": other})) as heads,
            pytest.raises(ControlError, match="left behind by another server") as caught,
        ):
            find_server(Address(pid_file=str(pid_file)), "stop", acts=True)
        assert f"whose pid file is {other}. Nothing was sent; give --pid {PID}" in str(caught.value)
        assert [head.split()[:2] for head in heads] == [[b"GET", b"/status"]]

    @pytest.mark.parametrize("content", ["no number", "", "0", "-5"])
    def test_a_file_without_a_pid_is_told(
        self, directory: Path, tmp_path: Path, content: str
    ) -> None:
        pid_file = tmp_path / "pid"
        pid_file.write_text(content)
        with pytest.raises(ControlError, match="does not contain a pid"):
            find_server(Address(pid_file=str(pid_file)), "stop", acts=True)
        with pytest.raises(ControlError, match="No such file"):
            find_server(Address(pid_file=str(tmp_path / "none")), "stop", acts=True)


class TestFindingBySocket:
    def test_a_path_is_taken_as_it_is(self, directory: Path, tmp_path: Path) -> None:
        path = str(tmp_path / "mine.sock")
        with pytest.raises(ControlError, match="no admin socket at"):
            find_server(Address(socket=path), "stop", acts=True)
        with serve(path, http(STATUS)):
            server = find_server(Address(socket=path), "stop", acts=True)
        assert (server.path, server.client.pid) == (path, PID)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
            with pytest.raises(ControlError, match="nobody listens"):
                find_server(Address(socket=path), "stop", acts=True)

    @pytest.mark.parametrize(
        "answer", [http("Not Found", 404, "text/plain"), http({"state": "fine"}), http([])]
    )
    def test_the_socket_of_an_application_is_not_given_a_command(
        self, directory: Path, tmp_path: Path, answer: bytes
    ) -> None:
        """`--socket` with the path of `--uds`: a POST would go to the application."""
        path = str(tmp_path / "http.sock")
        with (
            serve(path, answer) as heads,
            pytest.raises(ControlError, match="not the admin socket of an asgireload server"),
        ):
            find_server(Address(socket=path), "stop", acts=True)
        assert [head.split()[:2] for head in heads] == [[b"GET", b"/status"]]


class TestFindingWithoutAnAddress:
    def test_none_is_told(self, directory: Path) -> None:
        with pytest.raises(
            ControlError, match=f"no running server of this user found in {directory}"
        ):
            find_server(Address(), "status", acts=False)

    def test_the_server_of_this_directory_is_meant(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ours, others = STATUS | {"directory": str(tmp_path)}, STATUS | {"directory": "/"}
        with (
            serve(str(directory / "11.sock"), http(others)) as heads,
            serve(str(directory / "12.sock"), http(ours)),
            serve(str(directory / "13.sock"), http({}, 500)),
        ):
            server = find_server(Address(), "reload", acts=True)
            assert server.path == str(directory / "12.sock")
            monkeypatch.chdir(directory)
            with pytest.raises(ControlError, match="none of the 3 servers"):
                find_server(Address(), "reload", acts=True)
        assert {head.split()[0] for head in heads} == {b"GET"}

    def test_stale_files_are_ignored_and_removed(self, directory: Path) -> None:
        stale = directory / "99.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(stale))
        with serve(str(directory / "123.sock"), http(STATUS)):
            server = find_server(Address(), "status", acts=False)
        assert server.path == str(directory / "123.sock")
        assert not stale.exists()

    def test_a_directory_that_others_can_write_is_not_trusted(self, directory: Path) -> None:
        with serve(str(directory / "123.sock"), http(STATUS)):
            os.chmod(directory, 0o777)
            with pytest.raises(ControlError, match="no running server"):
                find_server(Address(), "status", acts=False)
            os.chmod(directory, 0o700)
