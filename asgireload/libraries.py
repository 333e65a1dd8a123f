"""Which files are the application's, and which are libraries'. Pure.

Libraries are what is installed (site-packages) and Python itself; they do not change while one writes an
application, or everything is loaded anew. Everything else may be edited at any time: an editable
installation, a directory of PYTHONPATH.
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
    """Directories, each with a separator at its end."""

    python: tuple[str, ...]
    """The standard library."""
    installed: tuple[str, ...]
    application: tuple[str, ...]
    """What is watched, and where the application is imported from: a library that is watched by name is
    edited, so it is the application's."""

    def is_library(self, file: str) -> bool:
        """Whether an absolute path is a library's."""
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
        """Whether it is the standard library's, and that is not itself what is watched."""
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
    """Return where the standard library is, and where others are. Forks of this process know it, too."""
    import sysconfig  # only development asks

    paths = sysconfig.get_paths()
    installed = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        installed.add(site.getusersitepackages())
    return (
        _with_separator({paths["stdlib"], paths["platstdlib"]}),
        _with_separator({*installed, _PACKAGE}),
    )


def application_places(config: Config) -> Places:
    """Return what is the application's and what is not, for the working directory of the moment."""
    names = (config.app_dir or ".", *config.reload_dir)
    return find_places(dict.fromkeys(os.path.realpath(name) for name in names))


def library_names(modules: Mapping[str, object], places: Places) -> tuple[str, ...]:
    """Return which of `modules` (as in `sys.modules`) are libraries', and the same when imported by name."""
    return tuple(name for name, module in modules.items() if _is_library(name, module, places))


def _is_library(name: str, module: object, places: Places) -> bool:
    """Not so for an alias, or what code has made."""
    spec = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec) or spec.name != name or name == "__main__":
        return False
    if spec.has_location and spec.origin is not None:
        return places.is_library(spec.origin)
    portions = spec.submodule_search_locations
    return bool(portions) and all(places.is_library(os.path.join(p, "")) for p in portions or ())


def _with_separator(directories: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(os.path.join(directory, "") for directory in directories))
