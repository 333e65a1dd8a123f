"""Pages that renew themselves: the script in them, and what else of a response it touches."""

import asyncio
import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgireload.development.pages.failure import make_failure_app
from asgireload.development.pages.injection import (
    HOLD_LIMIT,
    Injector,
    adapted,
    is_navigation,
    script_tag,
    takes_script,
)
from asgireload.development.pages.refresh import SCRIPT_PATH, refreshing
from asgireload.development.pages.stream import Bulletin
from tests.development.pages.asgi import ask
from tests.development.pages.reports import REPORT

HTML = (b"content-type", b"text/html; charset=utf-8")
NAVIGATION = [(b"sec-fetch-dest", b"document"), (b"accept-encoding", b"gzip, br")]
TAG = (
    b'<script async src="/.asgireload/refresh.js" data-stream="/.asgireload/reload"'
    b' data-state="generation-7"></script>'
)


def inject(pieces, inserted=b"[X]"):
    injector = Injector(inserted)
    return b"".join([*(injector.feed(piece) for piece in pieces), injector.finish()])


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b"<body>a</body></html>", b"<body>a[X]</body></html>"),
        (b"<body>a</BODY \n></html>", b"<body>a[X]</BODY \n></html>"),
        (b"<p>a", b"<p>a[X]"),
        (b"", b"[X]"),
        (b"<p>a</bod", b"<p>a</bod[X]"),
        (b"<script>'</body>'</script></body>", b"<script>'</body>'</script>[X]</body>"),
    ],
)
def test_the_script_stands_before_the_end_of_the_body_or_at_the_end(page, expected):
    assert inject([page]) == expected
    assert inject([page[index : index + 1] for index in range(len(page))]) == expected


fragments = st.sampled_from(
    [b"</body>", b"</BODY", b"</bo", b"<", b"</", b"dy>", b"</html>", b"a", b"x" * HOLD_LIMIT]
)


@given(st.lists(fragments | st.binary(max_size=6), max_size=12))
@example([b"</body", b"x" * HOLD_LIMIT, b"</bo", b"dy>"])
@example([b"<<<</body></body"])
def test_a_page_is_unchanged_but_for_the_script(pieces):
    page, mark = b"".join(pieces), b"\0\xffmark\xff\0"
    result = inject(pieces, mark)
    before, found, behind = result.partition(mark)
    assert found
    assert before + behind == page
    # At the end, or before an end of the body that is near enough to the end of the page.
    last = page.lower().rfind(b"</body")
    is_near = last >= 0 and len(page) - last <= HOLD_LIMIT
    assert len(before) == (last if is_near else len(page))


@given(st.lists(fragments | st.binary(max_size=6), max_size=12))
def test_only_what_may_be_the_end_is_held_back(pieces):
    injector = Injector(b"")
    taken = given_back = 0
    for piece in pieces:
        taken += len(piece)
        given_back += len(injector.feed(piece))
        assert taken - given_back <= HOLD_LIMIT


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"sec-fetch-dest", b"document")], True),
        ([(b"sec-fetch-dest", b"iframe")], True),
        ([(b"sec-fetch-dest", b"empty"), (b"accept", b"text/html")], False),
        ([(b"accept", b"text/html,*/*;q=0.8")], True),
        ([(b"accept", b"*/*")], False),
        ([(b"accept", b"text/html"), (b"hx-request", b"true")], False),
        ([(b"accept", b"text/html"), (b"x-requested-with", b"XMLHttpRequest")], False),
        ([], False),
    ],
)
def test_whole_pages_are_told_from_parts(headers, expected):
    assert is_navigation("GET", headers) is expected
    assert is_navigation("HEAD", headers) is False


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, [HTML], True),
        (404, [(b"Content-Type", b"Text/HTML")], True),
        (200, [], False),
        (200, [(b"content-type", b"application/xhtml+xml")], False),
        (200, [(b"content-type", b"text/html;charset=UTF-16")], False),
        (200, [HTML, (b"content-encoding", b"gzip")], False),
        (200, [HTML, (b"content-encoding", b"identity")], True),
        (200, [HTML, (b"content-disposition", b"attachment; filename=a.html")], False),
        (206, [HTML], False),
        (304, [HTML], False),
        (204, [HTML], False),
    ],
)
def test_only_whole_readable_pages_take_the_script(status, headers, expected):
    assert takes_script(status, headers) is expected


def test_the_length_grows_and_validators_go():
    headers = [HTML, (b"Content-Length", b"100"), (b"ETag", b'"a"'), (b"last-modified", b"x")]
    assert adapted(headers, 20) == [HTML, (b"Content-Length", b"120")]


