"""Changes of the watched files, as a value."""

from collections.abc import Callable

import msgspec


class Changes(msgspec.Struct, frozen=True):
    """Changes since an earlier look. Paths are absolute, with symbolic links resolved."""

    arrived: frozenset[str] = msgspec.field(default_factory=frozenset)
    """Files that were written and closed, or moved there, so that they are complete."""
    vanished: frozenset[str] = msgspec.field(default_factory=frozenset)
    """Files that were deleted or moved away, possibly to be replaced."""
    is_vague: bool = False
    """Any file may have changed: notices were lost, or a directory was created again."""
    is_environment: bool = False
    """The environment of the application has changed: installed libraries, the required ones (pyproject.toml), or
    the variables of --env-file."""

    @property
    def paths(self) -> frozenset[str]:
        return self.arrived | self.vanished

    @property
    def asks_for_reload(self) -> bool:
        """False when only libraries have changed: `pip install` writes for seconds, and the next save loads
        them."""
        return bool(self.arrived or self.vanished or self.is_vague)

    def without(self, is_left_out: Callable[[str], bool]) -> "Changes":
        """Return the changes without the paths for which `is_left_out` returns true."""
        return msgspec.structs.replace(
            self,
            arrived=frozenset(path for path in self.arrived if not is_left_out(path)),
            vanished=frozenset(path for path in self.vanished if not is_left_out(path)),
        )

    def __bool__(self) -> bool:
        return self.asks_for_reload or self.is_environment

    def __or__(self, other: "Changes") -> "Changes":
        """Return both changes, of which `other` is the later: a path that arrived again has not vanished."""
        return Changes(
            (self.arrived - other.vanished) | other.arrived,
            (self.vanished - other.arrived) | other.vanished,
            self.is_vague or other.is_vague,
            self.is_environment or other.is_environment,
        )


NOTHING = Changes()
