"""Accept connections from the listening sockets and give each to the event loop.

The acceptor replaces asyncio's server for three reasons. It stops at once and completely (closing asyncio's
server resets connections that were accepted in the same turn of the loop). It leaves the listening sockets to
their owner. It accepts a bounded number each time, so that one worker does not take a whole burst that other
workers could share.

An accepted socket gets its connection object in one step of the loop (`connecting.py`), or at once if its first
bytes are already there (`inline_serving.py`). A socket with a PROXY header or TLS is in one coroutine, `_adopt`,
which waits for the PROXY header (`proxy_header.py`), then for the first byte, then for the TLS handshake. It waits
for the first byte because a silent client is not worth the buffers of a handshake. One deadline bounds all three.
"""

import asyncio
import contextvars
import errno
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from asgireload.http.aside import run_aside
from asgireload.ipc.scoreboard import Limit, Record
from asgireload.net.addresses import PLAIN, ListenerTraits
from asgireload.net.deferring import fixed_address, holds_back, is_deferred, stop_deferring
from asgireload.net.proxy_protocol import Origin, ProxyHeader
from asgireload.worker.accept_balance import LEAD, AcceptBalance
from asgireload.worker.connecting import BareSocket, Connecting, takes_bare_sockets, wait_ended
from asgireload.worker.inline_serving import InlineServing
from asgireload.worker.plain_on_tls import TLS_HANDSHAKE, PlainAnswer, is_http
from asgireload.worker.proxy_header import ProxyHeaderReader

