"""When a client that does not read has had its time. Pure: the caller tells the time and the counts."""


class StallWatch:
    """Compares what was delivered at one look with the look before.

    Look about `LOOKS` times within `timeout` seconds while bytes wait to be sent, and `rest` when none
    do; a stall is then told not before `timeout` and not much after.
    """

    LOOKS = 8

    __slots__ = ("_delivered_bytes", "_since", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._delivered_bytes = -1
        self._since = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self.timeout / self.LOOKS

    def is_stalled(self, now: float, delivered_bytes: int) -> bool:
        """True when bytes have waited for `timeout` seconds and none of them was taken.

        `delivered_bytes` counts what left the process since the connection began; `now` is monotonic.
        """
        if delivered_bytes != self._delivered_bytes:
            self._delivered_bytes = delivered_bytes
            self._since = now
            return False
        return now - self._since >= self.timeout

    def rest(self) -> None:
        """Nothing waits: what comes next begins a new time."""
        self._delivered_bytes = -1
