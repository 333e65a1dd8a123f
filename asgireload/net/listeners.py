"""Listening sockets: open them, share them among slots, remove a slot, close them.

The supervisor holds every listening socket for as long as a connection may be queued on it, and passes descriptors
to workers; this module does not accept. shutdown(2) acts on the socket itself, for all processes that hold a copy,
and resets the connections in its queue. So a socket is shut down only when it is closed for good and no worker
accepts from it any more. Without the shutdown, a copy in a process that the application has forked would keep the
port in use, and the kernel would still choose the socket for connections. A socket that was inherited is never shut
down, since the process that passed it on still has it.

An address is first bound and made to listen without SO_REUSEPORT. The kernel allows that for one socket only, so a
second server on the same address fails with "address already in use", even when both start at the same moment. In
per-slot mode SO_REUSEPORT is set after that, which Linux allows at any time, and the sockets of the other slots
join. In shared mode it stays off: it is not needed, and with it any process of the same user could silently take a
share of the connections.
"""

import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Collection, Sequence

import msgspec

from asgireload.config import Config
from asgireload.errors import ListenError
from asgireload.net import steering
from asgireload.net.addresses import (
    PLAIN,
    InheritedAddress,
    ListenerTraits,
    TcpAddress,
    UnixAddress,
    addresses_of,
    bracketed,
    has_v4_twin,
)
from asgireload.net.deferring import defer
from asgireload.net.holders import why_not_bound
from asgireload.net.unix import SocketFile, open_unix

_logger = logging.getLogger("asgireload.error")


UNIX_MODE = 0o666
"""As in other servers: a proxy runs as another user, so access is restricted by the permissions of the
directory."""


class Steering(msgspec.Struct, frozen=True):
    """The functions that steer connections away from a slot; a test, or another system, passes its own."""

    steer_to: Callable[[socket.socket, Sequence[int]], None] = steering.steer_to
    steer_to_all: Callable[[socket.socket], None] = steering.steer_to_all


class SharedListener:
    """One socket that all slots accept from."""

    def __init__(
        self,
        sock: socket.socket,
        url: str,
        release: Callable[[], None] | None = None,
        traits: ListenerTraits = PLAIN,
        *,
        is_inherited: bool = False,
    ) -> None:
        """Own `sock`; `release` is called once, before `sock` is closed.

        `is_inherited`: other processes may use the socket later, so it is never shut down.
        """
        self.url = url
        self.traits = traits
        self._sock = sock
        self._release = release
        self._is_inherited = is_inherited

    def socket_for(self, slot: int) -> socket.socket:
        return self._sock

    def open_slot(self, slot: int) -> None:
        """Do nothing: the slot shares the socket."""

    def steer_away(self, slots: Collection[int]) -> None:
        """Do nothing: the other slots accept from the same queue."""

    def close_slot(self, slot: int) -> None:
        """Do nothing: the other slots still use the socket."""

    def ending(self) -> list[socket.socket]:
        return [] if self._is_inherited else [self._sock]

    def hide(self) -> None:
        if self._release is not None:
            self._release()
            self._release = None

    def close(self) -> None:
        self.hide()
        self._sock.close()


class PerSlotListener:
    """One socket for each slot, in one SO_REUSEPORT group, over which the kernel spreads connections."""

    def __init__(
        self,
        first: socket.socket,
        url: str,
        backlog: int,
        steer: Steering | None = None,
        traits: ListenerTraits = PLAIN,
        *,
        defers: bool = False,
    ) -> None:
        """Own `first`, which must listen already and becomes the socket of slot 0."""
        self.url = url
        self.traits = traits
        self._backlog = backlog
        self._defers = defers
        self._steering = steer or Steering()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._first = first
        self._sockets = {0: first}
        self._group = [0]
        """Slots in the order of their sockets in the kernel's group."""
        self._leaving: set[int] = set()

    def has_own(self, slot: int) -> bool:
        return slot in self._sockets

    def socket_for(self, slot: int) -> socket.socket:
        """Return the slot's socket, or that of slot 0 if none could be opened for the slot."""
        return self._sockets.get(slot, self._first)

    def open_slot(self, slot: int) -> None:
        """Open a socket for the slot, or use its former one if that is still open.

        A failure is logged, not raised: the slot then shares the socket of slot 0.
        """
        self._leaving.discard(slot)
        if self._defers and slot in self._sockets:
            defer(self._sockets[slot])  # a worker that was to leave has switched deferring off
        if slot not in self._sockets:
            address = self._first.getsockname()
            try:
                sock = _tcp_socket(self._first.family, v6_only=_is_v6_only(self._first))
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    sock.bind(address)
                    if self._defers:
                        defer(sock)
                    sock.listen(self._backlog)
                except BaseException:
                    sock.close()
                    raise
            except OSError as error:
                _logger.warning(
                    "No socket of its own on %s for slot %d (%s): it shares that of slot 0",
                    self.url,
                    slot,
                    error.strerror,
                )
                return
            self._sockets[slot] = sock
            self._group.append(slot)
        self._steer()

    def steer_away(self, slots: Collection[int]) -> None:
        """Send no new connections to `slots`; at least one other slot must remain."""
        self._leaving = set(slots) & self._sockets.keys()
        self._steer()

    def close_slot(self, slot: int) -> None:
        """Shut down the socket of a slot that `steer_away` was called for; do nothing for other slots."""
        if slot not in self._leaving:
            return
        self._leaving.discard(slot)
        shut_down(self._sockets.pop(slot))
        place = self._group.index(slot)
        last = self._group.pop()
        if last != slot:
            # The kernel fills the gap with the group's last socket.
            self._group[place] = last
        self._steer()

    def ending(self) -> list[socket.socket]:
        return list(self._sockets.values())

    def hide(self) -> None:
        """Do nothing: a TCP socket has no file."""

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def _steer(self) -> None:
        staying = [place for place, slot in enumerate(self._group) if slot not in self._leaving]
        try:
            if self._leaving:
                self._steering.steer_to(self._first, staying)
            elif len(self._group) > 1:
                self._steering.steer_to_all(self._first)
        except OSError as error:
            _logger.warning(
                "Connections on %s cannot be steered (%s): some that arrive while a slot is taken"
                " away may be reset",
                self.url,
                error.strerror,
            )


