"""Clients that people use, and what they see of event streams over reloads."""

import asyncio
import json
import shutil
import signal
import subprocess
import threading

import aiohttp
import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.examples.browser import PROGRAM, open_page
from tests.process.running import wait_until
from tests.process.streams.serving import StreamServer, assert_every_number_once

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TIMEOUT = 20.0
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def parsed(data):
    number, version = data.split()
    return int(number), int(version)


def read_through(server, read, versions=(2, 3, 4)):
    """Let `read(seen, stop)` append (number, version) pairs while versions are released; return them.

    It is told to stop by the event when it has seen the last one.
    """

    async def scenario():
        seen, stop = [], asyncio.Event()
        reading = asyncio.ensure_future(read(seen, stop))

        async def wait_version(version):
            async with asyncio.timeout(TIMEOUT):
                while not seen or seen[-1][1] != version:
                    if reading.done():
                        await reading
                        raise AssertionError("the client has stopped reading")
                    await asyncio.sleep(0.02)

        await wait_version(1)
        for version in versions:
            server.release(version)
            await asyncio.to_thread(server.reload)
            await wait_version(version)
        stop.set()
        await reading
        return seen

    return asyncio.run(scenario())


# --- with ids: nothing is seen --------------------------------------------------------------------


@needs_chromium
def test_eventsource_of_a_browser_sees_no_error_and_every_number_once(tmp_path):
    with (
        StreamServer(tmp_path, "page_app") as server,
        open_page(f"http://127.0.0.1:{server.port}/") as page,
    ):
        page.wait_for("typeof seen !== 'undefined' && seen.length > 3")
        for version in (2, 3, 4):
            server.release(version)
            server.kill(signal.SIGHUP)
            page.wait_for(f"versions.has({version})", timeout=TIMEOUT)
            wait_until(lambda wanted=version: f"Reload {wanted - 1} committed" in server.log)
        assert_every_number_once(page.evaluate("seen"))
        assert page.evaluate("[opened, errors]") == [1, 0]
        server.assert_quiet()


def test_httpx_sse_reads_one_response_to_the_end(tmp_path):
    with StreamServer(tmp_path, "plain_asgi") as server:

        async def read(seen, stop):
            async with (
                httpx.AsyncClient(timeout=TIMEOUT) as client,
                aconnect_sse(client, "GET", f"http://127.0.0.1:{server.port}/ids") as source,
            ):
                async for event in source.aiter_sse():
                    assert event.id == event.data.split()[0]
                    seen.append(parsed(event.data))
                    if stop.is_set():
                        return
                raise AssertionError("the response has ended")

        assert_every_number_once([number for number, _ in read_through(server, read)])
        server.assert_quiet()


def test_aiohttp_reads_one_response_to_the_end(tmp_path):
    with StreamServer(tmp_path, "plain_asgi") as server:

        async def read(seen, stop):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{server.port}/ids") as answer,
            ):
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        seen.append(parsed(line.decode()[6:]))
                        if stop.is_set():
                            return
                raise AssertionError("the response has ended")

        assert_every_number_once([number for number, _ in read_through(server, read)])
        server.assert_quiet()


@needs_curl
@pytest.mark.parametrize("http", ["--http1.1", "--http1.0"])
def test_curl_shows_every_event_of_one_response(tmp_path, http):
    output = tmp_path / "output"
    with StreamServer(tmp_path, "plain_asgi") as server, output.open("wb") as file:
        command = ["curl", "--silent", "--no-buffer", http, f"http://127.0.0.1:{server.port}/ids"]
        curl = subprocess.Popen(command, stdout=file)
        try:
            for version in (1, 2, 3, 4):
                if version > 1:
                    server.release(version)
                    server.reload()
                wait_until(lambda seen=f" {version}\n": seen in output.read_text())
            assert curl.poll() is None
        finally:
            curl.terminate()
            curl.wait()
        events = output.read_text().split("\n\n")[:-1]
        assert_every_number_once([int(event.split()[3]) for event in events])
        server.assert_quiet()


# --- without ids: a proper end --------------------------------------------------------------------


@needs_chromium
def test_eventsource_of_a_browser_comes_back_by_itself(tmp_path):
    """Its `error` event says that it does; the page need not do anything."""
    with (
        StreamServer(tmp_path, "page_app") as server,
        open_page(f"http://127.0.0.1:{server.port}/?plain") as page,
    ):
        page.wait_for("typeof seen !== 'undefined' && seen.length > 3")
        server.release(2)
        server.reload()
        page.wait_for("versions.has(2)", timeout=TIMEOUT)
        assert page.evaluate("[opened, errors, source.readyState]") == [2, 1, 1]
        server.assert_quiet()


@needs_curl
@pytest.mark.parametrize("http", ["--http1.1", "--http1.0"])
def test_curl_ends_with_status_0_and_whole_events(tmp_path, http):
    output = tmp_path / "output"
    with StreamServer(tmp_path, "plain_asgi") as server, output.open("wb") as file:
        command = ["curl", "--silent", "--no-buffer", http, f"http://127.0.0.1:{server.port}/plain"]
        curl = subprocess.Popen(command, stdout=file)
        try:
            wait_until(output.read_text)
            server.reload()
            assert curl.wait(TIMEOUT) == 0
        finally:
            curl.kill()
            curl.wait()
        *events, rest = output.read_text().split("\n\n")
        assert rest == ""
        assert_every_number_once([int(event.split()[1]) for event in events])
        server.assert_quiet()


def test_httpx_sse_ends_its_loop_and_no_error_is_raised(tmp_path):
    """Which is how it says that it is time to come back."""
    with StreamServer(tmp_path, "plain_asgi") as server:

        async def read(seen, stop):
            async with httpx.AsyncClient(timeout=TIMEOUT) as client:
                while not stop.is_set():
                    after = seen[-1][0] if seen else 0
                    url = f"http://127.0.0.1:{server.port}/plain?after={after}"
                    async with aconnect_sse(client, "GET", url) as source:
                        async for event in source.aiter_sse():
                            seen.append(parsed(event.data))
                            if stop.is_set():
                                return

        assert_every_number_once([number for number, _ in read_through(server, read)])
        server.assert_quiet()


# --- streams of a POST ----------------------------------------------------------------------------


def test_an_answer_of_a_language_model_is_complete_over_a_reload(tmp_path):
    """It is a POST, so it cannot be asked for again: the old code finishes it."""
    with (
        StreamServer(tmp_path, "completions_app") as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=TIMEOUT) as client,
        client.stream("POST", "/v1/chat/completions", json={"prompt": "t"}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines)
        server.release(2)
        reloading = threading.Thread(target=server.reload)
        reloading.start()
        # iter_lines() raises when the body ends without its last chunk.
        data = [line.removeprefix("data: ") for line in lines if line]
        reloading.join()
        assert data.pop() == "[DONE]"
        words = [json.loads(piece)["choices"][0]["delta"]["content"] for piece in data]
        assert words == [f"t{number} " for number in range(1, 150)]
        assert server.get() == "2"
        server.assert_quiet()
