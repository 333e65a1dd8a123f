"""The settings of WebSocket connections, in addition to `HttpSettings`."""

from dataclasses import dataclass
from typing import Literal

SessionName = Literal["builtin", "wsproto"]
"""The implementation that reads and writes frames; see `websocket/sessions.py`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each is code to compile at a start
class WebSocketSettings:
    """The settings of the WebSocket connections of one server. Times are in seconds, sizes in bytes."""

    session: SessionName = "builtin"
    """The implementation that reads and writes frames."""
    max_size: int = 16 * 1024 * 1024
    max_frame_size: int | None = None
    """None: a frame may be as large as a message."""
    max_fragments: int = 1024
    max_inflation_ratio: int | None = 200
    max_queue: int = 32
    """Messages queued for an application that does not receive; beyond them nothing is decoded or read."""
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    per_message_deflate: bool = True
    close_timeout: float = 2.0
    """Seconds for which the peer's answer to a close frame is awaited."""
    handover_timeout: float = 5.0
    """Seconds in which an application must give its state."""
    handover_max_state: int = 64 * 1024
