"""Format wall clock times for log lines. Pure, except for the time zone of this machine."""

import time
from datetime import UTC, datetime
from functools import lru_cache

# strftime's %b depends on the locale, which the application may set; log parsers expect the English names.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def iso_time(at: float) -> str:
    """Return a wall clock time, in seconds since the epoch, as ISO 8601 in UTC with milliseconds."""
    second = int(at)
    return f"{_iso_second(second)}.{int((at - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def clf_time(second: int) -> str:
    """Return local time in the Common Log Format: `[10/Oct/2000:13:55:36 -0700]`."""
    at = time.localtime(second)
    hours, minutes = divmod(abs(at.tm_gmtoff) // 60, 60)
    sign = "-" if at.tm_gmtoff < 0 else "+"
    return (
        f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04d}"
        f":{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} {sign}{hours:02d}{minutes:02d}]"
    )


# Requests in the same second share its text; the previous second is kept for requests that began then.
@lru_cache(maxsize=2)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
