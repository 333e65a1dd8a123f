"""Does EPOLLEXCLUSIVE spare workers that share a listening socket from being woken for nothing?

    python benchmarks/exclusive_wakeups.py [--workers 4] [--connections 300]

Processes wait for one listening socket in three ways, and count how often they wake per connection:
`plain`: each has the socket in its event loop's epoll. `nested`: the socket is registered with
EPOLLEXCLUSIVE in an inner epoll, and that one in the loop's epoll; all that can be done from outside an
event loop. `direct`: the loop's own epoll waits with EPOLLEXCLUSIVE, which neither asyncio nor uvloop
offers. Connections come one at a time, when all workers are idle.
"""

import argparse
import mmap
import os
import select
import signal
import socket
import struct
import time

EPOLLEXCLUSIVE = 1 << 28


def wait_in(way: str, listener: socket.socket) -> tuple[select.epoll, list[select.epoll]]:
    """Return the epoll to wait in, and what must stay alive with it."""
    outer = select.epoll()
    if way == "plain":
        outer.register(listener, select.EPOLLIN)
        return outer, []
    exclusive = select.EPOLLIN | EPOLLEXCLUSIVE
    if way == "direct":
        outer.register(listener, exclusive)
        return outer, []
    inner = select.epoll()
    inner.register(listener, exclusive)
    outer.register(inner, select.EPOLLIN)
    return outer, [inner]


def work(way: str, listener: socket.socket, board: mmap.mmap, index: int) -> None:
    outer, inner = wait_in(way, listener)
    wakeups = accepted = 0
    while True:
        outer.poll()
        wakeups += 1
        for epoll in inner:
            epoll.poll(0)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            pass  # another worker was faster: woken for nothing
        else:
            connection.close()
            accepted += 1
        struct.pack_into("QQ", board, index * 16, wakeups, accepted)


def measure(way: str, workers: int, connections: int) -> float:
    """Return wake-ups per connection over all workers."""
    board = mmap.mmap(-1, 16 * workers)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.setblocking(False)
        children = []
        for index in range(workers):
            child = os.fork()
            if child == 0:
                work(way, listener, board, index)
            children.append(child)
        time.sleep(0.2)
        for _ in range(connections):
            socket.create_connection(listener.getsockname()).close()
            time.sleep(0.003)  # until every worker is idle again
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    counts = [struct.unpack_from("QQ", board, index * 16) for index in range(workers)]
    woken = sum(int(wakeups) for wakeups, _ in counts)
    return woken / sum(int(accepted) for _, accepted in counts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=300)
    options = parser.parse_args()
    print(f"Linux {os.uname().release}, {os.cpu_count()} CPUs, {options.workers} workers")
    for way in ("plain", "nested", "direct"):
        wakeups = measure(way, options.workers, options.connections)
        print(f"{way:<8}{wakeups:>6.2f} wake-ups per connection")


if __name__ == "__main__":
    main()
