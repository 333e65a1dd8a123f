"""What a look at the watched files has shown. Values only."""

from collections.abc import Callable

import msgspec


class Changes(msgspec.Struct, frozen=True):
    """Paths are absolute and resolved, as the kernel knows them."""

    arrived: frozenset[str] = msgspec.field(default_factory=frozenset)
    """Written and closed, or moved there: complete."""
    vanished: frozenset[str] = msgspec.field(default_factory=frozenset)
    """Deleted or moved away; perhaps only to be replaced."""
    is_vague: bool = False
    """Anything may have changed: notices were lost, or a directory has come back."""
    is_environment: bool = False
    """What is installed beside the application has changed: libraries, what is
    asked for of them, or the variables of --env-file."""

    @property
    def paths(self) -> frozenset[str]:
        return self.arrived | self.vanished

    @property
    def asks_for_reload(self) -> bool:
        """Not for a library alone: `pip install` writes for seconds, and the next save takes it in."""
        return bool(self.arrived or self.vanished or self.is_vague)

    def without(self, is_left_out: Callable[[str], bool]) -> "Changes":
        """Return the same without the paths that `is_left_out` says so of."""
        return msgspec.structs.replace(
            self,
            arrived=frozenset(path for path in self.arrived if not is_left_out(path)),
            vanished=frozenset(path for path in self.vanished if not is_left_out(path)),
        )

    def __bool__(self) -> bool:
        return self.asks_for_reload or self.is_environment

    def __or__(self, other: "Changes") -> "Changes":
        """Return both, `other` being the later: what came back has not vanished."""
        return Changes(
            (self.arrived - other.vanished) | other.arrived,
            (self.vanished - other.arrived) | other.vanished,
            self.is_vague or other.is_vague,
            self.is_environment or other.is_environment,
        )


NOTHING = Changes()
