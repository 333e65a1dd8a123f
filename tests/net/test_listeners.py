"""Real sockets on loopback: what matters here is what the kernel does."""

import errno
import grp
import os
import socket
import subprocess
import sys

import pytest

from asgireload.config import Config
from asgireload.errors import ListenError
from asgireload.net.addresses import ListenerTraits
from asgireload.net.listeners import PerSlotListener, Steering, open_listeners


@pytest.fixture
def opened():
    """Open listeners that are closed at the end: `opened(host=…)`."""
    found = []

    def open_(**options):
        options.setdefault("defer_accept", False)  # clients here say nothing
        if not {"bind", "uds", "fd"} & set(options):
            options.setdefault("port", 0)
        listeners = open_listeners(Config(**options))
        found.append(listeners)
        return listeners

    yield open_
    for listeners in found:
        listeners.close()


def port_of(listeners, slot=0):
    return listeners.sockets_for(slot)[0].getsockname()[1]


def connect(port, count, host="127.0.0.1"):
    return [socket.create_connection((host, port)) for _ in range(count)]


def waiting(sock):
    """Accept and count what is queued on a listening socket."""
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def spread(listeners, slots, connections=60):
    clients = connect(port_of(listeners), connections)
    counts = [waiting(listeners.sockets_for(slot)[0]) for slot in slots]
    for client in clients:
        client.close()
    return counts


def test_a_shared_address_is_one_socket_for_all_slots(opened):
    listeners = opened(workers=3)
    assert len({listeners.descriptors_for(slot)[0] for slot in range(5)}) == 1
    listeners.open_slot(3)
    listeners.steer_away(range(1, 5))
    listeners.close_slot(3)
    assert sum(spread(listeners, [0], 5)) == 5


def test_port_zero_is_reported_as_what_the_system_chose(opened):
    listeners = opened()
    assert listeners.urls() == [f"http://127.0.0.1:{port_of(listeners)}"]
    assert port_of(listeners) != 0


def test_connections_get_tcp_nodelay_without_asking(opened):
    """A kept connection does not wait 40 ms for a delayed acknowledgement."""
    (sock,) = opened().sockets_for(0)
    assert sock.proto == socket.IPPROTO_TCP
    with socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_sockets_do_not_block_and_are_not_inherited(opened):
    for accept in ("shared", "per-slot"):
        for sock in opened(accept=accept).sockets_for(0):
            assert not sock.getblocking()
            assert not sock.get_inheritable()


@pytest.mark.parametrize("first", ["shared", "per-slot"])
@pytest.mark.parametrize("second", ["shared", "per-slot"])
def test_a_second_server_on_the_address_is_refused(opened, first, second):
    """SO_REUSEPORT would otherwise let the two share connections without a word."""
    port = port_of(opened(accept=first, workers=2))
    with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: address already in use"):
        opened(port=port, accept=second, workers=2)
    with pytest.raises(ListenError):
        opened(port=port, host="0.0.0.0", accept=second)


def test_in_shared_mode_nobody_can_join_with_so_reuseport(opened):
    port = port_of(opened())
    with socket.socket() as intruder:
        intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            intruder.bind(("127.0.0.1", port))


def test_the_port_is_free_again_although_connections_linger(opened):
    listeners = opened()
    port = port_of(listeners)
    (client,) = connect(port, 1)
    accepted, _ = listeners.sockets_for(0)[0].accept()
    accepted.close()  # the server's side is the one that stays in TIME_WAIT
    client.close()
    listeners.close()
    assert port_of(opened(port=port)) == port


def test_all_ipv6_addresses_answer_ipv4_too(opened):
    listeners = opened(host="::")
    for host in ("127.0.0.1", "::1"):
        connect(port_of(listeners), 1, host)[0].close()
    assert listeners.urls() == [f"http://[::]:{port_of(listeners)}"]


def test_all_ipv4_and_all_ipv6_can_be_named_side_by_side(opened):
    probe = opened()
    port = port_of(probe)
    probe.close()
    listeners = opened(bind=(f"[::]:{port}", f"0.0.0.0:{port}"))
    for sock in listeners.sockets_for(0):
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        connect(port, 1, host)[0].close()
        assert waiting(sock) == 1


