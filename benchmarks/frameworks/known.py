"""Where asgireload is meant to behave otherwise than uvicorn, and why. Pure.

A difference that is not in this table is told as one, and `make frameworks` fails.
"""

from .judging import Better

_LENGTH = "a response in one piece has a length, uvicorn sends chunks"
_KEPT_OPEN = "an error of the application does not cost its client the connection"
_NOT_DELAYED = "others are answered, uvicorn keeps them waiting until the stream ends"
_ENDED = "the generator ends, under uvicorn it goes on for nobody"
_QUIET = "a client that leaves is no error, uvicorn logs one"

BETTER: tuple[Better, ...] = (
    Better("the client gets its answer, uvicorn breaks it off", "half-closed*", "answer", "200 *"),
    Better("the client gets its answer, uvicorn breaks it off", "half-closed*", "log", "nothing"),
    Better(_LENGTH, "*", "content-length", theirs="none"),
    Better(_LENGTH, "*", "transfer-encoding", "none", "chunked"),
    Better(_KEPT_OPEN, "*", "connection", "none", "close"),
    Better(_NOT_DELAYED, "*never waits*", "another is answered", "200 in <0.8 s", "200 in *"),
    Better(_ENDED, "client leaves*never waits*", "after", "<0.8 s"),
    Better(_ENDED, "client leaves*never waits*", "application is told", "ended", "nothing"),
    Better(_QUIET, "upload, client leaves", "log", "nothing", "ClientDisconnect"),
    Better(
        "code 1006 as RFC 6455 has it for a connection that ends without a close frame",
        "WebSocket, client leaves",
        "close",
        "code=1006",
        "code=1005",
    ),
    Better(
        "the denial is an answer, uvicorn logs that there was none",
        "WebSocket denial response",
        "log",
        "nothing",
        "ERROR:*",
    ),
    Better(
        "the refusal says in its body what it is, uvicorn's is empty",
        "WebSocket closed before accept",
        "body",
    ),
    Better(
        "the same, with the exception that asyncio has for it",
        "WebSocket sends after the client left",
        "log",
        "ConnectionResetError*",
        "ClientDisconnected*",
    ),
    Better(
        "the same, with the exception that asyncio has for it",
        "WebSocket sends after the client left",
        "application is told",
        "ConnectionResetError",
        "ClientDisconnected",
    ),
    # This middleware gives a wrong length, which both servers refuse in their own words.
    Better(
        "the same failure in other words",
        "file, compressed",
        "log",
        "AppProtocolError",
        "RuntimeError",
        framework="Django",
        middleware="brotli-asgi",
    ),
)
