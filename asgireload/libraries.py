"""Which files belong to the application, and which to libraries.

Libraries are the installed packages (site-packages) and Python itself; when they change, everything is loaded
again. All other files may be edited at any time, such as those of an editable installation or of a PYTHONPATH
directory.
"""

import os
import site
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec

import msgspec

from asgireload.config import Config

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class Places(msgspec.Struct, frozen=True):
    """Directories of Python, of installed packages and of the application, each with a trailing separator."""

    python: tuple[str, ...]
    """The standard library."""
    installed: tuple[str, ...]
    application: tuple[str, ...]
    """Watched directories, and the one that the application is imported from. A library in a directory that is
    watched by name is edited, so it belongs to the application."""

    def is_library(self, file: str) -> bool:
        """Return whether the file with this absolute path belongs to a library."""
        for directory in self.application:
            if file.startswith(directory):
                below = file[len(directory) :].split(os.sep)
                return not _INSTALLED.isdisjoint(below) or self._is_python(file, directory)
        return (
            file.startswith(self.installed)
            or not _INSTALLED.isdisjoint(file.split(os.sep))
            or self._is_python(file)
        )

    def _is_python(self, file: str, within: str = "") -> bool:
        """Return whether a file belongs to the standard library, unless `within`, a watched directory, is in it."""
        return any(
            file.startswith(directory) and not within.startswith(directory)
            for directory in self.python
        )


def find_places(application: Iterable[str]) -> Places:
    """Return the places of this interpreter. `application`: resolved directories."""
    python, installed = _interpreter_places()
    return Places(python, installed, _with_separator(application))


@cache
def _interpreter_places() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the directories of the standard library and of installed packages; forks inherit the cached result."""
    import sysconfig  # imported late: used with --reload only

    paths = sysconfig.get_paths()
    installed = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        installed.add(site.getusersitepackages())
    return (
        _with_separator({paths["stdlib"], paths["platstdlib"]}),
        _with_separator({*installed, _PACKAGE}),
    )


def application_places(config: Config) -> Places:
    """Return the places for a configuration, whose relative directories start at the current working directory."""
    names = (config.app_dir or ".", *config.reload_dir)
    return find_places(dict.fromkeys(os.path.realpath(name) for name in names))


def library_names(modules: Mapping[str, object], places: Places) -> tuple[str, ...]:
    """Return the names of the `modules` (as in `sys.modules`) that belong to libraries and can be imported by
    name."""
    return tuple(name for name, module in modules.items() if _is_library(name, module, places))


def _is_library(name: str, module: object, places: Places) -> bool:
    """Return whether a module belongs to a library; false for an alias and for a module created at run time."""
    spec = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec) or spec.name != name or name == "__main__":
        return False
    if spec.has_location and spec.origin is not None:
        return places.is_library(spec.origin)
    portions = spec.submodule_search_locations
    return bool(portions) and all(places.is_library(os.path.join(p, "")) for p in portions or ())


def _with_separator(directories: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(os.path.join(directory, "") for directory in directories))
