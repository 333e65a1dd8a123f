"""Pages that renew themselves, from a saved file to what an open page hears of it."""

import http.client

import pytest

from tests.process.running import Server

APP = """
PAGE = b"<!doctype html><body>version 1</body>"

async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})
"""
BROWSER = {"Sec-Fetch-Dest": "document", "Accept-Encoding": "gzip"}


class Stream:
    """An open page's stream of events."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request("GET", "/.asgireload/reload")
        self._response = self._connection.getresponse()

    def next_event(self):
        """Return the next event as (name, data); None at the end of the stream."""
        fields = {}
        while line := self._response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if line == "\n" and "event" in fields:
                return fields["event"], fields["data"]
            fields[name] = value
        return None

    def close(self):
        self._connection.close()


def get_page(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/", headers=BROWSER)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_an_open_page_hears_of_styles_and_of_new_code(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    style = tmp_path / "site.css"
    style.write_text("p { margin: 0 }")
    with Server(tmp_path, "--reload", "--reload-browser", workers=2) as server:
        page = get_page(server.port)
        assert 'src="/.asgireload/refresh.js"' in page
        stream = Stream(server.port)
        name, state = stream.next_event()
        assert name == "state"
        assert f'data-state="{state}"' in page

        server.wait_log("Watching ")
        style.write_text("p { margin: 1px }")
        assert stream.next_event() == ("css", "site.css")
        assert server.status()["generation"] == 1

        (tmp_path / "app.py").write_text(APP.replace("version 1", "version 2"))
        other = state
        while other == state:
            # A stream ends with its worker; the next one may be an old worker's that is still to be replaced.
            assert stream.next_event() is None
            stream.close()
            stream = Stream(server.port)
            _, other = stream.next_event()
        stream.close()
        server.wait_log("Reload 1 committed")
        page = get_page(server.port)
        assert "version 2" in page
        assert f'data-state="{other}"' in page


def test_pages_are_left_alone_unless_it_is_asked_for(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    with Server(tmp_path, "--reload", workers=1) as server:
        assert get_page(server.port) == "<!doctype html><body>version 1</body>"


RAISING = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def price(request):
    return PlainTextResponse(f"{prices['apple']}")

app = Starlette(routes=[Route("/", price)])
"""


def test_an_exception_is_a_page_until_the_code_is_mended(tmp_path):
    pytest.importorskip("starlette")
    (tmp_path / "app.py").write_text(RAISING)
    with Server(tmp_path, "--reload", workers=2) as server:
        page = get_page(server.port)
        assert "NameError" in page
        assert "during GET /" in page
        stream = Stream(server.port)
        name, state = stream.next_event()
        assert name == "state"
        assert f'data-state="{state}"' in page
        server.wait_log("Watching ")
        (tmp_path / "app.py").write_text("prices = {'apple': 3}" + RAISING)
        assert stream.next_event() is None
        stream.close()
        assert get_page(server.port) == "3"
        assert "Exception in ASGI application: GET / failed" in server.log


def test_without_reload_an_exception_is_a_bare_answer(tmp_path):
    pytest.importorskip("starlette")
    (tmp_path / "app.py").write_text(RAISING)
    with Server(tmp_path) as server:
        assert get_page(server.port) == "Internal Server Error"
