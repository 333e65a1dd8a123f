"""The listening sockets of a server: opened once by the supervisor and handed to every worker.

A socket is never shut down or closed while a connection could wait in its queue, so neither a reload
nor a crash resets a client that was not accepted yet. `shared`: one socket for each address, from which
all workers accept. `per-slot`: for each TCP address one SO_REUSEPORT socket a slot, to which the kernel
spreads connections.
"""

import contextlib
import errno
import os
import socket
import stat
from typing import Protocol

from asgireload.config import Config
from asgireload.errors import ListenError
from asgireload.net.addresses import (
    Address,
    InheritedSocket,
    TcpAddress,
    UnixAddress,
    addresses_of,
    url_of,
)
from asgireload.net.steering import steer_to_first

UNIX_MODE = 0o666
"""Like uvicorn's: whoever may enter the directory may connect."""
_SYSTEMD_FIRST = 3
"""sd_listen_fds(3): passed descriptors begin here."""


class _Group(Protocol):
    """The sockets of one address."""

    url: str

    def socket_for(self, slot: int) -> socket.socket: ...
    def open_slot(self, slot: int) -> None: ...
    def steer_away(self, slots: int) -> None: ...
    def close_slot(self, slot: int) -> None: ...
    def close(self) -> None: ...


class Listeners:
    """All addresses of the server. Owns its sockets; `close()` is idempotent."""

    def __init__(self, groups: list[_Group]) -> None:
        self._groups = groups

    def urls(self) -> list[str]:
        """Return where the server can be reached, for people."""
        return [group.url for group in self._groups]

    def descriptors_for(self, slot: int) -> list[int]:
        """Return the sockets that a worker of `slot` accepts from; they stay ours."""
        return [group.socket_for(slot).fileno() for group in self._groups]

    def open_slot(self, slot: int) -> None:
        """Make sockets for a slot that was added, or let one that was leaving get connections again."""
        for group in self._groups:
            group.open_slot(slot)

    def steer_away(self, slots: int) -> None:
        """Send new connections only to the first `slots` slots."""
        for group in self._groups:
            group.steer_away(slots)

    def close_slot(self, slot: int) -> None:
        """Close the sockets of the highest slot, whose queue its last worker has emptied."""
        for group in self._groups:
            group.close_slot(slot)

    def close(self) -> None:
        for group in self._groups:
            group.close()


def open_listeners(config: Config) -> Listeners:
    """Open every address of `config`. Raise ListenError naming the address; then none stays open."""
    with contextlib.ExitStack() as opened:
        groups: list[_Group] = []
        for address in addresses_of(config) + _passed_by_systemd():
            for group in _open(address, config):
                opened.callback(group.close)
                groups.append(group)
        opened.pop_all()
    return Listeners(groups)


