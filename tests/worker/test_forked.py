"""What a process that was forked lets go of; its hook is played here without a fork."""

import contextlib
import os
import resource
import socket

from asgireload.worker.forked import local_name, replace_descriptors


def is_null(descriptor):
    return os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))


def test_numbers_stay_taken():
    """An object that believes to own one would close another file otherwise."""
    ends = [end for _ in range(3) for end in os.pipe()]
    replace_descriptors(ends[1:])
    assert all(map(is_null, ends[1:]))
    assert not any(map(os.get_inheritable, ends[1:]))
    assert not is_null(ends[0])
    for end in ends:
        os.close(end)


def test_one_is_enough_where_no_more_may_be_open():
    reader, writer = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    filler = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        with contextlib.suppress(OSError):
            while True:
                filler.append(os.dup(reader))
        replace_descriptors([reader, writer])
        assert is_null(reader)
        assert is_null(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in (*filler, reader, writer):
            os.close(number)


def test_an_accepted_connection_has_the_name_of_its_listener():
    with socket.create_server(("", 0)) as listening:
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as client:
            accepted, _ = listening.accept()
            with accepted:
                assert local_name(accepted) == local_name(listening)
                assert local_name(client) != local_name(listening)


def test_an_accepted_unix_connection_has_the_name_of_its_listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        client.connect(str(tmp_path / "s"))
        accepted, _ = listening.accept()
        with accepted:
            assert local_name(accepted) == local_name(listening)
            assert local_name(client) is None


def test_sockets_of_the_application_have_other_names():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", port))
            assert local_name(datagrams) is None
    one, other = socket.socketpair()
    with one, other:
        assert local_name(one) is None
