"""Every engine that may read a WebSocket, for the suites of this folder: parsers of the handshake, and sessions."""

import pytest

from asgireload.websocket._wsproto import WsprotoSession
from asgireload.websocket.session import WebSocketSession
from tests.http import server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A session knows nothing of loops: on one loop over wsproto."""
    left_out = {
        item
        for item in items
        if (params := getattr(item, "callspec", None) and item.callspec.params)  # type: ignore[attr-defined]
        and params.get("parser") == "wsproto"
        and params.get("loop_factory", "uvloop") != "uvloop"
    }
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=["builtin", "httptools", "h11", "wsproto"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads the handshake; "wsproto" is our own parser, with a session over wsproto behind it."""
    if request.param == "wsproto":
        monkeypatch.setattr(server, "ws_session", "wsproto")
        return "builtin"
    return str(request.param)


@pytest.fixture(params=["builtin", "wsproto"])
def session_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


SESSIONS = {"builtin": WebSocketSession, "wsproto": WsprotoSession}
