"""What a process tells of its imports, in shared memory: a long list does not fit into a message.

Descriptors are passed beside a message (`ipc.messages`) and belong to the receiver.
"""

import os
from typing import TypeVar

import msgspec

Value = TypeVar("Value")


Signature = tuple[int, int, int]
"""Of a file: time of change of its content and of its entry in nanoseconds, and size."""


class ModuleFile(msgspec.Struct, frozen=True, array_like=True):
    name: str
    file: str
    """Resolved."""


class ImportRecord(msgspec.Struct, frozen=True):
    """What loading the application imports."""

    libraries: tuple[str, ...] = ()
    """Modules that are not the application's, in the order in which their import begins."""
    files: tuple[ModuleFile, ...] = ()
    """The application's modules, likewise."""
    variables: dict[str, str | None] = {}
    """Environment variables that are different afterwards; None for one that is gone."""


class FilesRead(msgspec.Struct, frozen=True):
    """The application's files that an import checkpoint holds, resolved, and how they looked before they were
    read."""

    files: dict[str, Signature]


class LibraryBaseContents(msgspec.Struct, frozen=True):
    """What a library base holds."""

    tops: tuple[str, ...]
    """Top-level names of its modules."""
    directories: tuple[str, ...]
    """Where its modules, and those that could take their place, lie."""
    search_path: dict[str, Signature] = {}
    """Directories in which libraries are looked for; they change when one is installed."""
    left_out: tuple[str, ...] = ()
    """Modules that could not be imported early."""


def sign(path: str) -> Signature | None:
    """Return how a file or directory looks now; None for one that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def seal(value: msgspec.Struct) -> int:
    """Return a descriptor of shared memory with the value; the caller closes it."""
    data = msgspec.msgpack.encode(value)
    descriptor = os.memfd_create("asgireload-record", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def unseal(descriptor: int, kind: type[Value]) -> Value:
    """Return what `seal` put there, and close the descriptor."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return msgspec.msgpack.decode(file.read(), type=kind)
