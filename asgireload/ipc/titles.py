"""Process titles: `asgireload worker 2, generation 7 [app:app]` in ps and top.

setproctitle is optional; without it the titles are those that the system takes from the command line.
"""

from collections.abc import Callable

_set: Callable[[str], None] | None = None
try:
    from setproctitle import setproctitle as _set
except ImportError:
    pass  # the [standard] extra is not installed


def set_title(
    role: str, app: str, *, slot: int | None = None, generation: int | None = None
) -> None:
    """Set the title of this process. Nothing happens without setproctitle."""
    if _set is None:
        return
    place = f" {slot}" if slot is not None else ""
    load = f", generation {generation}" if generation is not None else ""
    _set(f"asgireload {role}{place}{load} [{app}]")
