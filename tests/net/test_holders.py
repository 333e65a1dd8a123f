"""Naming the processes that hold a socket, with real ones."""

import os
import socket
import subprocess
import sys

from asgireload.net.holders import Holder, find_holders, find_listeners


def test_the_process_that_listens_on_a_port_is_named():
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as listening:
            found = find_listeners(listening.getsockname()[1])
            assert [holder.pid for holder in found] == [os.getpid()]
            assert "pytest" in found[0].command or "python" in found[0].command


def test_nobody_is_named_where_nobody_listens():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert find_listeners(bound.getsockname()[1]) == []


def test_only_processes_with_the_socket_are_found():
    with socket.socket() as held, socket.socket() as other:
        code = "import sys; print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code, "with\nnewline"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[held.fileno()],
        ) as child:
            child.stdout.readline()
            held_inode, other_inode = (os.fstat(sock.fileno()).st_ino for sock in (held, other))
            found = find_holders([held_inode], [child.pid])
            assert [holder.pid for holder in found] == [child.pid]
            assert str(found[0]).startswith(f"process {child.pid} (")
            assert "\n" not in str(found[0])
            assert find_holders([other_inode], [child.pid]) == []
            assert find_holders([], [child.pid]) == []
            child.stdin.close()


def test_a_process_that_is_gone_holds_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert find_holders([1], [child.pid]) == []


def test_a_holder_is_shown_with_its_command():
    assert str(Holder(7, "python helper.py")) == "process 7 (python helper.py)"
