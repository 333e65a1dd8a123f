"""A server with one of the applications in `apps/`, reloaded again and again, and clients that count."""

import asyncio
from pathlib import Path

from tests.process.running import Server, wait_until
from tests.process.sse import End, SseClient

APPS = Path(__file__).parent / "apps"
TIMEOUT = 20.0
DRAINED_TIMEOUT = 8.0
"""Seconds from the last reload until no old worker is left. The drain timeout is much longer."""


class StreamServer(Server):
    """`with StreamServer(directory, "plain_asgi") as server:` runs `apps/plain_asgi.py`."""

    def __init__(self, directory, name, *options, workers=2, **more):
        self._code = (APPS / f"{name}.py").read_text()
        assert self._code.count("\nVERSION = 1\n") == 1
        self._path = Path(directory) / "app.py"
        self.release(1)
        options = ("--event-stream-notice", "1", *options)
        super().__init__(directory, *options, workers=workers, **more)

    def release(self, version):
        """Save the application with another version, in one rename as a deploy does."""
        changed = self._path.with_suffix(".new")
        changed.write_text(self._code.replace("\nVERSION = 1\n", f"\nVERSION = {version}\n"))
        changed.rename(self._path)

    def wait_drained(self):
        wait_until(lambda: not self.workers("draining"), DRAINED_TIMEOUT, "an end of the drains")

    def assert_quiet(self):
        """No application has failed, and no old worker was left with streams that it could not end."""
        self.wait_drained()
        for sign in ("Traceback", "ERROR", "WARNING"):
            assert sign not in self.log


def values(events):
    """Return (number, version) of each."""
    return [(int(number), int(version)) for number, version in (e.data.split() for e in events)]


def assert_every_number_once(numbers):
    """None missed, none twice, each in its turn."""
    assert numbers == list(range(1, len(numbers) + 1))


class Counting:
    """A client that collects events, and comes back as EventSource does when its stream has ended properly."""

    def __init__(self, port, path, *, headers=()):
        self.port, self.path, self.headers = port, path, headers
        self.ends = 0
        self.heads = []
        self.comments = 0
        self._before = []
        self._last_event_id = ""
        self._client = None
        self._task = None

    async def start(self):
        await self._connect()
        await self._client.wait_events(3)
        self._task = asyncio.ensure_future(self._come_back())
        return self

    async def _connect(self):
        self._client = await SseClient.open(self.port)
        last = values(self._before)[-1][0] if self._before else 0
        path = f"{self.path}?after={last}" if self.path == "/plain" else self.path
        head = await self._client.ask(path, last_event_id=self._last_event_id, headers=self.headers)
        assert head.status == 200
        self.heads.append(head)

    async def _come_back(self):
        while True:
            end = await self._client.wait_end(60)
            assert end is End.TERMINATED
            assert self._client.is_at_boundary
            self.ends += 1
            self._leave()
            await self._connect()

    def _leave(self):
        self._before += self._client.events
        self._last_event_id = self._client.last_event_id
        self.comments += self._client.parser.comments
        self._client.close()

    @property
    def values(self):
        return values([*self._before, *self._client.events])

    async def wait_version(self, version):
        await self._wait(lambda: self.values[-1][1] == version)

    async def wait_more(self, count):
        """Wait for so many events from now on."""
        enough = len(self.values) + count
        await self._wait(lambda: len(self.values) >= enough)

    async def _wait(self, is_reached):
        async with asyncio.timeout(TIMEOUT):
            while not is_reached():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.02)

    async def stop(self):
        """Leave, and raise what went wrong meanwhile."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()
        self._leave()
        self._client.events.clear()
