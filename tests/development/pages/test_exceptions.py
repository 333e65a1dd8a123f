"""Exceptions of a running application, as a browser in development sees them."""

import asyncio

import pytest

from asgireload.development.pages import exceptions
from asgireload.development.pages.exceptions import showing_exceptions
from asgireload.development.pages.failure import FailureApp, make_failure_app
from asgireload.development.pages.stream import Bulletin
from tests.development.pages.asgi import Response, ask
from tests.development.pages.reports import REPORT

BROWSER = [(b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8")]
PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
ERROR = b"Internal Server Error"


def starting(status, headers=PLAIN):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content, *, more_body=False):
    return {"type": "http.response.body", "body": content, "more_body": more_body}


def asking(messages, *, error=None, wrapped=showing_exceptions, **facts):
    """Return what a client gets of an application that sends these messages, then raises `error`."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    async def main():
        responses = []

        async def seeing(scope, receive, send):
            response = Response()
            responses.append(response)

            async def recorded(message):
                if message["type"] == "http.response.start":
                    response.status = message["status"]
                    response.headers = dict(message["headers"])
                else:
                    response.pieces.append(message["body"])
                await send(message)

            await wrapped(app, "/srv/shop", Bulletin("generation-7"))(scope, receive, recorded)

        if error is not None:
            with pytest.raises(type(error)):
                await ask(seeing, **facts)
        else:
            await ask(seeing, **facts)
        return responses[0]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "messages", [[], [starting(500)], [starting(500), body(ERROR)]], ids=["none", "head", "whole"]
)
def test_a_browser_sees_the_exception_in_place_of_a_bare_answer(messages):
    page = asking(messages, error=KeyError("price"), headers=BROWSER, path="/cart")
    assert page.status == 500
    assert page.headers[b"content-type"].startswith(b"text/html")
    text = page.body.decode()
    assert "KeyError" in text
    assert "price" in text
    assert "during GET /cart" in text
    # It stays as long as this generation serves.
    assert 'data-state="generation-7"' in text
    assert 'data-stream="/.asgireload/reload"' in text


def test_the_answer_to_a_form_does_not_load_itself_again():
    page = asking([], error=KeyError("price"), headers=BROWSER, method="POST")
    assert 'data-stream=""' in page.body.decode()


@pytest.mark.parametrize(
    ("messages", "error", "headers"),
    [
        ([starting(500), body(ERROR)], None, BROWSER),
        ([starting(500), body(ERROR)], KeyError("price"), [(b"accept", b"*/*")]),
        ([starting(500, [(b"content-type", b"text/html")]), body(b"<p>own")], KeyError(1), BROWSER),
        ([starting(500), body(b"a" * 300)], KeyError("price"), BROWSER),
        ([starting(500), body(b"a", more_body=True), body(b"b")], KeyError("price"), BROWSER),
        ([starting(200), body(b"a")], KeyError("price"), BROWSER),
    ],
)
def test_every_other_response_passes_as_it_is(messages, error, headers):
    seen = asking(messages, error=error, headers=headers)
    assert seen.status == messages[0]["status"]
    assert seen.headers == dict(messages[0]["headers"])
    assert seen.pieces == [message["body"] for message in messages[1:]]


def test_a_bare_answer_does_not_wait_for_what_runs_behind_it(monkeypatch):
    """Of Starlette's background tasks, say, which may take minutes."""
    monkeypatch.setattr(exceptions, "HOLD_TIME", 0.001)

    async def main():
        is_answered = asyncio.Event()

        async def app(scope, receive, send):
            await send(starting(500))
            await send(body(ERROR))
            await is_answered.wait()
            raise KeyError("in the background")

        sent = []

        async def send(message):
            sent.append(message)
            if message["type"] == "http.response.body":
                is_answered.set()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": BROWSER}
        served = showing_exceptions(app, "/srv/shop", Bulletin("generation-7"))
        with pytest.raises(KeyError):
            await asyncio.wait_for(served(scope, None, send), 20)
        assert sent == [starting(500), body(ERROR)]

    asyncio.run(main())


def test_a_failure_shows_itself():
    app = make_failure_app(REPORT)
    assert isinstance(app, FailureApp)
    assert showing_exceptions(app, "/srv/shop", Bulletin("generation-7")) is app


def test_starlettes_answer_is_replaced_and_its_debug_page_is_not():
    applications = pytest.importorskip("starlette.applications")
    routing = pytest.importorskip("starlette.routing")

    def fail(request):
        raise KeyError("price")

    async def seen(*, debug):
        app = applications.Starlette(debug=debug, routes=[routing.Route("/", fail)])
        served = showing_exceptions(app, "/srv/shop", Bulletin("generation-7"))
        response = Response()

        async def send(message):
            if message["type"] == "http.response.start":
                response.headers = dict(message["headers"])
            else:
                response.pieces.append(message["body"])

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http", "method": "GET", "path": "/", "root_path": "", "headers": BROWSER,
            "query_string": b"", "server": ("localhost", 80), "scheme": "http", "extensions": {},
        }  # fmt: skip
        with pytest.raises(KeyError):
            await served(scope, receive, send)
        return response.body.decode()

    assert "The application raised an exception" in asyncio.run(seen(debug=False))
    own = asyncio.run(seen(debug=True))
    assert "The application raised an exception" not in own
    assert "KeyError" in own
