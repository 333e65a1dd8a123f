"""Listening sockets: opening, sharing out to slots, taking a slot away, closing.

The supervisor holds every listening socket for as long as a connection may be queued on it, and hands
workers their descriptors; nothing here accepts. shutdown(2) acts on the shared socket itself, whoever holds a
copy, and resets what waits in its queue. So a socket is shut down only when it goes for good and nobody of the
server accepts from it any more: then a copy in a process that the application has forked must not keep it in the
kernel's choice, or the port in use. A socket that was inherited is never shut down, since whoever passed it on has
it still.

An address is first bound and made to listen without SO_REUSEPORT. The kernel lets one socket only do
that, so a second server on the same address fails with "address already in use", as people expect, even
when two start in the same moment. In per-slot mode SO_REUSEPORT is set after that, which Linux allows at
any time, and the sockets of the other slots join. In shared mode it stays off: nothing needs it, and with
it any process of the same user could silently take a share of the connections.
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
"""As other servers do: who may connect is the directory's business, since a proxy runs as another user."""


class Steering(msgspec.Struct, frozen=True):
    """The kernel's part of taking a slot away; a test, or another system, hands in its own."""

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
        """Own `sock`; `release` runs once, before it is closed. `is_inherited`: others accept from it later."""
        self.url = url
        self.traits = traits
        self._sock = sock
        self._release = release
        self._is_inherited = is_inherited

    def socket_for(self, slot: int) -> socket.socket:
        return self._sock

    def open_slot(self, slot: int) -> None:
        """Nothing to do: the slot shares the socket."""

    def steer_away(self, slots: Collection[int]) -> None:
        """Nothing to do: whoever accepts takes what is queued."""

    def close_slot(self, slot: int) -> None:
        """Nothing to do: the others go on using the socket."""

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
    """One socket for each slot, in one SO_REUSEPORT group; the kernel spreads connections."""

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
        """Own `first`, which listens already and becomes the socket of slot 0."""
        self.url = url
        self.traits = traits
        self._backlog = backlog
        self._defers = defers
        self._steering = steer or Steering()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._first = first
        self._sockets = {0: first}
        self._group = [0]
        """Slots in the kernel's order of their sockets."""
        self._leaving: set[int] = set()

    def has_own(self, slot: int) -> bool:
        return slot in self._sockets

    def socket_for(self, slot: int) -> socket.socket:
        """Return the slot's socket; that of slot 0 where none could be opened for it."""
        return self._sockets.get(slot, self._first)

    def open_slot(self, slot: int) -> None:
        """Give the slot a socket, or its former one back if that was not closed yet.

        A failure is logged, not raised: the slot then shares the socket of slot 0, and serves.
        """
        self._leaving.discard(slot)
        if self._defers and slot in self._sockets:
            defer(self._sockets[slot])  # a worker that was to leave has stopped that
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
        """Send new connections to other slots than these only; at least one must be left."""
        self._leaving = set(slots) & self._sockets.keys()
        self._steer()

    def close_slot(self, slot: int) -> None:
        """Close the socket of a slot that was steered away from; any other is kept."""
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
        """Nothing to do: it has no file."""

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
    """Close a listening socket, and end it for whoever has a copy. Idempotent."""
    if sock.fileno() == -1:
        return
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # somebody has done it already
            raise
    finally:
        sock.close()


class Listeners:
    """All listening sockets of the server."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def urls(self) -> list[str]:
        """Return what a person types to reach each address, with the real port where 0 was asked for."""
        return [listener.url for listener in self._listeners]

    @property
    def slot_socket_count(self) -> int:
        """How many of them have a socket for each slot."""
        return sum(isinstance(listener, PerSlotListener) for listener in self._listeners)

    def traits(self) -> tuple[ListenerTraits, ...]:
        """Return how each of `sockets_for` any slot receives its connections, in the same order."""
        return tuple(listener.traits for listener in self._listeners)

    def sockets_for(self, slot: int) -> list[socket.socket]:
        """Return the sockets that the slot accepts from; they stay ours."""
        return [listener.socket_for(slot) for listener in self._listeners]

    def descriptors_for(self, slot: int) -> list[int]:
        return [sock.fileno() for sock in self.sockets_for(slot)]

    def open_slot(self, slot: int) -> None:
        """Make ready what a slot that was added needs. Failures are logged, never raised."""
        for listener in self._listeners:
            listener.open_slot(slot)

    def steer_away(self, slots: Collection[int]) -> None:
        """Let new connections go to other slots than these only; at least one must be left."""
        for listener in self._listeners:
            listener.steer_away(slots)

    def close_slot(self, slot: int) -> None:
        """Shut down what a slot had for itself, once its worker has accepted all that waited there."""
        for listener in self._listeners:
            listener.close_slot(slot)

    def inodes_of(self, slot: int) -> dict[int, str]:
        """Return the inodes of the sockets that go with the slot, with their URLs."""
        return {
            os.fstat(listener.socket_for(slot).fileno()).st_ino: listener.url
            for listener in self._listeners
            if isinstance(listener, PerSlotListener) and listener.has_own(slot)
        }

    def ending_inodes(self) -> dict[int, str]:
        """Return the inodes of all sockets that end with the server, with their URLs."""
        return {
            os.fstat(sock.fileno()).st_ino: listener.url
            for listener in self._listeners
            for sock in listener.ending()
            if sock.fileno() != -1
        }

    def hide(self) -> None:
        """Remove the files of Unix sockets that are still ours, and nothing else."""
        for listener in self._listeners:
            listener.hide()

    def shut_down(self) -> None:
        """End all of them for everybody, once no worker accepts; one that was inherited is closed. Idempotent."""
        for listener in self._listeners:
            for sock in listener.ending():
                shut_down(sock)
            listener.close()

    def close(self) -> None:
        """Close all of them and remove the files of Unix sockets that are still ours. Idempotent."""
        for listener in self._listeners:
            listener.close()


def open_listeners(config: Config) -> Listeners:
    """Open everything that `config` names, for `config.workers` slots; the caller closes the result.

    Raise ListenError, saying what to do, with nothing left open.
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
    """Open one listener for each address that the host's name stands for."""
    host = address.host
    try:
        found = socket.getaddrinfo(
            # As text, even an address is taken for an international name, which Python loads its tables for.
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
                    # localhost often names ::1 where IPv6 is switched off; the others may do.
                    missing = error
                    continue
                raise ListenError(_why_not(address, port, error)) from error
            # With port 0, every address of the name gets the port that the first was given.
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
        # listen() checks for conflicts once more, so of two that bound at the same time one fails.
        sock.listen(config.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _tcp_socket(family: int, *, v6_only: bool) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY on connections only where it sees it;
    # the option on the listener is inherited by them (tcp(7)) and spares a call for each.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            # Explicit, because net.ipv6.bindv6only differs between systems.
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
    # Absolute, so that it is still found for removal if the process changes its directory.
    path = os.path.abspath(address.path)
    sock = open_unix(
        path, mode=address.mode, usual_mode=UNIX_MODE, owner=address.owner, backlog=config.backlog
    )
    url = _unix_url(path, address.traits)
    return SharedListener(sock, url, SocketFile.of(sock).remove, address.traits)


def _adopt(address: InheritedAddress) -> Listener:
    """Take over an inherited socket, after making sure that it is one that listens."""
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
        # It is not ours to close.
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
