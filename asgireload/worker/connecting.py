"""Give a connected socket to the event loop: what `loop.connect_accepted_socket` does, without a task for it.

That coroutine makes the transport in its first step and then waits for `connection_made`. A task would carry it
through three more turns of the loop. Here the first step is made at once, and the second when that has come.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any


class BareSocket:
    """A connected socket without a socket object, which takes two more system calls to make.

    uvloop asks for no more than this: it makes the descriptor its own, and non-blocking, and reads and writes
    by itself. Other loops use the object that they are given.
    """

    __slots__ = ("_descriptor", "family", "peer", "type")

    def __init__(self, descriptor: int, family: int, kind: int, peer: object = None) -> None:
        self._descriptor = descriptor
        self.family = family
        self.type = kind
        self.peer = peer
        """Who has connected, as accept(2) says it."""

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        """uvloop says that it has closed the descriptor."""

    def discard(self) -> None:
        """Close the descriptor, which the loop has not made its own."""
        os.close(self._descriptor)


def takes_bare_sockets(loop: asyncio.AbstractEventLoop) -> bool:
    return type(loop).__module__.partition(".")[0] == "uvloop"


class Connecting:
    """A socket on its way to its connection object."""

    __slots__ = ("_on_ended", "_socket", "_way", "waiter")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        connected: socket.socket | BareSocket,
        on_ended: Callable[["Connecting", BaseException | None], None],
    ) -> None:
        """`connected` is the loop's from `begin` on; one that cannot be set up is closed.

        `on_ended` gets this object and what went wrong: None when `connection_made` was called,
        `asyncio.CancelledError` after `cancel`.
        """
        self._socket = connected
        self._on_ended = on_ended
        # The type stubs know sockets only.
        self._way: Coroutine[Any, Any, object] = loop.connect_accepted_socket(
            make_protocol,
            connected,  # type: ignore[arg-type]
        )
        self.waiter: asyncio.Future[Any] | None = None
        """What it waits for."""

    def begin(self) -> None:
        """Make the transport. `on_ended` may be called within."""
        try:
            self.waiter = self._way.send(None)
        except StopIteration:
            self._on_ended(self, None)
        except Exception as error:  # noqa: BLE001 - told, as a task would
            if isinstance(self._socket, BareSocket):
                self._socket.discard()
            else:
                self._socket.close()
            self._on_ended(self, error)
        else:
            self._wait()

    def cancel(self) -> None:
        """Close it, if it has begun."""
        if self.waiter is not None:
            self.waiter.cancel()

    def _wait(self) -> None:
        assert self.waiter is not None
        # What a task says to a future that it waits for.
        self.waiter._asyncio_future_blocking = False
        self.waiter.add_done_callback(self._go_on)

    def _go_on(self, waiter: "asyncio.Future[Any]") -> None:
        try:
            self.waiter = self._way.send(None)
        except StopIteration:
            self._on_ended(self, None)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - told, as a task would
            self._on_ended(self, error)
        else:
            self._wait()


async def wait_ended(connecting: set[Connecting]) -> None:
    """Return when none is left in a set from which `on_ended` takes each. Cancel freely."""
    while waiters := [each.waiter for each in connecting if each.waiter is not None]:
        await asyncio.wait(waiters)
