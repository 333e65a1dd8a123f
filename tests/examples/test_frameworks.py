"""Each example application, served by two workers, meets the clients that people use."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request

import aiohttp
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.examples.catalogue import EXAMPLES, Example
from tests.process.running import Server

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

MEBIBYTE = 1 << 20
BODY = os.urandom(MEBIBYTE)
CLIENT_TIMEOUT = 20
TEXT = "grüße " * 5_000
"""Longer than one read and with letters of two bytes, so that frames and characters are split."""


def serve(example, directory, where, *options, **more):
    """Serve `directory` with the server's own files in `where`."""
    return Server(where, "--app-dir", str(directory), *options, app=example.app, workers=2, **more)


@pytest.fixture(scope="module", params=EXAMPLES, ids=str)
def example(request):
    return request.param


@pytest.fixture(scope="module")
def server(example: Example, tmp_path_factory: pytest.TempPathFactory):
    with serve(example, example.directory, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.port}"


def open_websocket(server, **options):
    return connect(f"ws://127.0.0.1:{server.port}/ws", open_timeout=CLIENT_TIMEOUT, **options)


def read_event(lines):
    """Return the next server-sent event of an iterator over lines, as a dictionary."""
    event = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            return event
    return None


def test_urllib_gets_a_page(url):
    with urllib.request.urlopen(f"{url}/", timeout=CLIENT_TIMEOUT) as answer:
        assert answer.status == 200
        assert "ersion" in answer.read().decode()


def test_httpx_keeps_its_connection(url, server):
    """Answers on one connection come from one worker, and 200 requests reach the same one."""
    with httpx.Client(base_url=url, timeout=CLIENT_TIMEOUT) as client:
        answers = [client.get("/version").json() for _ in range(200)]
    pids = {answer["pid"] for answer in answers}
    assert len(pids) == 1
    assert pids < set(server.processes())


def test_httpx_uploads_in_chunks(url):
    """A body without a length arrives whole."""
    pieces = (BODY[start : start + 50_000] for start in range(0, MEBIBYTE, 50_000))
    answer = httpx.post(f"{url}/upload", content=pieces, timeout=CLIENT_TIMEOUT)
    assert answer.json() == {"bytes": MEBIBYTE}


def test_aiohttp_uploads_and_waits_for_slow_answers_at_once(url):
    async def exchange():
        timeout = aiohttp.ClientTimeout(CLIENT_TIMEOUT)
        async with aiohttp.ClientSession(url, timeout=timeout) as session:
            async with session.post("/upload", data=BODY) as answer:
                assert await answer.json() == {"bytes": MEBIBYTE}

            async def get_slow():
                async with session.get("/slow", params={"seconds": "0.2"}) as answer:
                    await answer.read()
                    return answer.status

            assert await asyncio.gather(*(get_slow() for _ in range(20))) == [200] * 20

    asyncio.run(exchange())


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_uploads_behind_expect_continue(url, tmp_path):
    """The answer to `Expect: 100-continue` comes; curl would wait ten seconds for it here."""
    body = tmp_path / "body"
    body.write_bytes(BODY)
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--max-time", "5"),
            *("--expect100-timeout", "10", "--header", "Expect: 100-continue"),
            *("--data-binary", f"@{body}", f"{url}/upload"),
        ],
        capture_output=True,
        timeout=CLIENT_TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bytes": MEBIBYTE}


def test_events_arrive_as_they_are_sent(url):
    with httpx.stream("GET", f"{url}/events", timeout=CLIENT_TIMEOUT) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert read_event(lines)["event"] == "tick"
        assert read_event(lines)["event"] == "tick"


def test_websocket_echoes_text_and_bytes(server):
    # Random bytes grow a little when compressed, beyond this client's own limit of a mebibyte.
    with open_websocket(server, max_size=2 * MEBIBYTE) as socket:
        for message in ("hello", TEXT, b"\x00\xff", BODY):
            socket.send(message)
            assert socket.recv(CLIENT_TIMEOUT) == message
        assert socket.ping().wait(CLIENT_TIMEOUT)


