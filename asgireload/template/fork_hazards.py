"""What importing an application left behind that a fork does not carry over.

Importing libraries is harmless, their native threads included; starting Python threads, event loops or
connections while importing is not: in a forked worker the thread does not exist and the connection is
shared with every other worker.
"""

import os
import socket
import sys
import threading

import msgspec


class Leftovers(msgspec.Struct, frozen=True):
    unsafe: tuple[str, ...]
    """For a person: each thing that forbids forking, and where it comes from."""
    native_threads: tuple[str, ...]
    """Names of threads that Python does not know; harmless."""


def open_descriptors() -> frozenset[int]:
    """Return the numbers of this process's open descriptors."""
    return frozenset(number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number))


def _is_open(descriptor: int) -> bool:
    """The listing names its own descriptor too, which is closed by now and will be used again."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def find_leftovers(before: frozenset[int]) -> Leftovers:
    """Look at threads and at the descriptors that were not open `before` the import."""
    unsafe = [_describe_thread(thread) for thread in threading.enumerate()]
    unsafe = [text for text in unsafe if text]
    for descriptor in sorted(open_descriptors() - before):
        text = _describe_descriptor(descriptor)
        if text:
            unsafe.append(text)
    return Leftovers(tuple(unsafe), _native_threads())


def _describe_thread(thread: threading.Thread) -> str:
    if thread is threading.main_thread() or thread.ident is None:
        return ""
    place = ""
    frame = sys._current_frames().get(thread.ident)
    # The outermost frame that is neither threading's nor the library's that waits: the thread's own code.
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    for frame in reversed(frames):
        module = frame.f_globals.get("__name__", "")
        if module != "threading":
            place = f" ({module}, {frame.f_code.co_filename}:{frame.f_code.co_firstlineno})"
            break
    return f"thread {thread.name!r} was started at import{place}"


def _describe_descriptor(descriptor: int) -> str:
    try:
        return _describe_open(descriptor)
    except OSError:
        return ""  # a thread of the application has closed it meanwhile


def _describe_open(descriptor: int) -> str:
    target = os.readlink(f"/proc/self/fd/{descriptor}")
    if target == "anon_inode:[eventpoll]":
        return "an event loop or selector was made at import"
    if not target.startswith("socket:"):
        return ""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.type != socket.SOCK_STREAM:
            return ""  # datagrams of several processes do not mix
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"a socket was opened at import that listens on {_text(sock.getsockname())}"
        try:
            peer = sock.getpeername()
        except OSError:
            return ""  # not connected
        if sock.family == socket.AF_UNIX and not peer:
            return "a socket pair was made at import (an event loop, or a child process)"
        return f"a connection to {_text(peer)} was opened at import"


def _text(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return str(address)


def _native_threads() -> tuple[str, ...]:
    known = {thread.native_id for thread in threading.enumerate()}
    names = []
    for task in os.listdir("/proc/self/task"):
        if int(task) in known:
            continue
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            continue  # it has ended meanwhile
    return tuple(sorted(names))
