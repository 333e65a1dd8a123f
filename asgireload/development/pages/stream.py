"""The event streams of open pages: one `Bulletin` in each worker, and one stream for each page."""

import asyncio
from collections.abc import Callable, Iterable

from asgireload.asgi import Receive, Scope, Send
from asgireload.development.pages.events import (
    HEARTBEAT,
    RETRY_MILLISECONDS,
    STOPPED_RETRY_MILLISECONDS,
    STREAM_PATH,
    EventName,
    event_of,
    frame_event,
    frame_retry,
)
from asgireload.draining import DrainNotice, DrainReason, draining

HEARTBEAT_INTERVAL = 15.0
"""Seconds of silence before a heartbeat; proxies commonly allow 30 or more."""
QUEUE_LIMIT = 64
"""Most events that wait for a page that does not read; they are replaced by an event that makes the page reload."""

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Otherwise nginx buffers events.
    (b"x-accel-buffering", b"no"),
)


class Bulletin:
    """Sends the state of this worker and events to all open pages. Not thread-safe: use it on the event loop
    only."""

    def __init__(self, state: str) -> None:
        self.state = state
        """Name of the served generation or failure, unique among all runs of a server."""
        self._readers: set[_Reader] = set()

    def tell(self, name: EventName, data: str) -> None:
        """Queue an event for every open page, without waiting."""
        event = frame_event(name, data)
        for reader in self._readers:
            reader.take(event)

    def tell_changes(self, paths: Iterable[str]) -> None:
        """Queue events for changed files that are not code. When pages must reload, only one event is queued."""
        events = {event_of(path) for path in paths}
        if any(name == "page" for name, _ in events):
            events = {min(event for event in events if event[0] == "page")}
        for name, data in sorted(events):
            self.tell(name, data)

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    async def stream(
        self,
        receive: Receive,
        send: Send,
        *,
        notice: DrainNotice | None = None,
        heartbeat_interval: float = HEARTBEAT_INTERVAL,
    ) -> None:
        """Answer one request with events, until the client disconnects or the worker drains.

        `notice`: the drain notice, that of the process by default.
        """
        notice = draining() if notice is None else notice
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        greeting = frame_retry(RETRY_MILLISECONDS) + frame_event("state", self.state)
        await send({"type": "http.response.body", "body": greeting, "more_body": True})
        reader = _Reader()
        self._readers.add(reader)
        watchers = [
            _watch(notice.wait(), reader.wake.set),
            _watch(_wait_departure(receive), reader.wake.set),
        ]
        try:
            while not any(watcher.done() for watcher in watchers):
                body = await reader.wait_events(heartbeat_interval)
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._readers.discard(reader)
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
        if notice:
            stops = notice.reason in (DrainReason.STOP, DrainReason.ORPHANED)
            rest = frame_retry(STOPPED_RETRY_MILLISECONDS) if stops else b""
            await send({"type": "http.response.body", "body": reader.take_all() + rest})


class _Reader:
    """The queue of events for one page."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self._waiting: list[bytes] = []

    def take(self, event: bytes) -> None:
        if len(self._waiting) < QUEUE_LIMIT:
            self._waiting.append(event)
        else:
            self._waiting = [frame_event("page", "too many changes")]
        self.wake.set()

    def take_all(self) -> bytes:
        events, self._waiting = self._waiting, []
        return b"".join(events)

    async def wait_events(self, timeout: float) -> bytes:
        """Return the queued events, a heartbeat after `timeout` seconds without events, or nothing at the end."""
        try:
            async with asyncio.timeout(timeout):
                await self.wake.wait()
        except TimeoutError:
            return HEARTBEAT
        self.wake.clear()
        return self.take_all()


def _watch(
    coroutine: "asyncio._CoroutineLike[object]", report: Callable[[], None]
) -> "asyncio.Task[object]":
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(lambda _: report())
    return task


async def _wait_departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a request body, which is ignored


def is_at(scope: Scope, path: str) -> bool:
    """Return whether an HTTP request is a GET of `path`, a path of asgireload below the root path."""
    asked: str = scope["path"]
    return scope["method"] == "GET" and asked.removeprefix(scope.get("root_path", "")) == path


def is_stream(scope: Scope) -> bool:
    """Return whether a request asks for the event stream."""
    return scope["type"] == "http" and is_at(scope, STREAM_PATH)


def stream_address(scope: Scope) -> str:
    """Return the path of the event stream, with the root path, for pages of this application."""
    root_path: str = scope.get("root_path", "")
    return root_path.rstrip("/") + STREAM_PATH
