"""Somebody who edits, and a browser that never rests: questions over new connections, and saves between them."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .judging import PROBES, Answer, Save
from .projects import VERSION

RATE = 200
"""New connections a second."""
ANSWER_TIMEOUT = 10.0
NOTICE_TIMEOUT = 12.0
"""Until a save is given up; the slowest reloader needs about three seconds."""
MOST_OPEN = 1024
"""Questions that wait at once; a server that keeps so many waiting is asked no more until it answers."""
ANSWER_LIMIT = 16 * 1024
MISSES_ALLOWED = 2
"""After which the session ends: a server that has stopped to notice would cost minutes."""
QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Session:
    """All that is asked of one server, and what came of it."""

    def __init__(self, port: int, is_alive: Callable[[], bool]) -> None:
        self._port = port
        self._is_alive = is_alive
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._newest = -1
        self.answers: list[Answer] = []
        self.saves: list[Save] = []

    async def edit(
        self, path: Path, text: Callable[[int], str], pauses: Sequence[float], *, first: int
    ) -> None:
        """Save one version after the other, from number `first`, while the server is asked all the time."""
        poller = asyncio.create_task(self._poll())
        misses = 0
        try:
            for number, pause in enumerate(pauses, first):
                await asyncio.sleep(pause)
                self._save(path, text(number), number)
                for offset in PROBES:
                    self._spawn(self._probe(offset, number))
                if not await self.wait_version(number):
                    misses += 1
                if misses > MISSES_ALLOWED or not self._is_alive():
                    break
            await asyncio.sleep(max(PROBES))
        finally:
            poller.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(poller, *self._tasks, return_exceptions=True)

    async def ask(self) -> Answer:
        """Ask once, outside of the counting."""
        return await _ask(self._port)

    async def wait_version(self, number: int, timeout: float = NOTICE_TIMEOUT) -> bool:
        """Wait for an answer of this version or a later one; return whether it came in time."""
        try:
            async with asyncio.timeout(timeout):
                while self._newest < number:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _save(self, path: Path, text: str, number: int) -> None:
        self.saves.append(Save(number, save(path, text)))

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if len(self._tasks) < MOST_OPEN:
                self._spawn(self._question())
            due = max(due + 1 / RATE, loop.time() - 1 / RATE)
            await asyncio.sleep(due - loop.time())

    def _spawn(self, coroutine: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _question(self) -> None:
        self._take(await _ask(self._port))

    async def _probe(self, offset: float, number: int) -> None:
        saved_at = self.saves[-1].at
        await asyncio.sleep(saved_at + offset - time.monotonic())
        self._take(await _ask(self._port, probe=offset, save=number))

    def _take(self, answer: Answer) -> None:
        self.answers.append(answer)
        if answer.version is not None and answer.version > self._newest:
            self._newest = answer.version
            self._news.set()


def save(path: Path, text: str) -> float:
    """Write a file as editors do that write in place; return when it was closed, monotonic."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    return time.monotonic()


async def _ask(port: int, *, probe: float | None = None, save: int = 0) -> Answer:
    asked_at = time.monotonic()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            got = await _exchange(port)
    except ConnectionRefusedError:
        outcome: tuple[int | None, str] = None, "refused"
    except (ConnectionResetError, BrokenPipeError):
        outcome = None, "reset"
    except TimeoutError:
        outcome = None, "late"
    else:
        found = VERSION.search(got)
        outcome = (int(found[1]), "") if found else (None, "wrong" if got else "empty")
    return Answer(asked_at, time.monotonic(), *outcome, probe=probe, save=save)


async def _exchange(port: int) -> bytes:
    """Return what the server says, up to the version or its end."""
    loop = asyncio.get_running_loop()
    got = b""
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, QUESTION)
        while len(got) < ANSWER_LIMIT and not VERSION.search(got):
            piece = await loop.sock_recv(sock, 4096)
            if not piece:
                break
            got += piece
    return got
