"""The Model Context Protocol over streamable HTTP: what a client of its Python SDK sees of a reload.

Its sessions live in the memory of a worker, with the events that an event store of that process keeps. Another
worker answers 404 for them, which tells a client to begin a new session; no server can make this otherwise.
"""

import asyncio

import pytest

from tests.process.streams.serving import StreamServer

pytest.importorskip("mcp", reason="the MCP SDK is not installed")

from mcp.client.client import Client
from mcp.client.subscriptions import SubscriptionLost, ToolsListChanged
from mcp.shared.exceptions import MCPError

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

WITH_SESSIONS = "legacy"
"""Protocols until 2025-11-25: a handshake, a session, and a GET for notifications."""
WITHOUT = "auto"
"""From 2026-07-28 on each request stands for itself, and notifications come behind a POST."""


async def ask_version(client):
    return (await client.call_tool("version")).structured_content["result"]


@pytest.mark.parametrize("env", [{}, {"EVENT_STORE": "1"}], ids=["plain", "event store"])
def test_a_session_ends_with_its_worker_and_a_new_one_can_begin(tmp_path, env):
    async def scenario(server):
        url = f"http://127.0.0.1:{server.port}/mcp"
        notes = []

        async def note(message):
            notes.append(getattr(message, "method", message))

        async with Client(url, mode=WITH_SESSIONS, message_handler=note) as client:
            assert await ask_version(client) == 1
            while not notes:
                await client.call_tool("announce")
            assert set(notes) == {"notifications/tools/list_changed"}
            server.release(2)
            await asyncio.to_thread(server.reload)
            # Its GET was ended properly, or moved and ended there; old code has nothing left to do.
            await asyncio.to_thread(server.wait_drained)
            with pytest.raises(MCPError, match="Session not found"):
                await ask_version(client)
        async with Client(url, mode=WITH_SESSIONS) as client:
            assert await ask_version(client) == 2

    with StreamServer(tmp_path, "mcp_app", workers=1, env=env) as server:
        asyncio.run(scenario(server))
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("mode", "env"),
    [(WITHOUT, {}), (WITH_SESSIONS, {"STATELESS": "1"})],
    ids=["2026-07-28", "stateless"],
)
def test_without_sessions_a_client_does_not_notice(tmp_path, mode, env):
    async def scenario(server):
        async with Client(f"http://127.0.0.1:{server.port}/mcp", mode=mode) as client:
            for version in (1, 2, 3):
                if version > 1:
                    server.release(version)
                    await asyncio.to_thread(server.reload)
                assert await ask_version(client) == version

    with StreamServer(tmp_path, "mcp_app", env=env) as server:
        asyncio.run(scenario(server))
        assert "Traceback" not in server.log


def test_a_subscription_is_kept_until_the_deadline_and_then_lost(tmp_path):
    """It is a POST, which finishes; but this one has no end of its own."""

    async def scenario(server):
        url = f"http://127.0.0.1:{server.port}/mcp"
        async with Client(url, mode=WITHOUT) as client:
            async with client.listen(tools_list_changed=True) as subscription:
                await client.call_tool("announce")
                assert isinstance(await anext(subscription), ToolsListChanged)
                server.release(2)
                await asyncio.to_thread(server.reload)
                with pytest.raises(SubscriptionLost):
                    await anext(subscription)
            async with client.listen(tools_list_changed=True) as subscription:
                await client.call_tool("announce")
                assert isinstance(await anext(subscription), ToolsListChanged)

    with StreamServer(tmp_path, "mcp_app", "--drain-timeout", "3", workers=1) as server:
        asyncio.run(scenario(server))
