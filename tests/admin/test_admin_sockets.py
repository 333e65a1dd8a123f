"""Where admin sockets live, who may use them, and what becomes of their files."""

import os
import socket
import stat
from pathlib import Path

import pytest

from asgireload.admin import sockets
from asgireload.admin.sockets import (
    check_directory,
    make_runtime_directory,
    open_admin_tcp,
    open_admin_unix,
    runtime_directories,
)
from asgireload.errors import ConfigError, ListenError
from asgireload.net import unix
from asgireload.net.unix import SocketFile, remove_stale_socket
from tests.admin.admin_fakes import close_unix


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def make_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


class TestDirectory:
    def test_the_preferred_place_is_the_users_runtime_directory(self, base: Path) -> None:
        places = runtime_directories()
        assert places[0] == f"{base}/asgireload"
        assert places[-1] == f"/tmp/asgireload-{os.geteuid()}"

    def test_a_runtime_directory_of_somebody_else_is_passed_over(self, base: Path) -> None:
        environ = {"XDG_RUNTIME_DIR": str(base)}
        uid = os.geteuid() + 12345
        assert runtime_directories(environ, uid) == (f"/tmp/asgireload-{uid}",)
        for value in ("", "relative", f"{base}/missing"):
            assert f"{value}/asgireload" not in runtime_directories({"XDG_RUNTIME_DIR": value})

    def test_it_is_made_for_its_user_only(self, base: Path) -> None:
        path = make_runtime_directory()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert make_runtime_directory() == path

    def test_a_directory_that_others_can_use_is_refused(self, base: Path) -> None:
        path = base / "asgireload"
        path.mkdir()
        path.chmod(0o750)
        with pytest.raises(ConfigError, match=f"chmod 700 {path}"):
            open_admin_unix()

    def test_a_symbolic_link_is_refused(self, base: Path) -> None:
        (base / "real").mkdir(0o700)
        (base / "asgireload").symlink_to(base / "real")
        with pytest.raises(ConfigError, match="symbolic link"):
            make_runtime_directory()

    def test_a_directory_of_somebody_else_is_refused(
        self, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_runtime_directory()
        uid = os.geteuid()
        monkeypatch.setattr(sockets.os, "geteuid", lambda: uid + 1)
        with pytest.raises(ConfigError, match=f"belongs to user {uid}"):
            check_directory(path)

    def test_a_missing_directory_is_told(self, base: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            check_directory(str(base / "none"))


class TestUnixSocket:
    def test_auto_is_named_after_the_process(self, base: Path) -> None:
        sock = open_admin_unix()
        path = Path(sock.getsockname())
        assert path == base / "asgireload" / f"{os.getpid()}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not sock.getblocking()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        close_unix(sock)
        assert not path.exists()

    def test_the_mode_does_not_depend_on_the_umask(self, base: Path) -> None:
        previous = os.umask(0)
        try:
            sock = open_admin_unix(str(base / "a.sock"))
        finally:
            os.umask(previous)
        assert stat.S_IMODE((base / "a.sock").stat().st_mode) == 0o600
        close_unix(sock)

    def test_mode_and_group_can_be_given(self, base: Path) -> None:
        """For operators who are not the server's user."""
        sock = open_admin_unix(str(base / "a.sock"), mode=0o660, owner=f":{os.getgid()}")
        status = (base / "a.sock").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())
        close_unix(sock)

    def test_mode_and_group_are_not_for_the_private_place(self, base: Path) -> None:
        sock = open_admin_unix(mode=0o666, owner="nobody")
        status = Path(sock.getsockname()).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
        close_unix(sock)

    def test_a_stale_file_is_replaced(self, base: Path) -> None:
        make_stale(base / "a.sock")
        sock = open_admin_unix(str(base / "a.sock"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(base / "a.sock"))
        close_unix(sock)

    def test_a_listening_socket_is_left_alone(self, base: Path) -> None:
        first = open_admin_unix(str(base / "a.sock"))
        with pytest.raises(ListenError, match="another server listens there"):
            open_admin_unix(str(base / "a.sock"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(base / "a.sock"))
        close_unix(first)

    def test_a_listener_with_a_full_queue_is_not_stale(self, base: Path) -> None:
        path = str(base / "a.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            with socket.socket(socket.AF_UNIX) as waiting:
                waiting.connect(path)
                assert not remove_stale_socket(path)
        assert remove_stale_socket(path)

    def test_a_file_that_is_no_socket_is_left_alone(self, base: Path) -> None:
        (base / "a.sock").write_text("mine")
        with pytest.raises(ListenError, match="no socket"):
            open_admin_unix(str(base / "a.sock"))
        assert (base / "a.sock").read_text() == "mine"

    def test_removing_leaves_the_socket_of_a_successor(self, base: Path) -> None:
        """The old server must not remove the path that the new one has bound."""
        path = base / "a.sock"
        first = open_admin_unix(str(path))
        first_file = SocketFile.of(first)
        path.rename(base / "b.sock")
        second = open_admin_unix(str(path))
        first_file.remove()
        assert path.exists()
        close_unix(second)
        assert not path.exists()
        first_file.remove()
        first.close()

    def test_a_path_that_does_not_fit_is_told(self, base: Path) -> None:
        with pytest.raises(ConfigError, match="allows 107"):
            open_admin_unix(str(base / ("x" * 120)))

    def test_a_path_in_no_directory_is_told(self, base: Path) -> None:
        with pytest.raises(ListenError, match="No such file"):
            open_admin_unix(str(base / "none" / "a.sock"))

    def test_a_directory_that_somebody_keeps_locked_is_told(
        self, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unix, "LOCK_TIMEOUT", 0.0)
        descriptor = os.open(base, os.O_RDONLY)
        try:
            unix.fcntl.flock(descriptor, unix.fcntl.LOCK_EX)
            with pytest.raises(ListenError, match="locked"):
                open_admin_unix(str(base / "a.sock"))
            make_stale(base / "a.sock")
            assert not remove_stale_socket(str(base / "a.sock"))
        finally:
            os.close(descriptor)


class TestTcpSocket:
    def test_it_listens_where_it_was_told(self) -> None:
        with open_admin_tcp("127.0.0.1", 0) as sock:
            host, port = sock.getsockname()
            assert host == "127.0.0.1"
            # asyncio turns TCP_NODELAY on only where the protocol is named.
            assert sock.proto == socket.IPPROTO_TCP
            with socket.create_connection((host, port), timeout=5):
                pass
            who = f"address already in use \\(process {os.getpid()} .* listens there"
            with pytest.raises(ListenError, match=f"127.0.0.1:{port} cannot be bound: {who}"):
                open_admin_tcp("127.0.0.1", port)

    def test_a_host_that_is_none_is_told(self) -> None:
        with pytest.raises(ListenError, match="admin_host"):
            open_admin_tcp("not a host", 0)