def _passed_by_systemd() -> list[Address]:
    """Return sockets that systemd passed to this very process: sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    del os.environ["LISTEN_PID"]
    os.environ.pop("LISTEN_FDNAMES", None)
    return [InheritedSocket(_SYSTEMD_FIRST + index) for index in range(int(count))]


def _open(address: Address, config: Config) -> list[_Group]:
    match address:
        case TcpAddress():
            return _open_tcp(address, config)
        case UnixAddress():
            return [_UnixGroup(address, config.backlog)]
        case InheritedSocket():
            return [_InheritedGroup(address, config.backlog)]


def _open_tcp(address: TcpAddress, config: Config) -> list[_Group]:
    """A name may mean several addresses; each that exists on this machine is listened on."""
    try:
        found = socket.getaddrinfo(
            address.host or None,
            address.port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise ListenError(f"cannot listen on {address.host}: {error.strerror}") from error
    groups: list[_Group] = []
    problem: ListenError | None = None
    port = address.port
    with contextlib.ExitStack() as opened:
        for family, _, _, _, name in dict.fromkeys(found):
            target = (name[0], port, *name[2:])
            try:
                if config.accept == "per-slot":
                    group: _SharedGroup | _PerSlotGroup = _PerSlotGroup(
                        address, family, target, config.backlog, config.workers
                    )
                else:
                    group = _SharedGroup(address, family, target, config.backlog)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise _listen_error(address, error) from error
                problem = _listen_error(address, error)
                continue
            opened.callback(group.close)
            groups.append(group)
            port = group.port  # port 0: all addresses of a name get the same one
        if not groups:
            assert problem is not None
            raise problem
        opened.pop_all()
    return groups


def _listen_error(address: TcpAddress, error: OSError) -> ListenError:
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "; another process listens there: stop it, or choose another --port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = "; ports below 1024 need CAP_NET_BIND_SERVICE"
    return ListenError(f"cannot listen on {address.host}:{address.port}: {error.strerror}{hint}")


def _tcp_socket(
    family: int, target: tuple[object, ...], backlog: int, *, reuse_port: bool
) -> socket.socket:
    # The protocol is given by number: asyncio sets TCP_NODELAY only on connections of sockets that say
    # they are TCP, and without it a kept connection answers 40 ms late.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Only the wildcard answers IPv4 too, whatever net.ipv6.bindv6only says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, target[0] != "::")
        sock.bind(target)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class _OneSocketGroup:
    """One socket for all slots."""

    def __init__(self, sock: socket.socket, url: str) -> None:
        self._socket = sock
        self.url = url

    def socket_for(self, slot: int) -> socket.socket:
        return self._socket

    def open_slot(self, slot: int) -> None:
        """All slots share one socket."""

    def steer_away(self, slots: int) -> None:
        """Who does not accept gets nothing."""

    def close_slot(self, slot: int) -> None:
        """The others go on with it."""

    def close(self) -> None:
        self._socket.close()


class _SharedGroup(_OneSocketGroup):
    """A TCP socket that all workers accept from."""

    def __init__(
        self, address: Address, family: int, target: tuple[object, ...], backlog: int
    ) -> None:
        sock = _tcp_socket(family, target, backlog, reuse_port=False)
        name = sock.getsockname()
        super().__init__(sock, url_of(address, name))
        self.port: int = name[1]


class _PerSlotGroup:
    """One SO_REUSEPORT socket for each slot, in the order of the slots."""

    def __init__(
        self,
        address: Address,
        family: int,
        target: tuple[object, ...],
        backlog: int,
        slots: int,
    ) -> None:
        # With SO_REUSEPORT a second server of this user would silently share the port. A socket without
        # it finds out whether anybody is there.
        probe = _tcp_socket(family, target, backlog, reuse_port=False)
        name = probe.getsockname()
        probe.close()
        self._family = family
        self._target = (target[0], name[1], *target[2:])
        self._backlog = backlog
        self._sockets: list[socket.socket] = []
        self._steered = False
        for slot in range(slots):
            self.open_slot(slot)
        self.url = url_of(address, name)
        self.port: int = name[1]

    def socket_for(self, slot: int) -> socket.socket:
        return self._sockets[slot]

    def open_slot(self, slot: int) -> None:
        if slot == len(self._sockets):
            self._sockets.append(
                _tcp_socket(self._family, self._target, self._backlog, reuse_port=True)
            )
        if self._steered:
            steer_to_first(self._sockets[0], len(self._sockets))

    def steer_away(self, slots: int) -> None:
        self._steered = True
        steer_to_first(self._sockets[0], slots)

    def close_slot(self, slot: int) -> None:
        assert slot == len(self._sockets) - 1, "slots are closed from the end"
        self._sockets.pop().close()

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


class _UnixGroup(_OneSocketGroup):
    """A socket in the file system."""

    def __init__(self, address: UnixAddress, backlog: int) -> None:
        self._path = address.path
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_if_stale(self._path)
            sock.bind(self._path)
            os.chmod(self._path, UNIX_MODE)
            self._inode = os.stat(self._path).st_ino
            sock.listen(backlog)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise ListenError(f"cannot listen on unix:{self._path}: {error}") from error
        except ListenError:
            sock.close()
            raise
        super().__init__(sock, url_of(address, self._path))

    def close(self) -> None:
        if self._socket.fileno() == -1:
            return
        self._socket.close()
        # Somebody else may have bound the path meanwhile; theirs must stay.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)


class _InheritedGroup(_OneSocketGroup):
    """A socket that whoever started us has opened."""

    def __init__(self, address: InheritedSocket, backlog: int) -> None:
        number = address.descriptor
        try:
            sock = socket.socket(fileno=number)
        except OSError as error:
            raise ListenError(f"fd {number} is not a socket: {error.strerror}") from error
        if sock.type != socket.SOCK_STREAM:
            raise ListenError(f"fd {number} is not a stream socket")
        sock.set_inheritable(False)
        sock.setblocking(False)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            try:
                sock.listen(backlog)
            except OSError as error:
                raise ListenError(f"cannot listen on fd {number}: {error.strerror}") from error
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, url_of(address, sock.getsockname()))


def _remove_if_stale(path: str) -> None:
    """Remove a socket file that nobody listens on. Raise ListenError when it is in use or no socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on unix:{path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            raise ListenError(f"cannot listen on unix:{path}: it is in use") from None
        else:
            raise ListenError(f"cannot listen on unix:{path}: another process listens there")