@pytest.mark.parametrize(
    ("policy", "nonce"),
    [
        (b"script-src 'self' 'nonce-abc+/='; style-src 'nonce-no'", b' nonce="abc+/="'),
        (b"default-src 'nonce-abc'", b' nonce="abc"'),
        (b"default-src 'nonce-no'; script-src 'self'", b""),
        (b";;", b""),
    ],
)
def test_a_nonce_of_the_policy_is_given_to_the_script(policy, nonce):
    tag = script_tag("/s.js", "/s", "g", [(b"Content-Security-Policy", policy)])
    assert (
        tag == b'<script async src="/s.js" data-stream="/s" data-state="g"' + nonce + b"></script>"
    )


@given(st.binary(max_size=60))
def test_any_policy_gives_a_tag(policy):
    tag = script_tag("/s.js", "/s", "g", [(b"content-security-policy", policy)])
    assert tag.count(b"<") == tag.count(b">") == 2


# --- the application ------------------------------------------------------------------------------


def page_app(*pieces, headers=(HTML,), status=200, seen=None):
    async def app(scope, receive, send):
        if seen is not None:
            seen.append(scope)
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for index, piece in enumerate(pieces):
            more = index < len(pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return app


def wrapped(app):
    return refreshing(app, Bulletin("generation-7"))


def test_a_page_gets_the_script(run):
    page = b"<html><body>hello</body></html>"
    app = wrapped(page_app(page, headers=[HTML, (b"content-length", str(len(page)).encode())]))
    response = run(ask(app, headers=NAVIGATION))
    assert response.body == b"<html><body>hello" + TAG + b"</body></html>"
    assert response.headers[b"content-length"] == str(len(response.body)).encode()
    assert response.is_complete


def test_a_page_in_pieces_gets_the_script_and_keeps_its_rhythm(run):
    app = wrapped(page_app(b"<body>one", b"two</bo", b"dy>", b"</html>", b""))
    response = run(ask(app, headers=NAVIGATION))
    assert response.pieces == [b"<body>one", b"two", b"", b"", TAG + b"</body></html>"]


def test_below_a_root_path_the_script_is_looked_for_there(run):
    response = run(ask(wrapped(page_app(b"a")), headers=NAVIGATION, root_path="/shop"))
    assert (
        b'src="/shop/.asgireload/refresh.js" data-stream="/shop/.asgireload/reload"'
        in response.body
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"headers": [(b"accept", b"application/json")]},
        {"headers": NAVIGATION, "method": "HEAD"},
    ],
)
def test_what_is_no_page_for_people_passes_as_it_is(run, facts):
    seen = []
    headers = [HTML, (b"etag", b'"a"')]
    response = run(ask(wrapped(page_app(b"<body></body>", headers=headers, seen=seen)), **facts))
    assert response.body == b"<body></body>"
    assert response.headers[b"etag"] == b'"a"'
    assert seen[0]["headers"] == facts["headers"]


def test_pages_are_asked_for_without_compression_and_not_as_files(run):
    seen = []

    async def app(scope, receive, send):
        scope["extensions"] |= {"http.response.pathsend": {}, "http.response.early_hint": {}}
        await wrapped(page_app(b"a", seen=seen))(scope, receive, send)

    run(ask(app, headers=NAVIGATION))
    assert seen[0]["headers"] == [(b"sec-fetch-dest", b"document")]
    assert set(seen[0]["extensions"]) == {"http.response.early_hint"}


def test_the_script_and_the_stream_have_their_addresses(run):
    async def nobody(scope, receive, send):
        raise AssertionError(scope)

    script = run(ask(wrapped(nobody), path=SCRIPT_PATH))
    assert script.headers[b"content-type"].startswith(b"text/javascript")
    assert b"EventSource" in script.body
    stream = run(ask(wrapped(nobody), path="/.asgireload/reload", leave_after=1))
    assert b"event: state\ndata: generation-7\n\n" in stream.body


def test_a_failure_keeps_its_own_stream():
    app = make_failure_app(REPORT)
    assert wrapped(app) is app


def test_websockets_and_the_lifespan_pass():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    async def main():
        for kind in ("websocket", "lifespan"):
            await wrapped(app)({"type": kind}, None, None)

    asyncio.run(main())
    assert seen == ["websocket", "lifespan"]


def test_changes_are_told_once_and_a_reload_of_the_page_stands_for_all():
    told = []
    bulletin = Bulletin("generation-7")
    bulletin.tell = lambda name, data: told.append((name, data))
    bulletin.tell_changes(["/a/site.css", "/b/site.css", "/a/logo.png"])
    assert told == [("css", "site.css"), ("image", "logo.png")]
    told.clear()
    bulletin.tell_changes(["/a/site.css", "/a/site.js"])
    assert told == [("page", "site.js")]


def test_an_error_of_the_application_passes(run):
    async def app(scope, receive, send):
        raise LookupError("the application's")

    async def main():
        with contextlib.suppress(LookupError):
            await ask(wrapped(app), headers=NAVIGATION)
            raise AssertionError("it was swallowed")

    run(main())
