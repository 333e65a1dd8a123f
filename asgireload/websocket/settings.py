"""The slice of the configuration that WebSocket connections read beside `HttpSettings`."""

from dataclasses import dataclass
from typing import Literal

SessionName = Literal["builtin", "wsproto"]
"""Who reads and writes the frames of a WebSocket; see `websocket/sessions.py`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each is code to compile at a start
class WebSocketSettings:
    """What WebSocket connections of one server read of its configuration. Times are seconds, sizes bytes."""

    session: SessionName = "builtin"
    """Who reads and writes frames."""
    max_size: int = 16 * 1024 * 1024
    max_frame_size: int | None = None
    """None: a frame may be as large as a message."""
    max_fragments: int = 1024
    max_inflation_ratio: int | None = 200
    max_queue: int = 32
    """Messages held for an application that does not receive; no more is decoded or read then."""
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    per_message_deflate: bool = True
    close_timeout: float = 2.0
    """How long the peer's answer to a close frame is awaited."""
    handover_timeout: float = 5.0
    """How long an application may take to give its state."""
    handover_max_state: int = 64 * 1024
