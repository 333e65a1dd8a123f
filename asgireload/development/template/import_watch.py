"""Look on while the application is imported: what is read, in which order, and from fresh source.

For the time of an import `ImportWatch` stands at the head of `sys.meta_path`. It finds nothing by itself: it
asks the others, as the import system would, and looks at what they have found. Afterwards nothing of it is
left in the process.
"""

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Self

from asgireload.bytecode import remove_if_doubtful
from asgireload.ipc.records import ImportRecord, ModuleFile, Signature, sign
from asgireload.libraries import Places, library_names


class ImportWatch:
    """`with ImportWatch(…) as watch:` import; then `watch.files` has the application's modules.

    Without garbage collection meanwhile: modules are made to stay, and looking through them again and
    again takes a good part of the time of a large import.
    """

    def __init__(
        self, places: Places, stop_before: str = "", on_stop: Callable[[], None] | None = None
    ) -> None:
        """`on_stop` is called once, when the module `stop_before` is about to be looked for and others of
        the application have been imported before it."""
        self._places = places
        self.stop_before = stop_before
        self._on_stop = on_stop
        self.files: dict[str, str] = {}
        """Module to resolved file, in the order in which their import began."""
        self.signatures: dict[str, Signature] = {}
        """How each file looked before it was read."""
        self.read_before = 0
        """How many of them were there when this process began."""
        self._collects = True
        self._resolved: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._collects = gc.isenabled()
        gc.disable()
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *error: object) -> None:
        if self in sys.meta_path:  # applications may do anything with it
            sys.meta_path.remove(self)
        if self._collects:
            gc.enable()

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The import system calls this (importlib.abc.MetaPathFinder)."""
        if name == self.stop_before and self.files and self._on_stop is not None:
            # Called anew in each process that goes on from here: it may look for another one.
            self.stop_before = ""
            self._on_stop()
        spec = self._ask_others(name, path, target)
        if spec is not None and spec.has_location and spec.origin is not None:
            self._look_at(name, spec.origin)
        return spec

    def _ask_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _look_at(self, name: str, origin: str) -> None:
        if self._places.is_library(origin):
            return
        if origin.endswith(".py"):
            remove_if_doubtful(origin, is_strict=True)
        file = self._resolve(origin)
        self.files[name] = file
        if (signature := sign(file)) is not None:
            self.signatures.setdefault(file, signature)

    def _resolve(self, file: str) -> str:
        """As os.path.realpath, which would look at every directory of every path again."""
        directory, name = os.path.split(file)
        if (resolved := self._resolved.get(directory)) is None:
            resolved = self._resolved[directory] = os.path.realpath(directory)
        path = os.path.join(resolved, name)
        return os.path.realpath(path) if os.path.islink(path) else path


def record_imports(
    watch: ImportWatch, places: Places, before: Mapping[str, str], after: Mapping[str, str]
) -> ImportRecord:
    """Return what was imported, and how the environment has changed from `before` to `after`."""
    return ImportRecord(
        library_names(dict(sys.modules), places),
        tuple(ModuleFile(name, file) for name, file in watch.files.items()),
        changed_variables(before, after),
    )


def changed_variables(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that are different `after`, with None for those that are gone."""
    names = sorted({*before, *after})
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}
