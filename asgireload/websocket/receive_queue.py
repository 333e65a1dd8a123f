"""A bounded queue of a client's messages that wait for the application.

When the queue is full, the connection keeps further bytes undecoded and stops reading the socket.
"""

from collections import deque
from typing import Final

from asgireload.websocket.session import weight


class ReceiveQueue:
    """Holds messages up to `limit` places, as `weight` counts them; the last message may exceed the limit."""

    __slots__ = ("_half", "limit", "messages", "room")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.messages: deque[str | bytes] = deque()
        self.room = limit
        """The number of free places; negative if the last message has exceeded the limit."""
        self._half: Final = (limit + 1) // 2

    def put(self, message: str | bytes) -> None:
        self.messages.append(message)
        self.room -= weight(message)

    def take(self) -> str | bytes:
        """Remove and return the oldest message. The queue must not be empty."""
        message = self.messages.popleft()
        self.room += weight(message)
        return message

    @property
    def is_half_empty(self) -> bool:
        """Whether half of the places are free, so that it is worth resuming to read."""
        return self.room >= self._half
