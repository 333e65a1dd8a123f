"""Messages of a client that wait for the application, up to a bound.

When it is full, what was read stays as bytes and the socket is not read.
"""

from collections import deque
from typing import Final

from asgireload.websocket.session import weight


class ReceiveQueue:
    """Holds messages up to `limit` places, as `weight` counts them; one message more may exceed it."""

    __slots__ = ("_half", "limit", "messages", "room")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.messages: deque[str | bytes] = deque()
        self.room = limit
        """How many places are free; below zero where the last message needed more."""
        self._half: Final = (limit + 1) // 2

    def put(self, message: str | bytes) -> None:
        self.messages.append(message)
        self.room -= weight(message)

    def take(self) -> str | bytes:
        """Return the oldest message; there is one."""
        message = self.messages.popleft()
        self.room += weight(message)
        return message

    @property
    def is_half_empty(self) -> bool:
        """Whether it is worth while to read on."""
        return self.room >= self._half
