"""Records of a process's imports, in shared memory because a long list does not fit into a message.

The descriptors are passed beside a message (`ipc.messages`); the receiver owns them.
"""

import os
from typing import TypeVar

import msgspec

Value = TypeVar("Value")


Signature = tuple[int, int, int]
"""Of a file: st_mtime_ns, st_ctime_ns and size."""


class ModuleFile(msgspec.Struct, frozen=True, array_like=True):
    name: str
    file: str
    """The resolved path."""


class ImportRecord(msgspec.Struct, frozen=True):
    """The modules that loading the application imports, and the environment variables that this changes."""

    libraries: tuple[str, ...] = ()
    """Modules that do not belong to the application, in the order in which their imports begin."""
    files: tuple[ModuleFile, ...] = ()
    """Modules of the application, in the order in which their imports begin."""
    variables: dict[str, str | None] = {}
    """Environment variables that the import changed, with their new values; None for a removed one."""


class FilesRead(msgspec.Struct, frozen=True):
    """The application's files that an import checkpoint has read, by resolved path, with their signatures before
    they were read."""

    files: dict[str, Signature]


class LibraryBaseContents(msgspec.Struct, frozen=True):
    """The modules that a library base has imported, and where they come from."""

    tops: tuple[str, ...]
    """Top-level names of the imported modules."""
    directories: tuple[str, ...]
    """Directories of its modules, and of modules that could shadow them."""
    search_path: dict[str, Signature] = {}
    """Directories that are searched for libraries; their signatures change when a library is installed."""
    left_out: tuple[str, ...] = ()
    """Modules that are not in the library base, because they could not be imported early."""


def sign(path: str) -> Signature | None:
    """Return the signature of a file or directory; None if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def seal(value: msgspec.Struct) -> int:
    """Return a descriptor of shared memory with the encoded value. The caller closes it. Raise OSError."""
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
    """Return the value that `seal` has written, and close the descriptor."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return msgspec.msgpack.decode(file.read(), type=kind)
