"""Which process a new template is forked from, and which of them a change makes useless. Pure.

    a fresh interpreter   always right
    the library base      holds libraries; outdated when those change, or when a file may hide one of them
    a checkpoint          holds an import up to some module; outdated when anything that it has read changes

What serves a change is the checkpoint that has read most, else the library base, else a fresh interpreter. Only
changes of modules that are known to be imported later are safe for a checkpoint: a file that is new, or gone,
or no module, may have been looked for or read before.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from asgireload.development.watch.changes import Changes

MOST_CHECKPOINTS = 2
"""Who edits two modules in turn has one before each; every one is a sleeping process."""


class LibraryBase(msgspec.Struct, frozen=True):
    source_id: int
    tops: frozenset[str]
    """Top-level names of the modules in it."""


class ImportCheckpoint(msgspec.Struct, frozen=True):
    source_id: int
    module: str
    """It is imported next."""
    read: frozenset[str]
    """The application's files that were read."""


class ForkSources(msgspec.Struct, frozen=True):
    """What there is to fork from, and what is known of the application's modules."""

    library_base: LibraryBase | None = None
    checkpoints: tuple[ImportCheckpoint, ...] = ()
    """The one used last is the last."""
    modules: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Resolved file to name, in the order of their import."""


def without_outdated(sources: ForkSources, changes: Changes, roots: Iterable[str]) -> ForkSources:
    """Return what is left after `changes`, whose paths are resolved.

    `roots`: directories that come before those of libraries in the search for a module.
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
    """Return what to fork the next template from; None: a fresh interpreter."""
    if sources.checkpoints:
        return max(sources.checkpoints, key=lambda checkpoint: len(checkpoint.read))
    return sources.library_base


def choose_checkpoint(sources: ForkSources, changed: Iterable[str]) -> str:
    """Return before which module the next load leaves a checkpoint; empty for none.

    It is the first of those that were changed last, for who edits a module edits it again.
    """
    files = set(changed)
    names = [name for file, name in sources.modules.items() if file in files]
    if not names or any(checkpoint.module == names[0] for checkpoint in sources.checkpoints):
        return ""
    return names[0]


def with_checkpoint(sources: ForkSources, checkpoint: ImportCheckpoint) -> ForkSources:
    """Return the sources with a new checkpoint, and without the one that was used least lately if there
    are too many."""
    others = tuple(other for other in sources.checkpoints if other.module != checkpoint.module)
    return replace(sources, checkpoints=(*others, checkpoint)[-MOST_CHECKPOINTS:])


def with_used(sources: ForkSources, source_id: int) -> ForkSources:
    """Return the sources with that one counting as used last."""
    checkpoints = sorted(
        sources.checkpoints, key=lambda checkpoint: checkpoint.source_id == source_id
    )
    return replace(sources, checkpoints=tuple(checkpoints))


def with_modules(sources: ForkSources, files: Mapping[str, str], *, is_whole: bool) -> ForkSources:
    """Return the sources with what a load has imported: all there is if it went through to its end."""
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
    """Whether a path may be a new module that is found in place of a library's."""
    for root in roots:
        for path in changes.arrived - sources.modules.keys():
            if path.startswith(root + os.sep):
                first = path[len(root) + 1 :].split(os.sep, 1)[0]
                if first.partition(".")[0] in tops:
                    return True
    return False
