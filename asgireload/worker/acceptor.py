"""Take connections from the listening sockets and give each to the event loop.

Our own accepting, not the loop's server: it stops at once and completely (closing asyncio's server
resets connections that were accepted in the same turn of the loop), it leaves the listening sockets to
whoever owns them, and it takes a bounded number each time, so that one worker does not swallow a burst
its siblings could share.

From there to its connection object is one step of the loop (`connecting.py`), or none where the first bytes are
there already (`inline_serving.py`). Behind a proxy or with TLS a socket is in one coroutine, `_adopt`: it waits
for the PROXY header (`proxy_header.py`), then for the first byte, since a client that says nothing is not worth
the buffers of a handshake, and then for the handshake. All together have one deadline.
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
"""Seconds for which a worker that has more connections than another leaves new ones to that one."""
LAST_CALL: Final = 1.5
"""Seconds for which connections are awaited that the kernel holds back, and may for one."""
LAST_CALL_INTERVAL: Final = 0.02
"""Seconds between two looks at what it holds back."""
SHUTDOWN_TIMEOUT: Final = 30.0
"""Seconds a client may take over the rest of its response and the end of TLS, once we have closed."""
_SHORTEST: Final = 0.001
"""Seconds; loops refuse a handshake timeout of none at all."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_logger = logging.getLogger("asgireload.error")


# The first step at once, where Python can. None of it is the application's, so its task factory is not asked.
_Task: Any = asyncio.Task
"""Type stubs for 3.11, which the checker goes by, do not know how to start eagerly."""
_new_task = partial(_Task, eager_start=True) if sys.version_info >= (3, 12) else _Task
_Socket = socket.socket
"""By a name that a field called `socket` does not hide."""


def _always(pending: int) -> bool:
    return True


class Entrance:
    """A listening socket, and how those who come through it are received."""

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
        """For TLS. May be replaced at any time: handshakes that begin afterwards use the new one."""
        self.is_deferred = is_deferred(listening)
        """Connections come with their first bytes."""
        self.local = fixed_address(listening)
        """At which address every connection is accepted; None where that is another one each time."""
        self._family, self._type = int(listening.family), int(listening.type)
        kind = (self._family, self._type, listening.proto)
        # A socket looks its family and type up in their enumerations whenever it is asked, and loops ask
        # several times for each connection. Measured: a fifth of what the server does for one.
        plain = {"__slots__": (), "family": listening.family, "type": listening.type}
        self._accepted = partial(type("AcceptedSocket", (socket.socket,), plain), *kind)

    @property
    def is_plain(self) -> bool:
        """Nothing comes before the first byte of HTTP."""
        return not (self.traits.proxy or self.traits.tls)

    def accept(self) -> _Socket:
        """Return the next connection, non-blocking. Raise what accept(2) reports, as OSError."""
        # What socket.accept() does, but for the class of the socket that it makes. Type stubs lack it.
        descriptor, _ = self.socket._accept()  # type: ignore[attr-defined]
        accepted: _Socket = self._accepted(descriptor)
        accepted.setblocking(False)
        return accepted

    def accept_bare(self) -> BareSocket:
        """Likewise, without a socket object. It blocks until uvloop has it."""
        descriptor, peer = self.socket._accept()  # type: ignore[attr-defined]
        return BareSocket(descriptor, self._family, self._type, peer)