Listener = SharedListener | PerSlotListener


def shut_down(sock: socket.socket) -> None:
    """Close a listening socket, and end it for every process that has a copy. Idempotent."""
    if sock.fileno() == -1:
        return
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # another process has shut it down already
            raise
    finally:
        sock.close()


class Listeners:
    """All listening sockets of the server."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def urls(self) -> list[str]:
        """Return the URL of each address, with the real port if port 0 was configured."""
        return [listener.url for listener in self._listeners]

    @property
    def slot_socket_count(self) -> int:
        """The number of listeners that have a socket for each slot."""
        return sum(isinstance(listener, PerSlotListener) for listener in self._listeners)

    def traits(self) -> tuple[ListenerTraits, ...]:
        """Return the traits of each listener, in the order of `sockets_for`."""
        return tuple(listener.traits for listener in self._listeners)

    def sockets_for(self, slot: int) -> list[socket.socket]:
        """Return the sockets that the slot accepts from; this object still owns them."""
        return [listener.socket_for(slot) for listener in self._listeners]

    def descriptors_for(self, slot: int) -> list[int]:
        return [sock.fileno() for sock in self.sockets_for(slot)]

    def open_slot(self, slot: int) -> None:
        """Open the sockets of a slot that was added. Failures are logged, never raised."""
        for listener in self._listeners:
            listener.open_slot(slot)

    def steer_away(self, slots: Collection[int]) -> None:
        """Send no new connections to `slots`; at least one other slot must remain."""
        for listener in self._listeners:
            listener.steer_away(slots)

    def close_slot(self, slot: int) -> None:
        """Shut down the slot's own sockets. Call this when its worker has accepted all connections that waited."""
        for listener in self._listeners:
            listener.close_slot(slot)

    def inodes_of(self, slot: int) -> dict[int, str]:
        """Return the inodes of the slot's own sockets, with their URLs."""
        return {
            os.fstat(listener.socket_for(slot).fileno()).st_ino: listener.url
            for listener in self._listeners
            if isinstance(listener, PerSlotListener) and listener.has_own(slot)
        }

    def ending_inodes(self) -> dict[int, str]:
        """Return the inodes of all sockets that are shut down with the server, with their URLs."""
        return {
            os.fstat(sock.fileno()).st_ino: listener.url
            for listener in self._listeners
            for sock in listener.ending()
            if sock.fileno() != -1
        }

    def hide(self) -> None:
        """Remove the files of the Unix sockets, unless other servers have replaced them; keep the sockets open."""
        for listener in self._listeners:
            listener.hide()

    def shut_down(self) -> None:
        """Shut down all sockets and close them; inherited sockets are only closed. Idempotent.

        Call this when no worker accepts any more.
        """
        for listener in self._listeners:
            for sock in listener.ending():
                shut_down(sock)
            listener.close()

    def close(self) -> None:
        """Close all sockets, and remove the files of Unix sockets as `hide` does. Idempotent."""
        for listener in self._listeners:
            listener.close()


def open_listeners(config: Config) -> Listeners:
    """Open all addresses of `config`, for `config.workers` slots; the caller closes the result.

    Raise ListenError, whose text says what to do, with no socket left open.
    """
    opened: list[Listener] = []
    addresses = addresses_of(config)
    try:
        for address in addresses:
            match address:
                case TcpAddress():
                    v6_only = has_v4_twin(address, addresses)
                    opened += _open_tcp(address, config, v6_only=v6_only)
                case UnixAddress():
                    opened.append(_open_unix(address, config))
                case InheritedAddress():
                    opened.append(_adopt(address))
    except BaseException:
        Listeners(opened).close()
        raise
    listeners = Listeners(opened)
    for slot in range(1, config.workers):
        listeners.open_slot(slot)
    return listeners