def test_aiohttp_speaks_websocket(url):
    async def exchange():
        async with (
            aiohttp.ClientSession(url) as session,
            session.ws_connect("/ws", compress=15) as socket,
        ):
            await socket.send_str(TEXT)
            assert await socket.receive_str(timeout=CLIENT_TIMEOUT) == TEXT
            await socket.send_bytes(BODY)
            assert await socket.receive_bytes(timeout=CLIENT_TIMEOUT) == BODY

    asyncio.run(exchange())


def test_the_import_can_be_shared_by_forking(server):
    """No example needs the slower start in which each worker imports by itself."""
    assert "cannot be shared by forking" not in server.log
    assert "Traceback" not in server.log


def test_edit_reload_stop(example, tmp_path, tmp_path_factory):
    """An edit is served after the reload; streams end whole, WebSockets with 1012; nothing is left."""
    directory = example.copy_to(tmp_path)
    # The path of the admin socket has to fit into 107 bytes.
    runtime = tmp_path_factory.mktemp("run")
    runtime.chmod(0o700)
    environment = {"XDG_RUNTIME_DIR": str(runtime)}
    options = ("--admin-socket", "auto")
    with (
        serve(example, directory, tmp_path, *options, env=environment) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=CLIENT_TIMEOUT) as client,
        client.stream("GET", "/events") as stream,
        open_websocket(server) as socket,
    ):
        before = client.get("/version").json()
        lines = stream.iter_lines()
        assert before["version"] == "1"
        assert read_event(lines)["event"] == "tick"

        example.release(directory, "2")
        assert httpx.get(client.base_url.join("/version")).json()["version"] == "1"
        reload_and_wait(server.pid, environment)

        for _ in range(10):
            after = httpx.get(client.base_url.join("/version")).json()
            assert after["version"] == "2"
            assert after["pid"] != before["pid"]
        assert client.get("/version").status_code == 200

        # iter_lines() raises when the body ends without its last chunk.
        events = list(iter(lambda: read_event(lines), None))
        assert stream.headers["transfer-encoding"] == "chunked"
        assert events[-1] == {"event": "goodbye", "data": "reload", "retry": "100"}

        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(CLIENT_TIMEOUT)
        assert closed.value.rcvd.code == 1012

        assert server.stop() == 0
        assert server.left_behind() == []
        assert "Traceback" not in server.log, server.log


def test_guests_of_a_chat_hear_each_other(tmp_path):
    fastapi_app = next(example for example in EXAMPLES if example.name == "fastapi_app")
    options = ("--app-dir", str(fastapi_app.directory))
    with Server(tmp_path, *options, workers=1) as server:
        chat = f"ws://127.0.0.1:{server.port}/chat"
        with connect(f"{chat}?name=ann") as ann, connect(f"{chat}?name=bob") as bob:
            # Who hears the own words has been let in.
            ann.send("hello?")
            assert ann.recv(CLIENT_TIMEOUT) == "ann: hello?"
            bob.send("hello!")
            assert ann.recv(CLIENT_TIMEOUT) == "bob: hello!"


def test_litestar_with_its_own_logging_is_served_and_reloaded(tmp_path):
    """A Litestar application starts a thread at import; its workers then import for themselves."""
    code = """
from litestar import Litestar, get

@get("/")
async def index() -> str:
    return "1"

app = Litestar([index])
"""
    app = tmp_path / "app.py"
    app.write_text(code)
    with Server(tmp_path, workers=2) as server:
        server.wait_log("cannot be shared by forking")
        assert server.version() == 1
        app.write_text(code.replace('"1"', '"2"'))
        server.reload()
        assert {server.version() for _ in range(10)} == {2}


def reload_and_wait(pid, environment):
    """Reload as a deploy script does, which knows the process and not the socket."""
    done = subprocess.run(
        [sys.executable, "-m", "asgireload", "reload", "--wait", "--pid", str(pid)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_broken_django_view_refuses_the_reload(tmp_path):
    """Django itself would import the views at the first request, and fail there."""
    django = next(example for example in EXAMPLES if example.name == "django_app")
    directory = django.copy_to(tmp_path)
    with serve(django, directory, tmp_path) as server:
        before = server.get("/version")
        views = directory / "project" / "views.py"
        views.write_text(views.read_text() + "\nimport no_such_module_anywhere\n")
        assert "no_such_module_anywhere" in server.reload(ok=False)
        assert json.loads(server.get("/version"))["version"] == json.loads(before)["version"]
