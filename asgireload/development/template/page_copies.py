"""Make private copies of the memory pages of a forked process before it writes to them.

After a fork, parent and child share their pages until one of them writes. An import writes reference counts to
thousands of pages, and each first write costs a page fault: a fifth of the time of a load. A standby template,
which waits for its order, can have the kernel copy the pages ahead of time, at the price of memory.
"""

import array
import ctypes
import mmap
from collections.abc import Callable, Iterator

_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE in madvise(2), since Linux 5.14; older kernels refuse it, and pages are copied at first
write."""
_PRESENT = 1 << 63
"""The bit of an entry of /proc/self/pagemap for a page in memory: proc_pid_pagemap(5)."""
_ENTRY_BYTES = 8
PIECE_BYTES = 2 * 1024 * 1024
"""Bytes that are copied in one call, which takes a millisecond."""
MOST_BYTES = 512 * 1024 * 1024
"""Most bytes that are copied: more memory holds a data set loaded at import, to which an import does not write."""


def copy_pages(is_over: Callable[[], bool]) -> int:
    """Copy the present writable pages that this process shares with its parent; return the number of bytes.

    `is_over` is called between pieces; copying ends when it returns true.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    done = 0
    for start, end in _present_ranges():
        if done >= MOST_BYTES or is_over():
            break
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _POPULATE_WRITE):
            break
        done += end - start
    return done


def _present_ranges() -> Iterator[tuple[int, int]]:
    """Yield address ranges of private, writable pages that are in memory; absent pages must not be created."""
    with open("/proc/self/maps") as file:
        lines = file.read().splitlines()
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for line in lines:
            addresses, permissions, *_ = line.split(None, 2)
            if permissions[:2] != "rw" or permissions[3] != "p":
                continue
            first, last = (int(text, 16) for text in addresses.split("-"))
            pagemap.seek(first // mmap.PAGESIZE * _ENTRY_BYTES)
            data = pagemap.read((last - first) // mmap.PAGESIZE * _ENTRY_BYTES)
            yield from _runs(first, array.array("Q", data))


def _runs(address: int, entries: "array.array[int]") -> Iterator[tuple[int, int]]:
    start = None
    for entry in entries:
        if entry & _PRESENT:
            if start is None:
                start = address
            elif address - start >= PIECE_BYTES:
                yield start, address
                start = address
        elif start is not None:
            yield start, address
            start = None
        address += mmap.PAGESIZE
    if start is not None:
        yield start, address