def _open_tcp(address: TcpAddress, config: Config, *, v6_only: bool) -> list[Listener]:
    """Open one listener for each address that the host resolves to."""
    host = address.host
    try:
        found = socket.getaddrinfo(
            # As bytes: a str, even of an address, makes Python load its tables for international names.
            host.encode() if host.isascii() else host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen on {address}: {reason}; check the name, or give an address"
        ) from error
    listeners: list[Listener] = []
    missing: OSError | None = None
    port = address.port
    try:
        # A name may be listed twice in /etc/hosts; the order is the resolver's.
        for family, target in dict.fromkeys((entry[0], entry[4]) for entry in found):
            try:
                target = (target[0], port, *target[2:])
                sock = _bind(family, target, config, v6_only=v6_only)
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(found) > 1:
                    # localhost often resolves to ::1 although IPv6 is off; the other addresses may work.
                    missing = error
                    continue
                raise ListenError(_why_not(address, port, error)) from error
            # With port 0, every address of the name gets the port of the first.
            port = sock.getsockname()[1]
            listeners.append(_tcp_listener(sock, config, address.traits))
    except BaseException:
        Listeners(listeners).close()
        raise
    if missing is not None and not listeners:
        raise ListenError(_why_not(address, port, missing)) from missing
    return listeners


def _tcp_listener(sock: socket.socket, config: Config, traits: ListenerTraits) -> Listener:
    url = _tcp_url(sock, traits)
    if config.accept == "per-slot":
        return PerSlotListener(sock, url, config.backlog, traits=traits, defers=config.defer_accept)
    return SharedListener(sock, url, traits=traits)


def _bind(
    family: int, address: tuple[object, ...], config: Config, *, v6_only: bool
) -> socket.socket:
    sock = _tcp_socket(family, v6_only=v6_only)
    try:
        sock.bind(address)
        if config.defer_accept:
            defer(sock)
        # listen() checks for conflicts again, so of two servers that bind at the same time one fails.
        sock.listen(config.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp_socket(family: int, *, v6_only: bool) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets whose protocol is IPPROTO_TCP, so the protocol is given. Connections
    # inherit the option from the listener (tcp(7)), which saves a call for each.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            # Set explicitly, because net.ipv6.bindv6only differs between systems.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_v6_only(sock: socket.socket) -> bool:
    return sock.family == socket.AF_INET6 and bool(
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def _open_unix(address: UnixAddress, config: Config) -> Listener:
    # Absolute, so that the file can be removed after the process has changed its directory.
    path = os.path.abspath(address.path)
    sock = open_unix(
        path, mode=address.mode, usual_mode=UNIX_MODE, owner=address.owner, backlog=config.backlog
    )
    url = _unix_url(path, address.traits)
    return SharedListener(sock, url, SocketFile.of(sock).remove, address.traits)


def _adopt(address: InheritedAddress) -> Listener:
    """Take over an inherited socket. Raise ListenError unless it is a listening stream socket."""
    descriptor = address.descriptor
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise ListenError(
            f"cannot accept from {address}: no such descriptor was inherited by this process"
        ) from error
    if not is_socket:
        raise ListenError(f"cannot accept from {address}: the descriptor is no socket")
    sock = socket.socket(fileno=descriptor)
    is_stream = sock.type == socket.SOCK_STREAM
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        # The descriptor belongs to the process that passed it on, so it is not closed.
        sock.detach()
        raise ListenError(
            f"cannot accept from {address}: the socket does not listen; whoever starts the server must"
            " call listen() on a stream socket and pass that"
        )
    sock.setblocking(False)
    sock.set_inheritable(False)
    if sock.family == socket.AF_UNIX:
        url = _unix_url(sock.getsockname(), address.traits)
        return SharedListener(sock, url, traits=address.traits, is_inherited=True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = _tcp_url(sock, address.traits)
    return SharedListener(sock, url, traits=address.traits, is_inherited=True)


def _tcp_url(sock: socket.socket, traits: ListenerTraits) -> str:
    name = sock.getsockname()
    scheme = "https" if traits.tls else "http"
    return f"{scheme}://{bracketed(name[0])}:{name[1]}"


def _unix_url(path: str, traits: ListenerTraits) -> str:
    return f"unix:{path} (TLS)" if traits.tls else f"unix:{path}"


def _why_not(address: TcpAddress, port: int, error: OSError) -> str:
    shown = f"{bracketed(address.host)}:{port}"
    return f"cannot listen on {shown}: {why_not_bound(port, error)}"
