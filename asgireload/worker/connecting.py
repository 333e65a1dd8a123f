"""Give a connected socket to the event loop by `loop.connect_accepted_socket`, without a task.

The coroutine makes the transport in its first step and then waits for `connection_made`. A task would need three
more turns of the loop. Here the first step runs at once, and the second when `connection_made` was called.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any


class BareSocket:
    """A connected socket without a socket object, which saves two system calls.

    It has what uvloop uses of a socket: uvloop owns the descriptor, makes it non-blocking, and reads and writes by
    itself. Other loops use the socket object.
    """

    __slots__ = ("_descriptor", "family", "peer", "type")

    def __init__(self, descriptor: int, family: int, kind: int, peer: object = None) -> None:
        self._descriptor = descriptor
        self.family = family
        self.type = kind
        self.peer = peer
        """The peer's address, as accept(2) returns it."""

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        """Do nothing: uvloop calls this after it has closed the descriptor itself."""

    def discard(self) -> None:
        """Close the descriptor when the loop does not own it yet."""
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
        """The loop owns `connected` from `begin` on; if the connection cannot be set up, the socket is closed.

        `on_ended` is called with this object and the error: None when `connection_made` was called,
        `asyncio.CancelledError` after `cancel`.
        """
        self._socket = connected
        self._on_ended = on_ended
        # The type stubs allow socket objects only.
        self._way: Coroutine[Any, Any, object] = loop.connect_accepted_socket(
            make_protocol,
            connected,  # type: ignore[arg-type]
        )
        self.waiter: asyncio.Future[Any] | None = None
        """The future that the coroutine waits for."""

    def begin(self) -> None:
        """Make the transport. May call `on_ended` before it returns."""
        try:
            self.waiter = self._way.send(None)
        except StopIteration:
            self._on_ended(self, None)
        except Exception as error:  # noqa: BLE001 - passed on, as a task would
            if isinstance(self._socket, BareSocket):
                self._socket.discard()
            else:
                self._socket.close()
            self._on_ended(self, error)
        else:
            self._wait()

    def cancel(self) -> None:
        """Cancel the setup, which closes the socket, if `begin` was called."""
        if self.waiter is not None:
            self.waiter.cancel()

    def _wait(self) -> None:
        assert self.waiter is not None
        # As a task does with a future that it waits for.
        self.waiter._asyncio_future_blocking = False
        self.waiter.add_done_callback(self._go_on)

    def _go_on(self, waiter: "asyncio.Future[Any]") -> None:
        try:
            self.waiter = self._way.send(None)
        except StopIteration:
            self._on_ended(self, None)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - passed on, as a task would
            self._on_ended(self, error)
        else:
            self._wait()


async def wait_ended(connecting: set[Connecting]) -> None:
    """Return when `connecting` is empty; `on_ended` must remove each element. May be cancelled."""
    while waiters := [each.waiter for each in connecting if each.waiter is not None]:
        await asyncio.wait(waiters)
