"""Private copies of pages, made ahead."""

import os

from asgireload.development.template.page_copies import copy_pages


def in_child(work):
    """Return what `work` returns in a forked process, as an int."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"%d" % work())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return int(text)


def test_memory_is_copied_and_holds_what_it_held():
    held = [bytes([number % 256]) * 4096 for number in range(2000)]

    def work():
        copied = copy_pages(lambda: False)
        assert all(piece == bytes([number % 256]) * 4096 for number, piece in enumerate(held))
        return copied

    assert in_child(work) >= 0


def test_it_ends_when_it_is_told_to():
    calls = iter([False, True])
    copied = in_child(lambda: copy_pages(lambda: next(calls)))
    assert copied <= 4 * 1024 * 1024
