"""The application that stands in for one that fails: what each kind of client gets."""

import asyncio
import base64
import hashlib
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.pages.failure import make_failure_app
from asgireload.development.pages.negotiation import choose_form
from asgireload.development.pages.page import state_of
from tests.development.pages.asgi import ask, scope_of
from tests.development.pages.reports import REPORT

APP = make_failure_app(REPORT)
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def test_a_browser_gets_a_page(run):
    response = run(ask(APP, headers=[(b"accept", BROWSER)]))
    assert response.status == 500
    assert response.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert response.headers[b"cache-control"] == b"no-store"
    assert int(response.headers[b"content-length"]) == len(response.body)
    assert response.body.startswith(b"<!doctype html>")


def test_the_policy_of_the_page_allows_its_own_style_and_script_only(run):
    response = run(ask(APP, headers=[(b"accept", BROWSER)]))
    policy = response.headers[b"content-security-policy"].decode()
    page = response.body.decode()
    for element in ("style", "script"):
        inner = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_who_asks_for_json_gets_json(run):
    response = run(ask(APP, headers=[(b"accept", b"application/json")]))
    assert response.status == 500
    assert response.headers[b"content-type"] == b"application/json"
    error = msgspec.json.decode(response.body)["error"]
    assert error["summary"] == REPORT.summary
    assert error["errors"][0]["frames"][-1]["shown"] == "shop/main.py"


def test_an_event_source_gets_a_stream_that_waits(run):
    """It would never come back after a status of 500, however soon the code is mended."""
    sent = []
    left = asyncio.Event()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if message["type"] == "http.response.body":
            left.set()

    async def main():
        await APP(scope_of(headers=[(b"accept", b"text/event-stream")]), receive, send)

    run(main())
    assert sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream") in sent[0]["headers"]
    assert sent[1]["body"].startswith(b":")
    assert sent[1]["more_body"] is True


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_all_others_get_text(run, method):
    response = run(ask(APP, method=method, headers=[(b"accept", b"*/*")]))
    assert response.status == 500
    assert response.headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert response.body.decode().startswith(f"{REPORT.summary}\n\nTraceback")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (BROWSER, "html"),
        (b"", "text"),
        (b"*/*", "text"),
        (b"text/*", "text"),
        (b"application/json", "json"),
        (b"application/json, text/plain, */*", "json"),
        (b"application/problem+json", "json"),
        (b"text/html;q=0.5, application/json", "json"),
        (b"Text/HTML, application/json;q=0.9", "html"),
        (b"text/html;q=0, */*", "text"),
        (b"text/html;q=x", "text"),
    ],
)
def test_the_form_follows_what_is_accepted(accept, form):
    assert choose_form([(b"host", b"text/html"), (b"accept", accept)]) == form


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_accept_header_is_answered(values):
    assert choose_form([(b"accept", value) for value in values]) in {"html", "json", "text"}


def test_a_lifespan_starts_and_ends(run):
    sent = []

    async def send(message):
        sent.append(message["type"])

    async def main():
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            return next(messages)

        await APP({"type": "lifespan"}, receive, send)

    run(main())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("extensions", "first"),
    [
        ({"websocket.http.response": {}}, ("websocket.http.response.start", 500)),
        ({}, ("websocket.close", 1011)),
    ],
)
def test_a_websocket_is_refused(run, extensions, first):
    sent = []

    async def main():
        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        scope = {**scope_of(kind="websocket"), "extensions": extensions}
        await asyncio.wait_for(APP(scope, receive, send), 5)

    run(main())
    assert (sent[0]["type"], sent[0].get("status") or sent[0].get("code")) == first


def test_its_stream_says_which_failure_is_served(run):
    response = run(ask(APP, path="/.asgireload/reload", leave_after=1))
    assert response.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert f"event: state\ndata: {state_of(REPORT)}\n\n".encode() in response.body
