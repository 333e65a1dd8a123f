"""Event streams of the frameworks that people use, over three reloads: what their clients see."""

import asyncio

import pytest

from tests.process.running import wait_until
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


def over_reloads(server, *paths):
    """Return the clients of each path, which have seen three reloads and left."""

    async def scenario():
        kinds = [[await Counting(server.port, path).start() for _ in range(EACH)] for path in paths]
        clients = [client for kind in kinds for client in kind]
        for version in (2, 3, 4):
            server.release(version)
            await asyncio.to_thread(server.reload)
            for client in clients:
                await client.wait_version(version)
        for client in clients:
            await client.stop()
            assert_every_number_once([number for number, _ in client.values])
        return kinds

    return asyncio.run(scenario())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_with_ids_one_response_goes_on_and_without_them_each_ends_properly(tmp_path, name):
    """No client misses an event or gets one twice; those without ids come back three times."""
    with StreamServer(tmp_path, name) as server:
        with_ids, without = over_reloads(server, "/ids", "/plain")
        for client in with_ids:
            assert client.ends == 0
            assert {version for _, version in client.values} == {1, 2, 3, 4}
        assert [client.ends for client in without] == [3] * EACH
        server.assert_quiet()


def test_sse_starlette_pings_and_hears_of_the_end_in_each_worker(tmp_path):
    with StreamServer(tmp_path, "sse_starlette_app") as server:
        (clients,) = over_reloads(server, "/ids")
        assert all(client.comments > 5 for client in clients)
        # Each call hears that its client has left: three that have moved, and the one at the end.
        wait_until(lambda: server.log.count("client left: http.disconnect") == 4 * EACH)
        server.assert_quiet()


def test_a_generator_in_a_thread_goes_on_through_every_reload(tmp_path):
    """FastAPI and Starlette run a generator that is not async in their thread pool."""
    with StreamServer(tmp_path, "fastapi_app") as server:
        (clients,) = over_reloads(server, "/threads")
        assert [client.ends for client in clients] == [0] * EACH
        server.assert_quiet()


def test_streams_of_recycled_workers_go_on_too(tmp_path):
    async def scenario(server):
        before = set(server.worker_pids())
        clients = [await Counting(server.port, "/ids").start() for _ in range(4)]

        def all_are_new():
            server.get()
            return len(server.workers()) == 2 and not before & set(server.worker_pids())

        await asyncio.to_thread(wait_until, all_are_new)
        for client in clients:
            await client.wait_more(5)
            await client.stop()
            assert client.ends == 0
            assert_every_number_once([number for number, _ in client.values])

    with StreamServer(tmp_path, "plain_asgi", "--max-requests", "20") as server:
        asyncio.run(scenario(server))
        server.assert_quiet()
