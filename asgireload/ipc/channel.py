"""A channel: one end of a Unix socket pair that carries whole messages and descriptors.

SOCK_SEQPACKET keeps message boundaries and reports the exit of the peer as end of file (unix(7)), so no framing is
needed. This is specific to Linux; elsewhere a stream socket with a length prefix would take its place.
"""

import array
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from asgireload.errors import ChannelClosedError
from asgireload.ipc.messages import AnyMessage

MESSAGE_LIMIT = 160 * 1024
"""Bytes in one message: below the kernel's default socket buffer of 208 KiB, above any traceback that is sent."""
DESCRIPTOR_LIMIT = 250
"""Descriptors beside one message; the kernel allows 253 (SCM_MAX_FD)."""
_QUEUE_LIMIT = 10_000
"""Messages that wait for a peer that does not read. A peer so far behind is dead or stuck."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


class _Loop(Protocol):
    """The methods of an event loop that an attached channel uses."""

    def add_reader(self, fd: int, callback: Callable[[], object]) -> object: ...
    def remove_reader(self, fd: int) -> object: ...
    def add_writer(self, fd: int, callback: Callable[[], object]) -> object: ...
    def remove_writer(self, fd: int) -> object: ...


def _unattached(*arguments: object) -> None:
    raise AssertionError("deliver() needs attach()")


class Channel:
    """One end of the pair. Used either blocking (`send`, `receive`) or attached to a loop (`attach`, `post`).

    The channel owns its socket: `close()` closes the socket and discards unsent messages.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop: _Loop | None = None
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._on_message: Callable[[AnyMessage, list[int]], None] = _unattached
        self._on_closed: Callable[[], None] = _unattached

    @classmethod
    def pair(cls) -> tuple["Channel", socket.socket]:
        """Return this process's end and the socket for the other process, which the caller passes on and closes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_closed(self) -> bool:
        return self._socket.fileno() == -1

    def send(self, message: AnyMessage, descriptors: Sequence[int] = ()) -> None:
        """Send one message, waiting for room in the buffer. Raise ChannelClosedError when the peer is gone."""
        try:
            self._send_bytes(_encoder.encode(message), descriptors)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error

    def receive(self) -> tuple[AnyMessage, list[int]]:
        """Return the next message with its descriptors, which the caller now owns.

        Raise ChannelClosedError at end of file, or when the limit of open files has kept descriptors from being
        received; BlockingIOError when the channel is attached and no message is there.
        """
        message, descriptors, is_whole = self._receive()
        if not is_whole:
            raise ChannelClosedError("descriptors were lost: the limit of open files is reached")
        return message, descriptors

    def _receive(self) -> tuple[AnyMessage, list[int], bool]:
        """As `receive`; the last value is False when descriptors were lost, and then none is returned."""
        space = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * array.array("i").itemsize)
        while True:
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    MESSAGE_LIMIT, space, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:
                # Reported once, before the queue can be read, when the peer has ended without reading all that
                # was sent to it (af_unix.c). The peer's messages follow, then end of file.
                continue
            break
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(payload) - len(payload) % descriptors.itemsize
                descriptors.frombytes(payload[:whole])
        if not data:
            raise ChannelClosedError("end of file")
        is_whole = not flags & socket.MSG_CTRUNC
        if not is_whole:
            while descriptors:
                os.close(descriptors.pop())
        try:
            return _decoder.decode(data), list(descriptors), is_whole
        except msgspec.MsgspecError as error:
            # Only a process of this server can write here. Garbage means that user code has written to a
            # descriptor that it does not own, so the peer cannot be trusted any more.
            for descriptor in descriptors:
                os.close(descriptor)
            raise ChannelClosedError(f"unreadable message: {error}") from error

    def has_message(self, timeout: float = 0.0) -> bool:
        """Return whether a message or end of file is there, or arrives within `timeout` seconds."""
        readable, _, _ = select.select([self._socket], [], [], timeout)
        return bool(readable)

    def attach(
        self,
        loop: _Loop,
        on_message: Callable[[AnyMessage, list[int]], None],
        on_closed: Callable[[], None],
    ) -> None:
        """Deliver messages through `loop`, then call `on_closed` once at end of file.

        When the limit of open files keeps descriptors from being received, the message is delivered without
        any: an application with too many open files is no reason to treat the peer as dead. Makes the socket
        non-blocking.
        """
        self._socket.setblocking(False)
        self._loop = loop
        self._on_message = on_message
        self._on_closed = on_closed
        loop.add_reader(self.fileno(), self.deliver)

    def deliver(self) -> None:
        """Deliver every message that is there now, such as those a process sent before it ended."""
        while not self.is_closed:
            try:
                message, descriptors, _ = self._receive()
            except BlockingIOError:
                return
            except ChannelClosedError:
                self.close()
                self._on_closed()
                return
            self._on_message(message, descriptors)

    def post(self, message: AnyMessage, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting. A message that does not fit into the buffer waits, in order, for the loop.

        Descriptors of waiting messages are duplicated, so the caller may close its own at once. Does nothing
        when the peer is gone: end of file is, or was, reported to `on_closed`.
        """
        if self.is_closed:
            return
        data = _encoder.encode(message)
        if not self._waiting:
            try:
                self._send_bytes(data, descriptors)
                return
            except BlockingIOError:
                assert self._loop is not None, "post() needs attach()"
                self._loop.add_writer(self.fileno(), self._flush)
            except (BrokenPipeError, ConnectionResetError):
                return
        if len(self._waiting) < _QUEUE_LIMIT:
            self._waiting.append((data, tuple(os.dup(fd) for fd in descriptors)))

    def _flush(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                self._send_bytes(data, descriptors)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._forget_waiting()
                break
            self._waiting.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        if self._loop is not None:
            self._loop.remove_writer(self.fileno())

    def _send_bytes(self, data: bytes, descriptors: Sequence[int]) -> None:
        assert len(data) <= MESSAGE_LIMIT, "message too large"
        if descriptors:
            rights = array.array("i", descriptors)
            self._socket.sendmsg(
                [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_NOSIGNAL
            )
        else:
            self._socket.send(data, socket.MSG_NOSIGNAL)

    def _forget_waiting(self) -> None:
        while self._waiting:
            for descriptor in self._waiting.popleft()[1]:
                os.close(descriptor)

    def close(self) -> None:
        if self.is_closed:
            return
        if self._loop is not None:
            self._loop.remove_reader(self.fileno())
            if self._waiting:
                self._loop.remove_writer(self.fileno())
        self._forget_waiting()
        self._socket.close()
