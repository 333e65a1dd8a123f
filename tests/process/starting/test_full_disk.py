"""A file system without room, really made: a start that needs it is refused, a server that runs goes on."""

import contextlib
import errno
import os
import subprocess
import sys

import pytest

from asgireload.development.supervisor.import_cache import read_record, write_record
from asgireload.errors import StartupError
from asgireload.ipc.records import ImportRecord
from asgireload.supervisor.pidfile import write_pid_file
from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process


@pytest.fixture
def mount(tmp_path):
    """Mount a small file system: `mount("size=64k")` returns its directory."""
    mounted = []

    def mount_(options):
        place = tmp_path / f"small{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "asgireload-test", str(place)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"takes the right to mount: {done.stderr.strip()}")
        mounted.append(place)
        return place

    try:
        yield mount_
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place):
    """Leave not a byte, and return what takes the room."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


def start(directory, *options):
    write_version(directory, 1)
    return subprocess.run(
        [sys.executable, "-m", "asgireload", "app:app", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_pid_file_without_room_refuses_the_start_and_leaves_nothing(tmp_path, mount):
    full = mount("size=64k")
    fill(full)
    done = start(tmp_path, "--port", "0", "--pid-file", str(full / "pid"))
    assert done.returncode == 3
    assert f"--pid-file {full / 'pid'}: No space left on device" in done.stderr
    assert os.listdir(full) == ["filler"]


def test_a_pid_file_that_was_there_before_stays_whole(mount):
    full = mount("size=64k")
    (full / "pid").write_text("4242\n")
    fill(full)
    with pytest.raises(StartupError, match="No space left"):
        write_pid_file(str(full / "pid"))
    assert (full / "pid").read_text() == "4242\n"
    assert sorted(os.listdir(full)) == ["filler", "pid"]


def test_what_was_imported_is_kept_whole_or_not_at_all(mount):
    full = mount("size=64k")
    path = str(full / "record")
    write_record(path, ImportRecord(libraries=("before",)))
    fill(full)
    write_record(path, ImportRecord(libraries=tuple(f"module_{n}" for n in range(5000))))
    assert read_record(path) == ImportRecord(libraries=("before",))
    assert sorted(os.listdir(full)) == ["filler", "record"]


@pytest.mark.parametrize("option", ["--uds", "--admin-socket"])
def test_a_socket_without_room_refuses_the_start_and_names_it(tmp_path, mount, option):
    full = mount("nr_inodes=1")  # the directory's own
    path = full / "a.sock"
    address = [] if option == "--uds" else ["--port", "0"]
    done = start(tmp_path, *address, option, str(path))
    assert done.returncode == 3
    assert f"cannot listen on unix:{path}: No space left on device" in done.stderr


def test_a_server_whose_logs_find_no_room_serves_and_reloads(tmp_path, mount):
    full = mount("size=64k")
    logs = ["--access-log-file", str(full / "access"), "--error-log-file", str(full / "error")]
    write_version(tmp_path, 1)
    server = Server(tmp_path, *logs, workers=2)
    server.log_path = tmp_path / "stderr"
    server.launch()
    try:
        server.log_path = full / "error"
        wait_until(server.log_path.exists)
        server.wait_log("asgireload running on")
        server.port = int(server.log.split("running on http://127.0.0.1:")[1].split(" ")[0])
        filler = fill(full)
        assert server.version() == 1
        write_version(tmp_path, 2)
        server.reload()
        assert {server.version() for _ in range(10)} == {2}
        filler.unlink()
        write_version(tmp_path, 3)
        server.reload()
        assert "generation 3 serves" in server.log
        assert server.stop() == 0
    finally:
        server._destroy()
    assert os.strerror(errno.ENOSPC) in (tmp_path / "stderr").read_text()
