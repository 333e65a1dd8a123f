"""The stream of events: what open pages are told, and when it ends."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.pages.events import event_of, frame_event, frame_retry, is_exchangeable
from asgireload.development.pages.stream import QUEUE_LIMIT, Bulletin, is_stream, stream_address
from asgireload.draining import DrainNotice, DrainReason
from tests.development.pages.asgi import ask, scope_of

GREETING = b"retry: 100\n\nevent: state\ndata: generation-7\n\n"


class Page:
    """An open page, with what it got so far. `reads = False`: it takes nothing more."""

    def __init__(self, bulletin, notice, **options):
        self.got, self.has_ended, self.reads = b"", False, asyncio.Event()
        self.reads.set()
        self._news, self.left = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(
            bulletin.stream(self._receive, self._send, notice=notice, **options)
        )

    async def _receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        await self.reads.wait()
        if message["type"] == "http.response.body":
            self.got += message.get("body", b"")
            self.has_ended = not message.get("more_body", False)
            self._news.set()

    async def wait_for(self, what):
        async with asyncio.timeout(5):
            while what not in self.got:
                self._news.clear()
                await self._news.wait()


def test_every_open_page_is_told(run):
    async def main():
        bulletin, notice = Bulletin("generation-7"), DrainNotice()
        pages = [Page(bulletin, notice) for _ in range(2)]
        for page in pages:
            await page.wait_for(GREETING)
        bulletin.tell("css", "site.css")
        for page in pages:
            await page.wait_for(b"event: css\ndata: site.css\n\n")
            page.left.set()
            await page.task
        assert not bulletin.has_readers

    run(main())


def test_a_stream_ends_when_its_worker_is_about_to_leave(run):
    async def main():
        bulletin, notice = Bulletin("generation-7"), DrainNotice()
        page = Page(bulletin, notice)
        await page.wait_for(GREETING)
        bulletin.tell("css", "site.css")
        notice.begin(DrainReason.RELOAD, 0.0)
        await asyncio.wait_for(page.task, 5)
        assert page.got == GREETING + b"event: css\ndata: site.css\n\n"
        assert page.has_ended

    run(main())


def test_when_the_server_stops_pages_shall_not_hurry_back(run):
    async def main():
        notice = DrainNotice()
        notice.begin(DrainReason.STOP, 0.0)
        page = Page(Bulletin("generation-7"), notice)
        await asyncio.wait_for(page.task, 5)
        assert page.got == GREETING + b"retry: 1000\n\n"

    run(main())


def test_a_silent_stream_beats(run):
    async def main():
        page = Page(Bulletin("generation-7"), DrainNotice(), heartbeat_interval=0.001)
        await page.wait_for(b"\n\n:\n\n:\n\n")
        page.left.set()
        await page.task

    run(main())


def test_a_page_that_does_not_read_is_told_to_load_itself_again(run):
    async def main():
        bulletin = Bulletin("generation-7")
        page = Page(bulletin, DrainNotice())
        await page.wait_for(GREETING)
        page.reads.clear()
        for number in range(QUEUE_LIMIT * 3):
            bulletin.tell("css", f"{number}.css")
        page.reads.set()
        await page.wait_for(b"event: page\n")
        assert page.got.count(b"event: css") < QUEUE_LIMIT
        page.left.set()
        await page.task

    run(main())


def test_a_page_that_leaves_ends_its_stream(run):
    async def main():
        bulletin = Bulletin("generation-7")

        async def app(scope, receive, send):
            await bulletin.stream(receive, send)

        response = await ask(app, leave_after=1)
        assert response.body == GREETING
        assert response.headers[b"cache-control"] == b"no-store"

    run(main())


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"path": "/.asgireload/reload"}, True),
        ({"path": "/.asgireload/reload", "root_path": "/shop"}, True),
        ({"path": "/.asgireload/reload", "method": "POST"}, False),
        ({"path": "/.asgireload/reload", "kind": "websocket"}, False),
        ({"path": "/.asgireload/reloads"}, False),
        ({"path": "/"}, False),
    ],
)
def test_the_stream_has_one_address(facts, expected):
    assert is_stream(scope_of(**facts)) is expected


def test_pages_below_a_root_path_find_the_stream_there():
    assert stream_address(scope_of(root_path="/shop")) == "/shop/.asgireload/reload"
    assert stream_address(scope_of(root_path="/")) == "/.asgireload/reload"


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/srv/static/site.css", ("css", "site.css")),
        ("/srv/static/Logo.SVG", ("image", "Logo.SVG")),
        ("/srv/templates/index.html", ("page", "index.html")),
        ("/srv/static/site.js", ("page", "site.js")),
    ],
)
def test_style_sheets_and_images_can_be_exchanged(path, event):
    assert event_of(path) == event
    assert is_exchangeable(path) is (event[0] != "page")


@given(st.text())
def test_no_data_ends_an_event_early(data):
    event = frame_event("css", data).decode()
    assert event.startswith("event: css\ndata: ")
    assert event.endswith("\n\n")
    assert "\r" not in event
    assert event.count("\n") == 3


def test_a_browser_is_told_when_to_come_back():
    assert frame_retry(100) == b"retry: 100\n\n"
