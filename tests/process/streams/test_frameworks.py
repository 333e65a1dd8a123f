"""Event streams of the frameworks that people use, over three reloads: what their clients see."""

import asyncio

import pytest

from tests.process.streams.serving import Counting, StreamServer, assert_every_number_once

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

FRAMEWORKS = [
    "plain_asgi",
    "starlette_app",
    "sse_starlette_app",
    "fastapi_app",
    "django_app",
    "litestar_app",
    "quart_app",
]
EACH = 3
"""Clients of each kind, so that both workers have some."""


def over_reloads(server, path, count=EACH):
    """Return clients of this path that have seen three reloads, and left."""

    async def scenario():
        clients = [await Counting(server.port, path).start() for _ in range(count)]
        for version in (2, 3, 4):
            server.release(version)
            await asyncio.to_thread(server.reload)
            for client in clients:
                await client.wait_version(version)
        for client in clients:
            await client.stop()
        return clients

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_with_ids_one_response_goes_on_through_every_reload(tmp_path, name):
    with StreamServer(tmp_path, name) as server:
        clients = over_reloads(server, "/ids")
        for client in clients:
            assert client.ends == 0
            assert_every_number_once([number for number, _ in client.values])
            assert {version for _, version in client.values} == {1, 2, 3, 4}
        server.assert_quiet()
        if name == "sse_starlette_app":
            assert all(client.comments > 5 for client in clients)
            # Each old call has heard, and those of the clients that left at the end.
            assert server.log.count("client left: http.disconnect") == 4 * len(clients)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_without_ids_a_stream_ends_properly_and_the_client_that_comes_back_misses_nothing(
    tmp_path, name
):
    with StreamServer(tmp_path, name) as server:
        clients = over_reloads(server, "/plain")
        for client in clients:
            assert client.ends == 3
            assert_every_number_once([number for number, _ in client.values])
        server.assert_quiet()


def test_a_generator_in_a_thread_goes_on_through_every_reload(tmp_path):
    """FastAPI and Starlette run a generator that is not async in their thread pool."""
    with StreamServer(tmp_path, "fastapi_app") as server:
        clients = over_reloads(server, "/threads")
        for client in clients:
            assert client.ends == 0
            assert_every_number_once([number for number, _ in client.values])
        server.assert_quiet()
