"""A passage: the Unix socket pair through which connections go from one worker to another. Thin I/O.

Like `channel.Channel` it is of kind SOCK_SEQPACKET, so that messages keep their bounds and the end of the
other process is end of file. It differs in what must be exact here: every message that was sent before the
other ended is read, and a side can leave so that the other knows what became of each connection.

A process that ends with messages unread makes the next call here fail with ECONNRESET (unix(7) does not
say so; af_unix.c does), once, before what lies in the queue can be read. So that error is passed over;
end of file follows when the queue is empty.
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
"""Bytes of a parcel that travel in the message. A window of messages (`worker.offers.WINDOW`) has to fit into
the socket's buffer (208 KiB, of which the kernel counts about twice a message's size); idle connections take
a tenth of this. Larger parcels travel in a memfd."""
MESSAGE_LIMIT = 4096
"""Bytes of the longest message: an offer, or a window of settled numbers."""
_DESCRIPTORS = 2
_EXHAUSTED = (errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Sent(Enum):
    """What became of a message."""

    YES = auto()
    NO_ROOM = auto()
    """Not now."""
    GONE = auto()
    """The other end is closed, or listens no more."""


class Passage:
    """One end. Owns its socket. The descriptors it is given stay the caller's; those it returns become so."""

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
        """Send an offer. Raise OSError where the system has nothing left to send it with."""
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
                continue  # reported once; see above
            except BrokenPipeError:
                return Sent.GONE
            except OSError as error:
                # Too many descriptors are under way (unix(7)), or the kernel has no memory.
                if error.errno in _EXHAUSTED:
                    return Sent.NO_ROOM
                if error.errno == errno.ENOTCONN:
                    return Sent.GONE
                raise
            return Sent.YES

    def receive(self) -> tuple[PassageMessage, list[int]] | None:
        """Return the next message with its descriptors, or None at end of file.

        Descriptors that this process has no room for are missing. Raise BlockingIOError when nothing is
        there, ParcelError for bytes that mean nothing here; then the passage is of no use any more.
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

        True: what is not settled then stays with this side. False: the other has not been told, so that
        it takes what lies in its queue when it comes to read it; this side must not go on with it.

        The order is what makes this safe. First the other is told. Then shutdown() forbids it to send,
        at one instant for the kernel: what it said before lies in our queue, what it says later fails. A
        side that ends without a word, because it was killed, has not served anything that it had offered,
        so the other may take even what it could not say that it takes.
        """
        told = self.say(Withdrawn())
        if told is Sent.NO_ROOM:
            # As large as the kernel allows, which is above the default size that is full.
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
    """Return what `Passage.offer` put into a memfd, which stays the caller's. Raise ParcelError, OSError."""
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