class Acceptor:
    """Accepts from `entrances`, whose sockets must listen and be non-blocking; they stay the caller's to
    close.

    `handshake_timeout` in seconds bounds what comes before the connection object; `record` counts those
    who run into it.
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
        """`make_protocol` gets what a PROXY header said; `proxy_headers` reads them where an entrance asks for
        them. Through `inline` go connections that come with their first bytes, past `make_protocol`.

        `has_room` is asked before each connection, with the number of those that are on their way
        to their connection object; after a no, accepting rests until `note_room`. `balance` is asked in the
        same way; when we are ahead, what still waits a moment later is taken after all.
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
        """Accepted on plain addresses, and not connection objects yet."""
        self._adopting: set[asyncio.Task[Any]] = set()
        """Likewise, with a handshake or a PROXY header before that."""
        self._silent: set[asyncio.Task[Any]] = set()
        """Those of them whose client has not said anything."""
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
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
        """Accept nothing more. Connections that still wait belong to the other workers. Idempotent."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())

    def note_room(self) -> None:
        """A connection has ended."""
        if self._is_full:
            self._is_full = False
            if self._accepting:
                # An application may have ended the connection, and its variables are not for those that come.
                self._variables.copy().run(self.start)

    async def last_call(self, *, is_everybodys: bool) -> None:
        """Go on accepting until the kernel holds no connection back, where perhaps nobody accepts afterwards.

        That is a second and a half at most: a client that has connected by now has been handed on by then. With
        `is_everybodys`, nobody does, and clients that connect from now on are not held back either.
        """
        ports = []
        for entrance in self._entrances:
            if entrance.is_deferred:
                if is_everybodys:
                    stop_deferring(entrance.socket)
                ports.append(entrance.socket.getsockname()[1])
        deadline = self._loop.time() + LAST_CALL
        while ports and self._loop.time() < deadline:
            # In a thread: where there are very many connections, the table is long.
            if not await run_aside(self._loop, holds_back, ports):
                break
            await asyncio.sleep(LAST_CALL_INTERVAL)

    def take_waiting(self) -> None:
        """Accept all that waits now, where nobody else will: the server stops, or the slot goes away."""
        for entrance in self._entrances:
            self._accept(entrance, None)

    async def wait_adopted(self, patience: float) -> None:
        """Return when every accepted socket has its connection object or is closed.

        A client that says nothing within `patience` seconds is not waited for; one that does has the
        time that a handshake may take. Cancel freely; `abandon` then ends what is left.
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
            # Whatever ends the taking, nobody who was taken is forgotten.
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
        """Move up to `most` connections from the queue to `taken`."""
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
                # accept(2) passes on errors of the new connection's network; the next one may be fine.
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
        """Lead one accepted socket to its connection object by way of what comes before, or close it."""
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
            # Closed or reset without a word: that is how load balancers see whether we live.
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
        """Return the first byte and leave it in the socket; nothing when none came in time, or ever will."""
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
                    # Not up there: compiled, an exception that is handled during a wait can stay handled for good.
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
            # Both loops end a handshake that takes too long with ConnectionAbortedError, and any other
            # that fails with ssl.SSLError or ConnectionResetError. The socket is closed by then.
            is_late = isinstance(error, ConnectionAbortedError)
            limit = Limit.HANDSHAKE_TIMEOUT if is_late else Limit.HANDSHAKE_FAILED
            self._count_failure(limit, peer, str(error) or type(error).__name__)

    def _count_failure(self, limit: Limit, peer: str, reason: str) -> None:
        """Count a client that did not get as far as a connection.

        The log says so at level debug only: anybody on the network could fill it otherwise.
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
        """Let a worker with fewer connections go first. It has been woken, too, unless it is blocked."""
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())
        if self._resume is None:
            self._resume = self._loop.call_later(DEFER_ACCEPT_SECONDS, self._step_up)

    def _step_up(self) -> None:
        """Take what nobody else has taken."""
        self._resume = None
        self._listen()
        for entrance in self._entrances:
            if self._resume is None:
                self._accept(entrance, LEAD, in_any_case=True)

    def _rest(self) -> None:
        """There is no room: what waits is left to other workers, or waits until a connection ends."""
        for entrance in self._entrances:
            self._loop.remove_reader(entrance.socket.fileno())
        self._is_full = True
        if self._resume is None:
            # Connections that are busy now may be idle then.
            self._resume = self._loop.call_later(FULL_PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._resume = None
        self.note_room()

    def _pause(self, error: OSError) -> None:
        """A loop that is told again and again of a connection it cannot take would only spin."""
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
    """Return who is at the other end; nothing where the log does not want to know."""
    if not _logger.isEnabledFor(logging.DEBUG):
        return ""
    try:
        name = sock.getpeername()
    except OSError:
        # It has left already.
        name = None
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a client"
