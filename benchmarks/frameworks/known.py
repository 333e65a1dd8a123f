"""Where asgireload is meant to behave otherwise than uvicorn, and why. Pure.

A difference that is not in this table is told as one, and `make frameworks` fails.
"""

from .judging import Better

_LENGTH = "a response in one piece has a length, uvicorn sends chunks"
_KEPT_OPEN = "an error of the application does not close the connection"
_NOT_DELAYED = "others are answered, uvicorn keeps them waiting until the stream ends"
_ENDED = "the generator ends, under uvicorn it continues without a client"
_QUIET = "a disconnect is not an error, uvicorn logs one"

_REFUSED = "the client gets 500, uvicorn closes without a response"

BETTER: tuple[Better, ...] = (
    Better("the client gets its answer, uvicorn breaks it off", "half-closed*", "answer", "200 *"),
    Better("the client gets its answer, uvicorn breaks it off", "half-closed*", "log", "nothing"),
    Better(_LENGTH, "*", "content-length", theirs="none"),
    Better(_LENGTH, "*", "transfer-encoding", "none", "chunked"),
    Better(_KEPT_OPEN, "*", "connection", "none", "close"),
    *(
        better
        for feature in ("client leaves*", "client stops*")
        for better in (
            Better(_NOT_DELAYED, feature, "another is answered", "200 in <0.8 s", "200 in *"),
            Better(_ENDED, feature, "after", "<0.8 s"),
            Better(_ENDED, feature, "application is told", "ended", "nothing"),
        )
    ),
    # Django keeps a response whose client has left in a cycle of references. A generator that is cancelled within a
    # `send` is closed with it, by the garbage collector; under uvicorn it goes on for nobody until its own end.
    *(
        Better(
            "the generator ends with the next garbage collection, under uvicorn it continues without a client and"
            " keeps others waiting",
            feature,
            fact,
            ours,
            framework="Django",
        )
        for feature in ("client leaves a stream that never waits", "client stops*")
        for fact, ours in (("after", "never"), ("application is told", "nothing"))
    ),
    Better(_QUIET, "upload, client leaves", "log", "nothing", "ClientDisconnect"),
    Better(
        "code 1006, as RFC 6455 defines it for a connection that ends without a close frame",
        "WebSocket, client leaves",
        "close",
        "code=1006",
        "code=1005",
    ),
    Better(
        "the denial counts as an answer, uvicorn logs that there was none",
        "WebSocket denial response",
        "log",
        "nothing",
        "ERROR:*",
    ),
    Better(
        "the refusal has a body that explains it, uvicorn's is empty",
        "WebSocket closed before accept",
        "body",
    ),
    Better(_QUIET, "WebSocket sends after the client left", "log", "nothing"),
    # Litestar has no exception of its own for it.
    *(
        Better(
            "the same, with an exception that is a ConnectionResetError",
            "WebSocket sends after the client left",
            fact,
            "ClientDisconnectedError",
            "ClientDisconnected",
            framework="Litestar",
        )
        for fact in ("application is told", "log")
    ),
    # This middleware reads a stream of text as one of bytes, and fails.
    *(
        Better(
            _REFUSED,
            "stream, compressed",
            fact,
            framework="Django",
            middleware="django-compression-middleware",
        )
        for fact in ("log", "raised", "status", "content-type", "body", "headers")
    ),
    # slowapi 0.1.10 sends the start of a response once for each piece of its body.
    *(
        Better(
            "the middleware sends the start of a stream twice, which both servers refuse",
            "*",
            fact,
            middleware="slowapi, ASGI",
        )
        for fact in ("log", "raised", "status", "content-type", "body", "headers", "answer")
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
