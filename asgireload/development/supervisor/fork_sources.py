"""Which fork source a new template is forked from, and which fork sources a change makes outdated. Pure.

    a fresh interpreter   is never outdated
    the library base      holds libraries; outdated when they change, or when a new file may hide one of them
    an import checkpoint  holds an import up to some module; outdated when a file that the import has read changes

A template is forked from the checkpoint that has read most files, else from the library base, else it is a fresh
interpreter. A checkpoint survives only changes of modules that are known to be imported later: the import may have
looked for, or read, a file that is new, that is gone, or that is no module.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from asgireload.development.watch.changes import Changes

MOST_CHECKPOINTS = 2
"""Checkpoints that are kept: one before each of two modules that are edited in turn. Each is a sleeping process."""


class LibraryBase(msgspec.Struct, frozen=True):
    """A fork source that holds libraries."""

    source_id: int
    tops: frozenset[str]
    """Top-level names of the modules in the base."""


class ImportCheckpoint(msgspec.Struct, frozen=True):
    """A fork source that holds an import of the application up to a module."""

    source_id: int
    module: str
    """The module that is imported next."""
    read: frozenset[str]
    """The application's files that the import has read so far."""


class ForkSources(msgspec.Struct, frozen=True):
    """The fork sources that exist, and the known modules of the application."""

    library_base: LibraryBase | None = None
    checkpoints: tuple[ImportCheckpoint, ...] = ()
    """In order of their last use."""
    modules: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Resolved file to module name, in import order."""


def without_outdated(sources: ForkSources, changes: Changes, roots: Iterable[str]) -> ForkSources:
    """Return the sources that are not outdated by `changes`, whose paths are resolved.

    `roots`: directories that the import system searches before those of libraries.
    """
    base = sources.library_base
    if base is not None and (
        changes.is_environment or changes.is_vague or _hides(changes, sources, base.tops, roots)
    ):
        base = None
    checkpoints = tuple(
        checkpoint
        for checkpoint in sources.checkpoints
        if _is_right(checkpoint, changes, sources.modules)
    )
    return replace(sources, library_base=base, checkpoints=checkpoints)


def choose_source(sources: ForkSources) -> LibraryBase | ImportCheckpoint | None:
    """Return the fork source of the next template; None: a fresh interpreter."""
    if sources.checkpoints:
        return max(sources.checkpoints, key=lambda checkpoint: len(checkpoint.read))
    return sources.library_base


def choose_checkpoint(sources: ForkSources, changed: Iterable[str]) -> str:
    """Return the module before which the next load takes a checkpoint; empty for none.

    The module is the first, in import order, of the `changed` ones, since an edited module is likely to be edited
    again.
    """
    files = set(changed)
    names = [name for file, name in sources.modules.items() if file in files]
    if not names or any(checkpoint.module == names[0] for checkpoint in sources.checkpoints):
        return ""
    return names[0]


def with_checkpoint(sources: ForkSources, checkpoint: ImportCheckpoint) -> ForkSources:
    """Return the sources with a new checkpoint, and without the least recently used one if there are too many."""
    others = tuple(other for other in sources.checkpoints if other.module != checkpoint.module)
    return replace(sources, checkpoints=(*others, checkpoint)[-MOST_CHECKPOINTS:])


def with_used(sources: ForkSources, source_id: int) -> ForkSources:
    """Return the sources with the checkpoint `source_id`, if it is one, marked as most recently used."""
    checkpoints = sorted(
        sources.checkpoints, key=lambda checkpoint: checkpoint.source_id == source_id
    )
    return replace(sources, checkpoints=tuple(checkpoints))


def with_modules(sources: ForkSources, files: Mapping[str, str], *, is_whole: bool) -> ForkSources:
    """Return the sources with the modules that a load has imported.

    `is_whole`: the load ended, so `files` replaces the known modules; otherwise `files` is added to them.
    """
    return replace(sources, modules=dict(files) if is_whole else {**sources.modules, **files})


def _is_right(checkpoint: ImportCheckpoint, changes: Changes, modules: Mapping[str, str]) -> bool:
    return not (
        changes.is_vague
        or changes.is_environment
        or changes.vanished
        or any(path in checkpoint.read or path not in modules for path in changes.arrived)
    )


def _hides(
    changes: Changes, sources: ForkSources, tops: frozenset[str], roots: Iterable[str]
) -> bool:
    """Return whether a changed path may be a new module that hides one of a library."""
    for root in roots:
        for path in changes.arrived - sources.modules.keys():
            if path.startswith(root + os.sep):
                first = path[len(root) + 1 :].split(os.sep, 1)[0]
                if first.partition(".")[0] in tops:
                    return True
    return False
