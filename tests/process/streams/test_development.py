"""`--reload` while clients listen to event streams: a save is served at once, and what the clients see."""

import asyncio
import time

import pytest

from tests.process.running import wait_until
from tests.process.streams.serving import Counting, StreamServer, assert_every_number_once

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SAVE_TIMEOUT = 5.0
"""Seconds from a save to the new code. Tens of milliseconds are usual; what streams could hold up takes longer."""


@pytest.mark.parametrize(("path", "ends"), [("/ids", 0), ("/plain", 3)])
def test_a_save_is_served_at_once_and_streams_go_on_or_come_back(tmp_path, path, ends):
    async def scenario(server):
        clients = [await Counting(server.port, path).start() for _ in range(3)]
        for version in (2, 3, 4):
            server.release(version)
            began = time.monotonic()
            await asyncio.to_thread(
                wait_until, lambda wanted=version: server.version() == wanted, SAVE_TIMEOUT
            )
            for client in clients:
                await client.wait_version(version)
            assert time.monotonic() - began < SAVE_TIMEOUT
        for client in clients:
            await client.stop()
            assert client.ends == ends
            assert_every_number_once([number for number, _ in client.values])

    with StreamServer(tmp_path, "fastapi_app", "--reload", workers=1) as server:
        server.wait_log("are kept in memory")
        asyncio.run(scenario(server))
        server.assert_quiet()