def test_every_address_of_a_name_is_listened_on(opened, monkeypatch):
    entries = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    listeners = opened(host="localhost")
    port = port_of(listeners)
    assert listeners.urls() == [f"http://[::1]:{port}", f"http://127.0.0.1:{port}"]


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("192.0.2.1", "no network interface"),
        ("name.invalid", "check the name"),
        ("a" * 64 + ".org", "check the name"),
    ],
)
def test_an_address_that_is_not_here_is_refused(host, error):
    with pytest.raises(ListenError, match=error):
        open_listeners(Config(host=host, port=0))


def test_nothing_stays_open_when_one_of_several_addresses_fails(opened, tmp_path):
    port = port_of(opened())
    path = tmp_path / "app.sock"
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ListenError):
        open_listeners(Config(bind=(f"unix:{path}", "127.0.0.1:0", f"127.0.0.1:{port}")))
    assert os.listdir("/proc/self/fd") == before
    assert not path.exists()


class TestPerSlot:
    def test_each_slot_has_a_socket_of_its_own_on_one_port(self, opened):
        listeners = opened(accept="per-slot", workers=3)
        assert len({listeners.descriptors_for(slot)[0] for slot in range(3)}) == 3
        assert {port_of(listeners, slot) for slot in range(3)} == {port_of(listeners)}
        assert sum(spread(listeners, range(3))) == 60

    def test_a_slot_is_taken_away_without_losing_a_connection(self, opened):
        """What waits in the queue of the slot is still accepted; what comes later goes elsewhere."""
        listeners = opened(accept="per-slot", workers=4)
        clients = connect(port_of(listeners), 60)
        listeners.steer_away(range(2, 5))
        later = connect(port_of(listeners), 60)
        leaving = sum(waiting(listeners.sockets_for(slot)[0]) for slot in (2, 3))
        staying = [waiting(listeners.sockets_for(slot)[0]) for slot in (0, 1)]
        assert leaving <= 60
        assert leaving + sum(staying) == 120
        listeners.close_slot(3)
        listeners.close_slot(2)
        counts = spread(listeners, [0, 1])
        assert sum(counts) == 60
        assert all(counts)
        for client in (*clients, *later):
            client.close()

    def test_slots_can_close_in_any_order(self, opened):
        listeners = opened(accept="per-slot", workers=5)
        listeners.steer_away(range(1, 5))
        for slot in (2, 4, 1):
            listeners.close_slot(slot)
            assert spread(listeners, [0, 3], 20) == [20, 0]
        listeners.close_slot(3)
        assert spread(listeners, [0], 20) == [20]

    def test_a_slot_that_comes_back_before_it_was_closed_keeps_its_socket(self, opened):
        listeners = opened(accept="per-slot", workers=3)
        kept = listeners.descriptors_for(2)
        listeners.steer_away(range(2, 5))
        listeners.open_slot(2)
        listeners.close_slot(2)  # the late end of the worker that left
        assert listeners.descriptors_for(2) == kept
        assert all(spread(listeners, range(3), 120))

    def test_a_slot_that_is_added_takes_part(self, opened):
        listeners = opened(accept="per-slot", workers=1)
        listeners.open_slot(1)
        assert all(spread(listeners, range(2)))

    def test_a_kernel_that_cannot_steer_is_reported_and_nothing_breaks(self, caplog):
        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        first = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        first.bind(("127.0.0.1", 0))
        first.listen(5)
        listener = PerSlotListener(first, "http://x", 5, Steering(refuse, refuse))
        listener.open_slot(1)
        listener.steer_away(range(1, 5))
        listener.close_slot(1)
        listener.close()
        assert "cannot be steered" in caplog.text

    def test_a_slot_without_a_socket_of_its_own_shares_the_first(self, opened, caplog, monkeypatch):
        listeners = opened(accept="per-slot", workers=1)

        def refuse(*_):
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(socket, "socket", refuse)
        listeners.open_slot(1)
        assert listeners.descriptors_for(1) == listeners.descriptors_for(0)
        assert "Too many open files" in caplog.text


