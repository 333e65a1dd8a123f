"""Reloads of a server whose clients listen to streams that do not end, with the options as they come."""

import contextlib
import os
import re
import signal
import socket

import pytest

from tests.process.running import Server, wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

STREAMS = 8
RAW = """
import asyncio
import os

VERSION = 1


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/events":
        event = b"data: %d %d\\n\\n" % (VERSION, os.getpid())
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"%d %d" % (VERSION, os.getpid())})
"""
FASTAPI = """
import asyncio
import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

VERSION = 1
app = FastAPI()


@app.get("/")
async def index():
    return PlainTextResponse(f"{VERSION} {os.getpid()}")


@app.get("/events")
async def events():
    async def endless():
        while True:
            yield f"data: {VERSION} {os.getpid()}\\n\\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(endless(), media_type="text/event-stream")
"""


def put(directory, version, code=RAW):
    temporary = directory / "app.py.new"
    temporary.write_text(code.replace("VERSION = 1", f"VERSION = {version}"))
    temporary.rename(directory / "app.py")


class Stream:
    """An endless event stream; `event()` waits for one that was sent after the call."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.sendall(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n")
        self.version, self.pid = self.event()

    def event(self):
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(65536):
                pass
        self.socket.settimeout(10)
        received = b""
        while (found := re.search(rb"data: (\d+) (\d+)\n\n", received)) is None:
            more = self.socket.recv(4096)
            assert more, "the stream has ended"
            received += more
        return int(found[1]), int(found[2])


@contextlib.contextmanager
def listening(server, count=STREAMS, workers=4):
    """`count` streams at a time, on all of `workers` workers that serve."""
    serving = set(server.worker_pids())
    assert len(serving) == workers
    with contextlib.ExitStack() as stack:
        streams = []
        while len(streams) < count or {stream.pid for stream in streams} < serving:
            assert len(streams) < 20 * count, "some worker takes no connections"
            streams.append(Stream(server.port))
            stack.callback(streams[-1].socket.close)
        yield streams


def last_reload(server):
    return server.status()["last_reload"]


@pytest.mark.parametrize("code", [RAW, FASTAPI], ids=["asgi", "fastapi"])
def test_a_reload_is_committed_while_all_old_workers_still_stream(tmp_path, code):
    """With default options. Streams go on after the commit, and every new request is answered by new code."""
    put(tmp_path, 1, code)
    with Server(tmp_path, "--probation", "1") as server, listening(server) as streams:
        before = set(server.worker_pids())
        put(tmp_path, 2, code)
        output = server.reload()
        answers = [server.get().split()[0] for _ in range(20)]
        status = server.status()
        old = {worker["pid"] for worker in status["workers"] if worker["state"] == "draining"}
        assert old == before, f"not all old workers drain at the commit\n{output}"
        assert answers == ["2"] * 20
        assert "old workers: 4 (4 still draining)" in output
        assert status["workers_old"] == status["last_reload"]["workers_draining"] == 4
        # The import and the probation come before: the first takes the CPU time that this machine leaves over.
        steps = [step for slot in status["last_reload"]["slots"] for step in slot["steps"]]
        began = min(step["seconds"] for step in steps if step["name"] == "retire")
        assert status["last_reload"]["duration"] - began < 10  # the drain itself would be 30 s
        assert "4 old ones still drain" in server.log
        for stream in streams:
            assert stream.event() == (1, stream.pid)
        # One is killed in the middle: it is counted for itself, and nothing else changes.
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: last_reload(server)["workers_crashed"] == 1)
        for stream in streams:
            if stream.pid == victim:
                stream.socket.close()
            else:
                assert stream.event() == (1, stream.pid)
        for stream in streams:
            stream.socket.close()
        wait_until(lambda: last_reload(server)["workers_drained"] == 3, timeout=40)
        record = last_reload(server)
        assert (record["outcome"], record["workers_draining"]) == ("committed", 0)
        assert (record["workers_killed"], server.status()["restarts_total"]) == (0, 0)
        ends = [slot["steps"][-1]["name"] for slot in record["slots"]]
        assert sorted(ends) == ["crashed", *["drained"] * 3]


def test_a_stop_in_the_middle_of_drains_ends_everything(tmp_path):
    put(tmp_path, 1)
    with Server(tmp_path, "--drain-timeout", "3") as server, listening(server):
        put(tmp_path, 2)
        server.reload()
        assert len(server.workers("draining")) == 4
        assert server.stop() == 0
        assert not server.left_behind()


def test_reloads_one_after_another_keep_few_old_workers_and_say_what_they_wait_for(tmp_path):
    """A deploy that follows at once, as when the last one was wrong, does not wait. The third does, for the
    workers of the first."""
    put(tmp_path, 1)
    with (
        Server(tmp_path, "--drain-timeout", "12", workers=2) as server,
        contextlib.ExitStack() as stack,
    ):
        for version in (2, 3):
            stack.enter_context(listening(server, 2, workers=2))
            put(tmp_path, version)
            server.reload()
        assert [worker["generation"] for worker in server.workers("draining")].count(1) == 2
        assert len(server.workers("draining")) == 4
        stack.enter_context(listening(server, 2, workers=2))
        put(tmp_path, 4)
        asked = server.control("reload").stdout
        wait_until(lambda: "waits for 2 of 4 workers of generations 1, 2" in server.log)
        status = server.status()
        waits = status["pending_reload"]["waits_for"]
        assert waits.startswith("2 of 4 workers of generations 1, 2 to drain, ")
        assert f"reload 3 waits for {waits}"[:50] in status["message"]
        assert "It waits for 2 of 4 workers" in asked
        most = 0

        def is_over():
            nonlocal most
            workers = server.workers("draining")
            most = max(most, len(workers))
            return last_reload(server)["id"] == 3

        wait_until(is_over, timeout=40)
        assert most <= 4
        record = last_reload(server)
        assert record["outcome"] == "committed"
        assert record["waited"] > 0
        assert re.search(r"Reload 3 begins \(.*\) after it waited \d", server.log)
        assert server.get().split()[0] == "4"


def test_without_overlap_a_slot_waits_for_the_old_worker_of_the_one_before(tmp_path):
    put(tmp_path, 1)
    options = ["--no-drain-overlap", "--drain-timeout", "2", "--probation", "0"]
    with Server(tmp_path, *options, workers=2) as server, listening(server, 2, workers=2):
        put(tmp_path, 2)
        server.reload()
        record = last_reload(server)
        assert record["workers_killed"] + record["workers_drained"] == 1
        assert record["workers_draining"] == 1


def test_a_stream_without_end_does_not_hold_up_the_recycling_of_other_workers(tmp_path):
    """Half of the workers may drain for it at a time."""
    put(tmp_path, 1)
    with Server(tmp_path, "--max-requests", "30", workers=4) as server, listening(server):
        most = 0

        def two_drain():
            nonlocal most
            server.get()
            draining = server.workers("draining")
            most = max(most, len(draining))
            return len(draining) == 2

        wait_until(two_drain)
        for _ in range(60):
            two_drain()
        assert most == 2
        assert len(server.workers()) == 4
