"""A passage: the Unix socket pair through which connections go from one worker to another. Thin I/O.

Like `channel.Channel` it uses SOCK_SEQPACKET, so messages keep their boundaries and the exit of the other process
is end of file. Two guarantees are added: every message that was sent before the other process ended is read, and a
side can leave so that both sides agree on the owner of each connection.

When a process ends with unread messages, the next call on the other end fails with ECONNRESET once, before the
queue can be read (unix(7) does not mention this; see af_unix.c). That error is ignored; end of file follows when
the queue is empty.
"""

import array
import errno
import fcntl
import os
import socket
from enum import Enum, auto

from asgireload.errors import ParcelError
from asgireload.ipc.parcels import (
    PARCEL_LIMIT,
    Offer,
    PassageMessage,
    Withdrawn,
    decode_message,
    encode_message,
)

INLINE_LIMIT = 1024
"""Bytes of the largest parcel that is sent in the message. A window of messages (`worker.offers.WINDOW`) must fit
into the socket's buffer (208 KiB, of which the kernel counts about twice a message's size); idle connections take a
tenth of this limit. Larger parcels are sent in a memfd."""
MESSAGE_LIMIT = 4096
"""Bytes of the longest message: an offer, or a window of settled numbers."""
_DESCRIPTORS = 2
_EXHAUSTED = (errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Sent(Enum):
    """The result of sending a message."""

    YES = auto()
    NO_ROOM = auto()
    """The message cannot be sent now."""
    GONE = auto()
    """The other end is closed, or does not read any more."""


class Passage:
    """One end, which owns its socket. The caller keeps the descriptors that it passes, and owns those returned."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple["Passage", "Passage"]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_closed(self) -> bool:
        return self._socket.fileno() == -1

    def offer(self, number: int, parcel: bytes, descriptor: int) -> Sent:
        """Send an offer. Raise OSError when no memory or descriptor is left for the parcel."""
        if len(parcel) <= INLINE_LIMIT:
            return self._send(Offer(number, parcel), (descriptor,))
        sealed = _seal(parcel)
        try:
            return self._send(Offer(number, b""), (descriptor, sealed))
        finally:
            os.close(sealed)

    def say(self, message: PassageMessage) -> Sent:
        return self._send(message, ())

    def _send(self, message: PassageMessage, descriptors: tuple[int, ...]) -> Sent:
        if self.is_closed:
            return Sent.GONE
        data = encode_message(message)
        assert len(data) <= MESSAGE_LIMIT, "message too large"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        while True:
            try:
                self._socket.sendmsg([data], rights if descriptors else [], socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                return Sent.NO_ROOM
            except ConnectionResetError:
                continue  # reported once; see the module's docstring
            except BrokenPipeError:
                return Sent.GONE
            except OSError as error:
                # Too many descriptors are in flight (unix(7)), or the kernel has no memory.
                if error.errno in _EXHAUSTED:
                    return Sent.NO_ROOM
                if error.errno == errno.ENOTCONN:
                    return Sent.GONE
                raise
            return Sent.YES

    def receive(self) -> tuple[PassageMessage, list[int]] | None:
        """Return the next message with its descriptors, or None at end of file.

        Descriptors beyond the limit of open files are missing. Raise BlockingIOError when no message is there,
        ParcelError for bytes that cannot be decoded; then the passage cannot be used any more.
        """
        space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    MESSAGE_LIMIT, space, socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:
                continue
            break
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        if not data:
            return None
        try:
            return decode_message(data), list(descriptors)
        except ParcelError:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    def withdraw(self) -> bool:
        """Make sure that nothing more can be settled; what was settled before can still be received.

        Return True if unsettled offers stay with this side. Return False if the other side was not told: it then
        takes the offers in its queue when it reads them, and this side must not serve them.

        The order makes this safe. First Withdrawn is sent. Then shutdown() ends the other side's sending, at one
        instant for the kernel: messages sent before are in this side's queue, later ones fail. If this side is
        killed and leaves without Withdrawn, it has served nothing that it had offered, so the other side may even
        take connections that it could not settle.
        """
        told = self.say(Withdrawn())
        if told is Sent.NO_ROOM:
            # Above the default size, which is full: as large as the kernel allows.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            told = self.say(Withdrawn())
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        return told is not Sent.NO_ROOM

    def close(self) -> None:
        self._socket.close()


def read_parcel(descriptor: int) -> bytes:
    """Return the parcel that `Passage.offer` put into a memfd. The caller closes it. Raise ParcelError, OSError."""
    size = os.fstat(descriptor).st_size
    if size > PARCEL_LIMIT:
        raise ParcelError(f"a parcel of {size} bytes is larger than {PARCEL_LIMIT}")
    pieces = []
    offset = 0
    while offset < size:
        piece = os.pread(descriptor, size - offset, offset)
        if not piece:
            raise ParcelError("a parcel ends early")
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _seal(data: bytes) -> int:
    descriptor = os.memfd_create("asgireload-parcel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
