"""The stream of events that open pages listen to: one `Bulletin` in each worker, one stream for each page."""

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
"""Seconds of silence; proxies commonly allow 30 or more."""
QUEUE_LIMIT = 64
"""Events held for a page that does not read; one that is so far behind is told to load itself again."""

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold events back.
    (b"x-accel-buffering", b"no"),
)


class Bulletin:
    """What this worker serves, and news for every open page. `tell` may be called from its loop only."""

    def __init__(self, state: str) -> None:
        self.state = state
        """Differs between generations and failures, and from those of any other run of the server."""
        self._readers: set[_Reader] = set()

    def tell(self, name: EventName, data: str) -> None:
        """Hand an event to every open page. Never waits."""
        event = frame_event(name, data)
        for reader in self._readers:
            reader.take(event)

    def tell_changes(self, paths: Iterable[str]) -> None:
        """Tell of changed files that are not code. A page that must load itself again needs no more."""
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
        """Answer one request with events, until the page is left or the worker is about to leave."""
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
    """The events that one page has not got yet."""

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
        """Return what there is to send: events, a heartbeat after `timeout` seconds, or nothing at the end."""
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
        pass  # a body that nobody asked for


def is_at(scope: Scope, path: str) -> bool:
    """Return whether a request of HTTP asks for `path`, which is one of ours below the root path."""
    asked: str = scope["path"]
    return scope["method"] == "GET" and asked.removeprefix(scope.get("root_path", "")) == path


def is_stream(scope: Scope) -> bool:
    """Return whether this request asks for the events."""
    return scope["type"] == "http" and is_at(scope, STREAM_PATH)


def stream_address(scope: Scope) -> str:
    """Return where pages of this application find the stream."""
    root_path: str = scope.get("root_path", "")
    return root_path.rstrip("/") + STREAM_PATH
