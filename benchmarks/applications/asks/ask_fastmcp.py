import asyncio

from common import HTTP
from fastmcp import Client


async def ask() -> None:
    async with Client(f"{HTTP}/mcp") as client:
        tools = await client.list_tools()
        assert [tool.name for tool in tools] == ["add"], tools
        result = await client.call_tool("add", {"a": 2, "b": 3})
        assert result.data == 5, result


asyncio.run(ask())
