"""A server of the Model Context Protocol, as its Python SDK makes one."""

import os

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage, EventStore

VERSION = 1
server = MCPServer("numbers")


@server.tool()
async def version() -> int:
    return VERSION


@server.tool()
async def announce(ctx: Context) -> str:
    """Tell a client that listens that the tools have changed: by its session's stream, or its subscription."""
    await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "announced"


class MemoryStore(EventStore):
    """Events of this worker's sessions, numbered."""

    def __init__(self):
        self._events = []

    async def store_event(self, stream_id, message):
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id, send_callback):
        position = int(last_event_id)
        stream_id = self._events[position - 1][0]
        for number, (of, message) in enumerate(self._events[position:], position + 1):
            if of == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


app = server.streamable_http_app(
    stateless_http="STATELESS" in os.environ,
    event_store=MemoryStore() if "EVENT_STORE" in os.environ else None,
)
