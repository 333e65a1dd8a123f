"""Listening sockets: opened right, refused clearly, never taking a waiting client with them."""

import os
import socket
import stat

import pytest

from asgireload.config import Config
from asgireload.errors import ListenError
from asgireload.net.listeners import open_listeners


def port_of(listeners, slot=0):
    with socket.socket(fileno=os.dup(listeners.descriptors_for(slot)[0])) as sock:
        return sock.getsockname()[1]


def accept_all(descriptor):
    """Accept and close what waits; return how many there were."""
    count = 0
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        while True:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                return count
            connection.close()
            count += 1


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_connections_of_a_listener_have_no_delay_and_say_tcp(accept):
    """A listening socket made with protocol 0 costs every kept connection 40 ms an answer."""
    listeners = open_listeners(Config(port=0, accept=accept))
    with socket.socket(fileno=os.dup(listeners.descriptors_for(0)[0])) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            connection.close()
    listeners.close()


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_a_port_in_use_is_refused_even_by_our_own_kind(accept):
    """SO_REUSEPORT must not let a second server share the port by accident."""
    first = open_listeners(Config(port=0, accept=accept))
    with pytest.raises(ListenError, match="another process listens there"):
        open_listeners(Config(port=port_of(first), accept=accept))
    first.close()


def test_port_0_is_reported_and_the_same_for_every_slot():
    listeners = open_listeners(Config(port=0, accept="per-slot", workers=3))
    ports = {port_of(listeners, slot) for slot in range(3)}
    assert len(ports) == 1
    assert listeners.urls() == [f"http://127.0.0.1:{ports.pop()}"]
    listeners.close()


def test_several_addresses_at_once(tmp_path):
    path = tmp_path / "s"
    listeners = open_listeners(Config(bind=("127.0.0.1:0", f"unix:{path}")))
    assert len(listeners.descriptors_for(0)) == 2
    assert listeners.urls()[1] == f"unix:{path}"
    listeners.close()


def test_an_address_that_fails_leaves_none_open(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(ListenError):
        open_listeners(Config(bind=(f"unix:{path}", "unix:/nowhere/at/all")))
    assert not path.exists()


def test_a_foreign_host_is_refused():
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        open_listeners(Config(host="192.0.2.1", port=0))


def test_wildcard_ipv6_answers_ipv4_too():
    listeners = open_listeners(Config(host="::", port=0))
    with socket.create_connection(("127.0.0.1", port_of(listeners)), 2):
        pass
    listeners.close()


def test_unix_socket_mode_and_removal(tmp_path):
    path = tmp_path / "s"
    listeners = open_listeners(Config(uds=str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    listeners.close()
    assert not path.exists()
    listeners.close()


def test_unix_socket_of_a_successor_is_left_alone(tmp_path):
    """The path must not be removed by the old server after a new one has bound it."""
    path = tmp_path / "s"
    old = open_listeners(Config(uds=str(path)))
    path.unlink()
    new = open_listeners(Config(uds=str(path)))
    old.close()
    assert path.exists()
    new.close()


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listeners = open_listeners(Config(uds=str(path)))
    with pytest.raises(ListenError, match="another process"):
        open_listeners(Config(uds=str(path)))
    listeners.close()
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket"):
        open_listeners(Config(uds=str(path)))
    assert path.read_text() == "precious"


def test_inherited_descriptors():
    sock = socket.create_server(("127.0.0.1", 0))
    listeners = open_listeners(Config(fd=os.dup(sock.fileno())))
    assert listeners.urls() == [f"http://127.0.0.1:{sock.getsockname()[1]}"]
    assert not os.get_inheritable(listeners.descriptors_for(0)[0])
    listeners.close()
    sock.close()
    read, write = os.pipe()
    with pytest.raises(ListenError, match="not a socket"):
        open_listeners(Config(fd=read))
    os.close(read)
    os.close(write)


def test_removing_a_slot_loses_no_connection():
    """New connections are steered away first, the queue is emptied, then the socket is closed."""
    listeners = open_listeners(Config(port=0, accept="per-slot", workers=3))
    port = port_of(listeners)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    listeners.steer_away(2)
    waiting = accept_all(listeners.descriptors_for(2)[0])
    assert waiting > 0
    clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    assert accept_all(listeners.descriptors_for(2)[0]) == 0
    listeners.close_slot(2)
    clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    rest = [accept_all(listeners.descriptors_for(slot)[0]) for slot in range(2)]
    assert waiting + sum(rest) == 180
    assert min(rest) > 10
    listeners.open_slot(2)
    clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    assert accept_all(listeners.descriptors_for(2)[0]) > 0
    for client in clients:
        client.close()
    listeners.close()
