"""Take private copies of this process's memory before they are needed.

After a fork, parent and child share their pages until one of them writes. An import writes to thousands of
them, for it counts references to what is there, and each first write costs a fault: a fifth of the time of
a load. A process that waits for its order anyway can have the copies made ahead, at the price of its memory.
"""

import array
import ctypes
import mmap
from collections.abc import Callable, Iterator

_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE in madvise(2), since Linux 5.14; other kernels refuse it, and nothing is lost."""
_PRESENT = 1 << 63
"""In an entry of /proc/self/pagemap: proc_pid_pagemap(5)."""
_ENTRY_BYTES = 8
PIECE_BYTES = 2 * 1024 * 1024
"""A millisecond's work."""
MOST_BYTES = 512 * 1024 * 1024
"""Memory that is copied at most: beyond that a data set was loaded at import, which nobody writes to."""


def copy_pages(is_over: Callable[[], bool]) -> int:
    """Have this process own the pages that are in memory and may be written; return how many bytes.

    `is_over` is asked between pieces: true ends it.
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
    """Yield address ranges of private, writable pages that are there: others must not be made by us."""
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
