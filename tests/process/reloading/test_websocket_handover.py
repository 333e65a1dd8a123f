"""WebSockets through reloads of real servers: those that stay open, and those that are closed and come back."""

import asyncio
import os
import re
import signal
from collections import Counter

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.process.running import Server, wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

APP = """
import os

VERSION = 1
KEEPS = True


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    count = int(scope["extensions"]["asgireload.handover"].get("state", b"0"))
    await receive()
    await send({"type": "websocket.accept", "handover": KEEPS})
    while True:
        message = await receive()
        if message["type"] == "websocket.receive":
            count += 1
            text = f"{VERSION} {os.getpid()} {count} {message['text']}"
            await send({"type": "websocket.send", "text": text})
        elif message["type"] == "websocket.handover":
            await send({"type": "websocket.handover", "state": b"%d" % count})
            with open(os.path.join(os.path.dirname(__file__), "left"), "a") as left:
                left.write("1")
            return
        else:
            return
"""
OPTIONS = ["--no-access-log", "--probation", "0"]


def release(directory, version, *, keeps=True):
    code = APP.replace("VERSION = 1", f"VERSION = {version}").replace(
        "KEEPS = True", f"KEEPS = {keeps}"
    )
    temporary = directory / "app.py.new"
    temporary.write_text(code)
    temporary.rename(directory / "app.py")


async def reload(server):
    await asyncio.get_running_loop().run_in_executor(None, server.reload)


class Numbering:
    """Sends numbered messages in fragments without a pause, several at a time, and checks every answer."""

    def __init__(self, client):
        self.client = client
        self.sent = self.answered = 0
        self.versions = Counter()
        self.pids = set()
        self.room = asyncio.Semaphore(8)
        self.is_over = False

    async def send(self):
        while not self.is_over:
            await self.room.acquire()
            self.sent += 1
            text = f"{self.sent} " + "grüße " * (self.sent % 50)
            cut = len(text) // 3
            await self.client.send([text[:cut], text[cut : 2 * cut], text[2 * cut :]])

    async def check(self):
        while not (self.is_over and self.answered == self.sent):
            answer = await asyncio.wait_for(self.client.recv(), 20)
            self.answered += 1
            version, pid, count, number, words = answer.split(" ", 4)
            assert int(count) == int(number) == self.answered
            assert words == "grüße " * (self.answered % 50)
            self.versions[int(version)] += 1
            self.pids.add(int(pid))
            self.room.release()


@pytest.mark.parametrize(
    ("loop", "ws"), [("uvloop", "builtin"), ("asyncio", "builtin"), ("uvloop", "wsproto")]
)
def test_a_numbered_echo_is_not_interrupted_by_three_reloads(tmp_path, loop, ws):
    release(tmp_path, 1)

    async def main(server):
        url = f"ws://127.0.0.1:{server.port}/"
        busy = [Numbering(await connect(url)) for _ in range(4)]
        plain = await connect(url, compression=None)
        busy.append(Numbering(plain))
        idle = [await connect(url) for _ in range(40)]
        assert busy[0].client.protocol.extensions
        async with asyncio.TaskGroup() as group:
            for each in busy:
                group.create_task(each.send())
                group.create_task(each.check())
            for version in (2, 3, 4):
                release(tmp_path, version)
                await reload(server)
                reached = {each: each.versions[version] for each in busy}
                async with asyncio.timeout(20):
                    while any(each.versions[version] < reached[each] + 20 for each in busy):  # noqa: ASYNC110 - numbers, not an event
                        await asyncio.sleep(0.01)
                assert server.status()["last_reload"]["websockets_closed"] == 0
            for each in busy:
                each.is_over = True
        for each in busy:
            assert set(each.versions) == {1, 2, 3, 4}
            assert len(each.pids) == 4
            await each.client.close()
            assert each.client.close_code == 1000
        for client in idle:
            await client.send("still here")
            assert (await client.recv()).split(" ", 2)[0] == "4"
            await client.close()

    with Server(tmp_path, *OPTIONS, "--loop", loop, "--ws", ws, workers=2) as server:
        asyncio.run(main(server))


def test_successor_killed_when_the_states_are_given_costs_no_connection(tmp_path):
    """Their applications have left by then; the next worker goes on with what they gave."""
    release(tmp_path, 1)

    async def main(server):
        clients = [await connect(f"ws://127.0.0.1:{server.port}/") for _ in range(100)]
        for client in clients:
            await client.send("before")
            _, old, count, _ = (await client.recv()).split(" ", 3)
            assert count == "1"
        release(tmp_path, 2)
        assert server.control("reload").returncode == 0
        wait_until(lambda: len(server.workers()) == 2, what="the new worker")
        (new,) = set(server.worker_pids()) - {int(old)}
        os.kill(new, signal.SIGSTOP)
        left = tmp_path / "left"
        wait_until(lambda: left.exists() and left.stat().st_size == 100, what="100 states")
        os.kill(new, signal.SIGKILL)
        wait_until(lambda: server.worker_pids() and not server.workers("draining"))
        for client in clients:
            await client.send("after")
            version, pid, count, _ = (await client.recv()).split(" ", 3)
            assert (version, count) == ("2", "2")
            assert int(pid) not in (int(old), new)
            await client.close()

    with Server(tmp_path, "--no-access-log", "--probation", "1.5", workers=1) as server:
        asyncio.run(main(server))


CLIENTS = 300


def test_clients_that_are_closed_come_back_one_after_the_other_and_to_every_worker(tmp_path):
    """300 clients of two workers: three seconds of closes for each, and nobody is lost."""
    release(tmp_path, 1, keeps=False)
    closes = []
    hints = []
    pids = Counter()

    async def stay(url, came_back):
        while True:
            try:
                async with connect(url, compression=None) as client:
                    await client.send("hello")
                    version, pid, _ = (await client.recv()).split(" ", 2)
                    if version == "2":
                        pids[pid] += 1
                        came_back.release()
                    await client.wait_closed()
                    told = client.protocol.close_rcvd
            except ConnectionClosed as error:
                told = error.rcvd
            assert told.code == 1012
            closes.append(asyncio.get_running_loop().time())
            hint = int(
                re.fullmatch(r"service restart; reconnect in about (\d+) ms", told.reason)[1]
            )
            hints.append(hint)
            await asyncio.sleep(hint / 1000)

    async def main(server):
        came_back = asyncio.Semaphore(0)
        url = f"ws://127.0.0.1:{server.port}/"
        tasks = [asyncio.create_task(stay(url, came_back)) for _ in range(CLIENTS)]
        while sum(worker["websockets"] for worker in server.workers()) < CLIENTS:  # noqa: ASYNC110 - a number of another process
            await asyncio.sleep(0.05)  # asked for, not told
        release(tmp_path, 2, keeps=False)
        await reload(server)
        async with asyncio.timeout(60):
            for _ in range(CLIENTS):
                await came_back.acquire()
        wait_until(lambda: server.status()["last_reload"]["websockets_closed"] >= CLIENTS)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    with Server(tmp_path, *OPTIONS, workers=2) as server:
        asyncio.run(main(server))

    assert len(closes) >= CLIENTS
    for start in closes:
        assert sum(start <= at < start + 0.1 for at in closes) <= CLIENTS // 5
    assert max(closes) - min(closes) >= 1.5
    assert len(set(hints)) >= CLIENTS // 3
    assert len(pids) == 2
    assert min(pids.values()) >= CLIENTS // 20
