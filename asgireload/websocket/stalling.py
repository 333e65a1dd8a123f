"""Decide when a client has not read for too long. Pure: the caller passes the time and the counts."""


class StallWatch:
    """Detects a stall: no byte delivered for `timeout` seconds while bytes wait.

    While bytes wait to be sent, call `is_stalled` every `interval` seconds; when none wait, call `rest`. A stall is
    reported not before `timeout` seconds, and at most about one interval later.
    """

    LOOKS = 8

    __slots__ = ("_delivered_bytes", "_since", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._delivered_bytes = -1
        self._since = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two calls of `is_stalled`."""
        return self.timeout / self.LOOKS

    def is_stalled(self, now: float, delivered_bytes: int) -> bool:
        """Return whether bytes have waited for `timeout` seconds and none was delivered.

        `delivered_bytes` counts all bytes that left the process since the connection began; `now` is monotonic.
        """
        if delivered_bytes != self._delivered_bytes:
            self._delivered_bytes = delivered_bytes
            self._since = now
            return False
        return now - self._since >= self.timeout

    def rest(self) -> None:
        """Reset, because no bytes wait: the next bytes to wait begin a new timeout."""
        self._delivered_bytes = -1