def leave_dead(path, mode):
    """Leave a socket file as a server does that is killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(mode)


class TestUnix:
    def test_a_proxy_of_another_user_may_connect(self, opened, tmp_path):
        path = tmp_path / "app.sock"
        listeners = opened(uds=str(path))
        assert path.stat().st_mode & 0o777 == 0o666
        assert listeners.urls() == [f"unix:{path}"]
        listeners.close()
        assert not path.exists()

    def test_what_a_killed_server_left_is_replaced(self, opened, tmp_path):
        """After the supervisor was killed the next start succeeds."""
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        opened(uds=str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    @pytest.mark.parametrize("mode", [0o760, 0o600, 0o777])
    def test_permissions_of_a_socket_that_is_replaced_are_kept(self, opened, tmp_path, mode):
        """An operator has closed it to others: the next start does not open it again."""
        path = tmp_path / "app.sock"
        leave_dead(path, mode)
        opened(uds=str(path))
        assert path.stat().st_mode & 0o777 == mode

    def test_permissions_that_are_asked_for_count_whatever_the_umask_and_what_was_there(
        self, opened, tmp_path
    ):
        path = tmp_path / "app.sock"
        leave_dead(path, 0o777)
        before = os.umask(0o077)
        try:
            opened(uds=str(path), uds_mode="0664")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o664

    def test_permissions_are_never_wider_than_asked_for(self, opened, tmp_path, monkeypatch):
        path = tmp_path / "app.sock"
        seen = []

        def spy(name):
            plain = getattr(os, name)

            def call(target, *arguments, **words):
                seen.append(path.stat().st_mode & 0o777)
                plain(target, *arguments, **words)

            monkeypatch.setattr(os, name, call)

        spy("chmod")
        spy("chown")
        before = os.umask(0)
        try:
            opened(uds=str(path), uds_mode="0600", uds_owner=f":{os.getgid()}")
        finally:
            os.umask(before)
        assert seen == [0o600, 0o600]

    def test_words_of_an_address_count_for_it_alone(self, opened, tmp_path):
        one, other = tmp_path / "one.sock", tmp_path / "other.sock"
        opened(bind=(f"unix:{one} mode=0640", f"unix:{other}"), uds_mode="0660")
        assert one.stat().st_mode & 0o777 == 0o640
        assert other.stat().st_mode & 0o777 == 0o660

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_it_belongs_to_whom_is_named(self, opened, tmp_path):
        one, other = tmp_path / "one.sock", tmp_path / "other.sock"
        opened(bind=(f"unix:{one} owner=65534:65534", f"unix:{other} owner=:nogroup"))
        assert (one.stat().st_uid, one.stat().st_gid) == (65534, 65534)
        assert (other.stat().st_uid, other.stat().st_gid) == (0, grp.getgrnam("nogroup").gr_gid)

    def test_an_owner_that_cannot_be_had_is_refused_and_leaves_nothing(self, tmp_path, monkeypatch):
        def refuse(*arguments, **words):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "chown", refuse)
        path = tmp_path / "app.sock"
        with pytest.raises(
            ListenError, match=r"cannot be given to '0:0' \(Operation not permitted\)"
        ):
            open_listeners(Config(uds=str(path), uds_owner="0:0"))
        assert not path.exists()

    def test_a_second_server_on_the_path_is_refused(self, opened, tmp_path):
        path = str(tmp_path / "app.sock")
        opened(uds=path, backlog=1)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(path)  # so that the queue is full, which is no reason to take it over
        with pytest.raises(ListenError, match="another server listens there"):
            opened(uds=path)
        for client in clients:
            client.close()

    def test_a_file_that_is_no_socket_is_kept(self, tmp_path):
        path = tmp_path / "data"
        path.write_text("precious")
        with pytest.raises(ListenError, match="no socket"):
            open_listeners(Config(uds=str(path)))
        assert path.read_text() == "precious"

    def test_the_path_of_a_successor_is_not_removed(self, opened, tmp_path):
        """An old server that ends late leaves the socket that a new one has bound at the same path."""
        path = tmp_path / "app.sock"
        old = opened(uds=str(path))
        path.unlink()
        opened(uds=str(path))
        old.close()
        assert path.exists()

    def test_a_missing_directory_is_named(self, tmp_path):
        with pytest.raises(ListenError, match="No such file"):
            open_listeners(Config(uds=str(tmp_path / "none" / "app.sock")))


class TestInherited:
    def test_a_listening_socket_is_taken_over(self, opened):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.set_inheritable(True)
        port = sock.getsockname()[1]
        listeners = opened(fd=sock.detach())
        (taken,) = listeners.sockets_for(0)
        assert not taken.get_inheritable()
        assert taken.proto == socket.IPPROTO_TCP
        assert listeners.urls() == [f"http://127.0.0.1:{port}"]

    @pytest.mark.parametrize("make", ["bound", "datagram", "file", "closed"])
    def test_anything_else_is_refused_and_left_open(self, make, tmp_path):
        keep = []
        if make == "bound":
            keep.append(socket.socket())
            keep[0].bind(("127.0.0.1", 0))
        elif make == "datagram":
            keep.append(socket.socket(type=socket.SOCK_DGRAM))
        else:
            keep.append(open(tmp_path / "file", "wb"))  # noqa: SIM115
        descriptor = keep[0].fileno() if make != "closed" else 10_000
        with pytest.raises(ListenError, match=f"fd://{descriptor}"):
            open_listeners(Config(fd=descriptor))
        os.fstat(keep[0].fileno())
        keep[0].close()


def test_two_servers_that_start_together_cannot_both_listen():
    """The kernel decides: there is no moment between a check and the bind in which both could win."""
    script = (
        "import sys\n"
        "from asgireload.config import Config\n"
        "from asgireload.net.listeners import open_listeners\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    kept = open_listeners(Config(port=int(sys.argv[1]), accept='per-slot'))\n"
        "    print('listens', flush=True)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for server in servers:
        server.stdin.write("\n")
        server.stdin.flush()
    words = [server.stdout.readline().strip() for server in servers]
    for server in servers:
        server.communicate("\n", timeout=20)
    assert sorted(words) == ["ListenError", "listens"]


def test_urls_and_traits_say_where_tls_is_spoken(opened, tmp_path):
    path = tmp_path / "web.sock"
    listeners = opened(
        bind=("localhost:0", "127.0.0.1:0 plain", f"unix:{path} proxy"),
        ssl_certfile="a.pem",
        accept="shared",
    )
    urls, traits = listeners.urls(), listeners.traits()
    assert len(urls) == len(traits) == len(listeners.sockets_for(0)) >= 3
    assert [url.partition(":")[0] for url in urls[:-2]] == ["https"] * (len(urls) - 2)
    assert urls[-2].startswith("http://127.0.0.1:")
    assert urls[-1] == f"unix:{path} (TLS)"
    assert [entry.tls for entry in traits] == [True] * (len(urls) - 2) + [False, True]
    assert [entry.proxy for entry in traits] == [False] * (len(urls) - 1) + [True]


def test_a_slot_of_its_own_keeps_the_traits(opened):
    listeners = opened(accept="per-slot", workers=2, ssl_certfile="a.pem")
    assert listeners.traits() == (ListenerTraits(tls=True),)
    assert listeners.urls()[0].startswith("https://")


def test_a_slot_ends_for_whoever_has_a_copy_of_its_socket(opened):
    """The kernel gives connections to every listening socket of the group, even when nobody accepts from it."""
    listeners = opened(accept="per-slot", workers=3)
    copies = [listeners.sockets_for(slot)[0].dup() for slot in (1, 2)]
    for slot in (2, 1):
        listeners.steer_away({slot})
        listeners.close_slot(slot)
    assert spread(listeners, [0], 40) == [40]
    for copy in copies:
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        copy.close()


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_shutting_down_frees_the_address_whoever_has_copies(opened, accept):
    listeners = opened(accept=accept, workers=2)
    port = port_of(listeners)
    copies = [listeners.sockets_for(slot)[0].dup() for slot in (0, 1)]
    listeners.shut_down()
    listeners.shut_down()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    opened(port=port)
    for copy in copies:
        copy.close()


def test_an_inherited_socket_is_never_shut_down(opened):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        opened(fd=listening.dup().detach()).shut_down()
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_inodes_of_what_ends_are_told_with_the_address(opened):
    listeners = opened(accept="per-slot", workers=2)
    inodes = {os.fstat(listeners.sockets_for(slot)[0].fileno()).st_ino for slot in (0, 1)}
    assert listeners.ending_inodes().keys() == inodes
    assert set(listeners.ending_inodes().values()) == {f"http://127.0.0.1:{port_of(listeners)}"}
    assert listeners.inodes_of(1).keys() <= inodes
    assert len(listeners.inodes_of(1)) == 1
    assert listeners.inodes_of(2) == {}
