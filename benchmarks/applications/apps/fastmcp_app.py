"""An MCP server with one tool, over streamable HTTP.

Stateless: a session that one worker knows, another does not.
"""

from fastmcp import FastMCP
from starlette.requests import Request
from starlette.responses import PlainTextResponse

server = FastMCP("adder")


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.custom_route("/health", methods=["GET"])
async def health(request: Request) -> PlainTextResponse:
    return PlainTextResponse("OK")


app = server.http_app(path="/mcp", stateless_http=True)
