"""Record which files the import of an application reads, and remove bytecode that may be older than its source.

During an import `ImportWatch` is the first finder in `sys.meta_path`. It calls the other finders, as the import
system would, and records the specs that they return. After the import it is removed from `sys.meta_path`.
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
    """A context manager that records imports: after `with ImportWatch(…) as watch: …`, `watch.files` has the
    application's modules.

    Garbage collection is disabled within the context: modules stay alive, and traversing them again and again takes
    a considerable part of the time of a large import.
    """

    def __init__(
        self, places: Places, stop_before: str = "", on_stop: Callable[[], None] | None = None
    ) -> None:
        """`on_stop` is called once, before a spec of the module `stop_before` is searched, if other modules of the
        application have been imported before."""
        self._places = places
        self.stop_before = stop_before
        self._on_stop = on_stop
        self.files: dict[str, str] = {}
        """Module to resolved file, in the order in which their import began."""
        self.signatures: dict[str, Signature] = {}
        """Signature of each file before it was read, by resolved path."""
        self.read_before = 0
        """How many of `files` were recorded before this process was forked."""
        self._collects = True
        self._resolved: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._collects = gc.isenabled()
        gc.disable()
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *error: object) -> None:
        if self in sys.meta_path:  # the application may have changed sys.meta_path
            sys.meta_path.remove(self)
        if self._collects:
            gc.enable()

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec that another finder returns for a module, and record its file; called by the import
        system (importlib.abc.MetaPathFinder)."""
        if name == self.stop_before and self.files and self._on_stop is not None:
            # Cleared first: each process that is forked in `on_stop` sets `stop_before` for its own load.
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
        """Return os.path.realpath of `file`; the real path of its directory is cached."""
        directory, name = os.path.split(file)
        if (resolved := self._resolved.get(directory)) is None:
            resolved = self._resolved[directory] = os.path.realpath(directory)
        path = os.path.join(resolved, name)
        return os.path.realpath(path) if os.path.islink(path) else path


def record_imports(
    watch: ImportWatch, places: Places, before: Mapping[str, str], after: Mapping[str, str]
) -> ImportRecord:
    """Return the imported modules, and the changes of the environment from `before` to `after`."""
    return ImportRecord(
        library_names(dict(sys.modules), places),
        tuple(ModuleFile(name, file) for name, file in watch.files.items()),
        changed_variables(before, after),
    )


def changed_variables(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that differ in `after`, with None for those that were removed."""
    names = sorted({*before, *after})
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}