ACCEPT_BURST: Final = 8
"""Connections taken from one socket in one turn of the loop; see docs/explanation/accepting.md."""
FULL_PAUSE: Final = 0.2
"""Seconds without accepting when there is no room, unless a connection ends before."""
EXHAUSTED_PAUSE = 0.5
"""Seconds without accepting after the process or the system ran out of descriptors or memory."""
DEFER_ACCEPT_SECONDS: Final = 0.001
"""Seconds for which a worker that has more connections than another leaves new connections to the other."""
LAST_CALL: Final = 1.5
"""Seconds for which `last_call` waits for deferred connections; the kernel may defer a connection for 1 s."""
LAST_CALL_INTERVAL: Final = 0.02
"""Seconds between two checks for deferred connections."""
SHUTDOWN_TIMEOUT: Final = 30.0
"""Seconds that a client has to read the rest of its response and to end TLS, after the server has closed."""
_SHORTEST: Final = 0.001
"""Seconds; event loops refuse a handshake timeout of 0."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_logger = logging.getLogger("asgireload.error")


# The task starts eagerly from Python 3.12 on. It runs no code of the application, so it bypasses the loop's task
# factory.
_Task: Any = asyncio.Task
"""Any, because the type stubs for 3.11, which the type checker uses, lack `eager_start`."""
_new_task = partial(_Task, eager_start=True) if sys.version_info >= (3, 12) else _Task
_Socket = socket.socket
"""An alias that an attribute called `socket` does not hide."""


def _always(pending: int) -> bool:
    return True


class Entrance:
    """A listening socket, and how its connections are received.

    The socket must listen and be non-blocking; its owner closes it.
    """

    __slots__ = (
        "_accepted",
        "_family",
        "_type",
        "context",
        "is_deferred",
        "local",
        "socket",
        "traits",
    )

    def __init__(
        self,
        listening: _Socket,
        traits: ListenerTraits = PLAIN,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = listening
        self.traits = traits
        self.context = context
        """The TLS context. It may be replaced at any time; handshakes that begin afterwards use the new context."""
        self.is_deferred = is_deferred(listening)
        """The kernel defers connections until their first bytes have come."""
        self.local = fixed_address(listening)
        """The local address of every connection; None if it differs between connections."""
        self._family, self._type = int(listening.family), int(listening.type)
        kind = (self._family, self._type, listening.proto)
        # `socket.family` and `socket.type` look their values up in enumerations, and event loops read them several
        # times for each connection. Measured: a fifth of what the server does for a connection.
        plain = {"__slots__": (), "family": listening.family, "type": listening.type}
        self._accepted = partial(type("AcceptedSocket", (socket.socket,), plain), *kind)

    @property
    def is_plain(self) -> bool:
        """Neither a PROXY header nor TLS comes before the first byte of HTTP."""
        return not (self.traits.proxy or self.traits.tls)

    def accept(self) -> _Socket:
        """Return the next connection as a non-blocking socket. Raise OSError as accept(2) does."""
        # Like socket.accept(), except for the class of the new socket. The type stubs lack `_accept`.
        descriptor, _ = self.socket._accept()  # type: ignore[attr-defined]
        accepted: _Socket = self._accepted(descriptor)
        accepted.setblocking(False)
        return accepted

    def accept_bare(self) -> BareSocket:
        """Return the next connection without a socket object, for uvloop. Raise OSError as accept(2) does.

        Its descriptor is in blocking mode until uvloop has it.
        """
        descriptor, peer = self.socket._accept()  # type: ignore[attr-defined]
        return BareSocket(descriptor, self._family, self._type, peer)


class Acceptor:
    """Accepts connections from `entrances`; the caller closes their sockets.

    `handshake_timeout` is the time in seconds that a client has for its PROXY header, first byte and TLS handshake
    together; `record` counts the connections that fail there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        entrances: Sequence[Entrance],
        make_protocol: Callable[[Origin | None], asyncio.BaseProtocol],
        *,
        record: Record,
        handshake_timeout: float,
        proxy_headers: ProxyHeaderReader | None = None,
        has_room: Callable[[int], bool] = _always,
        balance: AcceptBalance | None = None,
        inline: InlineServing | None = None,
    ) -> None:
        """`make_protocol` gets the origin from the PROXY header, or None; `proxy_headers` reads the headers on
        entrances that expect them. `inline` serves deferred connections, whose first bytes are there, without
        `make_protocol`.

        `has_room` is called before each accept with the number of connections that have no connection object yet;
        when it returns False, accepting pauses until `note_room`, or for FULL_PAUSE. `balance` is asked with the
        same number; when this worker is ahead, it waits DEFER_ACCEPT_SECONDS and then accepts what still waits.
        """
        self._loop = loop
        self._entrances = entrances
        self._make_protocol = make_protocol
        self._make_plain = partial(make_protocol, None)
        self._record = record
        self._handshake_timeout = handshake_timeout
        self._proxy_headers = proxy_headers
        self._has_room = has_room
        self._balance = balance
        self._inline_serving = inline
        self._variables = contextvars.copy_context()
        self._is_full = False
        self._takes_bare = takes_bare_sockets(loop)
        self._connecting: set[Connecting] = set()
        """Connections accepted on plain entrances that have no connection object yet."""
        self._adopting: set[asyncio.Task[Any]] = set()
        """Tasks of connections that still have a PROXY header or a TLS handshake to come."""
        self._silent: set[asyncio.Task[Any]] = set()
        """Those of `_adopting` whose client has not sent anything."""
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
        """Begin to accept, or resume at once if accepting is paused. Idempotent."""
        self._accepting = True
        self._is_full = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._listen()

    def _listen(self) -> None:
        for entrance in self._entrances:
            self._loop.add_reader(entrance.socket.fileno(), self._accept, entrance, ACCEPT_BURST)

    def stop(self) -> None:
        """Stop accepting; connections that still wait are left to other workers. Idempotent."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())

    def note_room(self) -> None:
        """Resume accepting, if it paused because there was no room. Call this when a connection has ended."""
        if self._is_full:
            self._is_full = False
            if self._accepting:
                # Perhaps the application has ended the connection: new connections must not inherit its context.
                self._variables.copy().run(self.start)

    async def last_call(self, *, is_everybodys: bool) -> None:
        """Go on accepting until the kernel defers no connection, for LAST_CALL seconds at most.

        Call this when perhaps no worker accepts afterwards: within that time the kernel passes on every connection
        that is deferred now. With `is_everybodys` no worker will accept afterwards, so deferring is switched off
        for new connections as well.
        """
        ports = []
        for entrance in self._entrances:
            if entrance.is_deferred:
                if is_everybodys:
                    stop_deferring(entrance.socket)
                ports.append(entrance.socket.getsockname()[1])
        deadline = self._loop.time() + LAST_CALL
        while ports and self._loop.time() < deadline:
            # In a thread: the kernel's table is long when there are very many connections.
            if not await run_aside(self._loop, holds_back, ports):
                break
            await asyncio.sleep(LAST_CALL_INTERVAL)

    def take_waiting(self) -> None:
        """Accept every connection that waits now, when no other worker will: the server or the slot ends."""
        for entrance in self._entrances:
            self._accept(entrance, None)

    async def wait_adopted(self, patience: float) -> None:
        """Return when every accepted socket has its connection object or is closed.

        The connection of a client that sends nothing within `patience` seconds is closed; a client that does has
        the handshake timeout. May be cancelled; `abandon` then closes the sockets that are left.
        """
        timer = self._loop.call_later(patience, self._drop_silent)
        try:
            await wait_ended(self._connecting)
            while self._adopting:
                await asyncio.wait(self._adopting)
        finally:
            timer.cancel()

    def abandon(self) -> None:
        """Close every socket that has no connection object yet."""
        for connecting in self._connecting:
            connecting.cancel()
        for task in self._adopting:
            task.cancel()

    def _drop_silent(self) -> None:
        for task in self._silent:
            task.cancel()

    def _accept(self, entrance: Entrance, most: int | None, *, in_any_case: bool = False) -> None:
        taken: list[_Socket | BareSocket] = []
        try:
            self._take(entrance, most, taken, in_any_case=in_any_case)
        finally:
            # Connections that were accepted before an error must not be lost.
            for accepted in taken:
                self._begin(accepted, entrance)

    def _take(
        self,
        entrance: Entrance,
        most: int | None,
        taken: list[_Socket | BareSocket],
        *,
        in_any_case: bool,
    ) -> None:
        """Accept up to `most` connections into `taken`; None: all that wait, with or without room."""
        failed = 0
        on_way = len(self._connecting) + len(self._adopting)
        accept = entrance.accept_bare if entrance.is_plain and self._takes_bare else entrance.accept
        while most is None or len(taken) < most:
            if most is not None:
                pending = on_way + len(taken)
                if not self._has_room(pending):
                    self._rest()
                    return
                if (
                    not in_any_case
                    and self._balance is not None
                    and self._balance.is_ahead(pending)
                ):
                    self._defer_accept()
                    return
            try:
                taken.append(accept())
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                if error.errno in (errno.EINVAL, errno.EBADF):
                    raise
                # accept(2) reports network errors of the new connection; the next connection may have none.
                failed += 1
                if failed >= ACCEPT_BURST:
                    return

    def _begin(self, accepted: _Socket | BareSocket, entrance: Entrance) -> None:
        if (
            self._inline_serving is not None
            and entrance.is_deferred
            and isinstance(accepted, BareSocket)
            and self._inline_serving.serve(accepted, entrance.local)
        ):
            return
        if isinstance(accepted, BareSocket) or entrance.is_plain:
            connecting = Connecting(self._loop, self._make_plain, accepted, self._connected)
            self._connecting.add(connecting)
            connecting.begin()
        else:
            task = _new_task(self._adopt(accepted, entrance), loop=self._loop, name="accept")
            self._adopting.add(task)
            task.add_done_callback(self._adopted)

    async def _adopt(self, sock: socket.socket, entrance: Entrance) -> None:
        """Wait for PROXY header and TLS handshake, then make the connection object; on failure close the socket."""
        deadline = self._loop.time() + self._handshake_timeout
        origin: Origin | None = None
        if entrance.traits.proxy and self._proxy_headers is not None:
            header = await self._read_proxy_header(self._proxy_headers, sock, deadline)
            if header is None:
                return
            origin = header.origin
        make_protocol = partial(self._make_protocol, origin)
        if not entrance.traits.tls:
            await self._loop.connect_accepted_socket(make_protocol, sock)
            return
        try:
            first = await self._first_byte(sock, deadline)
        except BaseException:
            sock.close()
            raise
        if not first:
            # Closed or reset without a byte: load balancers check health so.
            sock.close()
        elif first[0] == TLS_HANDSHAKE:
            await self._shake_hands(sock, entrance, deadline, make_protocol)
        else:
            self._count_failure(
                Limit.HANDSHAKE_FAILED, _peer_for_log(sock), "the client does not speak TLS"
            )
            if is_http(first[0]):
                await self._loop.connect_accepted_socket(lambda: PlainAnswer(self._loop), sock)
            else:
                sock.close()

    async def _read_proxy_header(
        self, proxy_headers: ProxyHeaderReader, sock: socket.socket, deadline: float
    ) -> ProxyHeader | None:
        task = asyncio.current_task()
        assert task is not None
        self._silent.add(task)
        try:
            return await proxy_headers.read(sock, deadline)
        finally:
            self._silent.discard(task)

    async def _first_byte(self, sock: socket.socket, deadline: float) -> bytes:
        """Return the first byte, leaving it in the socket; b"" after the deadline, end of file or an error."""
        task = asyncio.current_task()
        assert task is not None
        self._silent.add(task)
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        return sock.recv(1, socket.MSG_PEEK)
                    except (BlockingIOError, InterruptedError):
                        pass
                    # Not in the except block: in compiled code, an exception that is handled while the coroutine
                    # waits can stay the handled exception for good.
                    await self._wait_readable(sock)
        except TimeoutError:
            self._count_failure(
                Limit.HANDSHAKE_TIMEOUT, _peer_for_log(sock), "the client said nothing"
            )
            return b""
        except OSError:
            return b""
        finally:
            self._silent.discard(task)

    async def _wait_readable(self, sock: socket.socket) -> None:
        readable = self._loop.create_future()

        def on_readable() -> None:
            if not readable.done():
                readable.set_result(None)

        self._loop.add_reader(sock.fileno(), on_readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(sock.fileno())

    async def _shake_hands(
        self,
        sock: socket.socket,
        entrance: Entrance,
        deadline: float,
        make_protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        peer = _peer_for_log(sock)
        try:
            await self._loop.connect_accepted_socket(
                make_protocol,
                sock,
                ssl=entrance.context,
                ssl_handshake_timeout=max(deadline - self._loop.time(), _SHORTEST),
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError as error:
            # Both loops end a handshake that takes too long with ConnectionAbortedError, and one that fails
            # otherwise with ssl.SSLError or ConnectionResetError. They have closed the socket by then.
            is_late = isinstance(error, ConnectionAbortedError)
            limit = Limit.HANDSHAKE_TIMEOUT if is_late else Limit.HANDSHAKE_FAILED
            self._count_failure(limit, peer, str(error) or type(error).__name__)

    def _count_failure(self, limit: Limit, peer: str, reason: str) -> None:
        """Count a connection that ended before its connection object was made.

        It is logged at level debug only, since otherwise any client on the network could fill the log.
        """
        self._record.count_limit(limit)
        if peer:
            _logger.debug("No TLS with %s: %s", peer, reason)

    def _adopted(self, task: asyncio.Task[Any]) -> None:
        self._adopting.discard(task)
        self._ended(None if task.cancelled() else task.exception())

    def _connected(self, connecting: Connecting, error: BaseException | None) -> None:
        self._connecting.discard(connecting)
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        self.note_room()
        if error is not None and not isinstance(error, asyncio.CancelledError):
            _logger.error("An accepted connection could not be set up: %s", error)

    def _defer_accept(self) -> None:
        """Leave waiting connections to a worker with fewer connections for DEFER_ACCEPT_SECONDS.

        The kernel has woken that worker, too; it accepts them unless its loop is blocked.
        """
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())
        if self._resume is None:
            self._resume = self._loop.call_later(DEFER_ACCEPT_SECONDS, self._step_up)

    def _step_up(self) -> None:
        """Accept what no other worker has accepted."""
        self._resume = None
        self._listen()
        for entrance in self._entrances:
            if self._resume is None:
                self._accept(entrance, LEAD, in_any_case=True)

    def _rest(self) -> None:
        """Pause because there is no room: connections wait for other workers, or until a connection ends here."""
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())
        self._is_full = True
        if self._resume is None:
            # Connections that are busy now may be idle after the pause, and can then be closed to make room.
            self._resume = self._loop.call_later(FULL_PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._resume = None
        self.note_room()

    def _pause(self, error: OSError) -> None:
        """Pause after `error`; otherwise the loop would spin on a connection that cannot be accepted."""
        if not self._accepting:
            return
        self.stop()
        _logger.error(
            "Cannot accept connections: %s. Trying again in %s s; raise the limit of open files "
            "(ulimit -n) or lower the number of connections",
            error.strerror,
            EXHAUSTED_PAUSE,
        )
        self._resume = self._loop.call_later(EXHAUSTED_PAUSE, self.start)


def _peer_for_log(sock: socket.socket) -> str:
    """Return the peer's address; "" when level debug is not logged."""
    if not _logger.isEnabledFor(logging.DEBUG):
        return ""
    try:
        name = sock.getpeername()
    except OSError:
        # The peer has disconnected.
        name = None
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a client"
