"""Which process a new template is forked from, and which of them a change makes useless. Pure.

    a fresh interpreter   always right
    the base              holds libraries; outdated when those change, or when a file may hide one of them
    a bookmark            holds an import up to some module; outdated when anything that it has read changes

What serves a change is the bookmark that has read most, else the base, else a fresh interpreter. Only
changes of modules that are known to be imported later are safe for a bookmark: a file that is new, or gone,
or no module, may have been looked for or read before.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from asgireload.development.watch.changes import Changes

MOST_BOOKMARKS = 2
"""Who edits two modules in turn has one before each; every one is a sleeping process."""


class Base(msgspec.Struct, frozen=True):
    layer_id: int
    tops: frozenset[str]
    """Top-level names of the modules in it."""


class Bookmark(msgspec.Struct, frozen=True):
    layer_id: int
    module: str
    """It is imported next."""
    read: frozenset[str]
    """The application's files that were read."""


class Layers(msgspec.Struct, frozen=True):
    """What there is to fork from, and what is known of the application's modules."""

    base: Base | None = None
    bookmarks: tuple[Bookmark, ...] = ()
    """The one used last is the last."""
    modules: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Resolved file to name, in the order of their import."""


def without_outdated(layers: Layers, changes: Changes, roots: Iterable[str]) -> Layers:
    """Return what is left after `changes`, whose paths are resolved.

    `roots`: directories that come before those of libraries in the search for a module.
    """
    base = layers.base
    if base is not None and (
        changes.is_environment or changes.is_vague or _hides(changes, layers, base.tops, roots)
    ):
        base = None
    bookmarks = tuple(
        bookmark for bookmark in layers.bookmarks if _is_right(bookmark, changes, layers.modules)
    )
    return replace(layers, base=base, bookmarks=bookmarks)


def choose_layer(layers: Layers) -> Base | Bookmark | None:
    """Return what to fork the next template from; None: a fresh interpreter."""
    if layers.bookmarks:
        return max(layers.bookmarks, key=lambda bookmark: len(bookmark.read))
    return layers.base


def choose_bookmark(layers: Layers, changed: Iterable[str]) -> str:
    """Return before which module the next load leaves a bookmark; empty for none.

    It is the first of those that were changed last, for who edits a module edits it again.
    """
    files = set(changed)
    names = [name for file, name in layers.modules.items() if file in files]
    if not names or any(bookmark.module == names[0] for bookmark in layers.bookmarks):
        return ""
    return names[0]


def with_bookmark(layers: Layers, bookmark: Bookmark) -> Layers:
    """Return the layers with a new bookmark, and without the one that was used least lately if there
    are too many."""
    others = tuple(other for other in layers.bookmarks if other.module != bookmark.module)
    return replace(layers, bookmarks=(*others, bookmark)[-MOST_BOOKMARKS:])


def with_used(layers: Layers, layer_id: int) -> Layers:
    """Return the layers with that one counting as used last."""
    bookmarks = sorted(layers.bookmarks, key=lambda bookmark: bookmark.layer_id == layer_id)
    return replace(layers, bookmarks=tuple(bookmarks))


def with_modules(layers: Layers, files: Mapping[str, str], *, is_whole: bool) -> Layers:
    """Return the layers with what a load has imported: all there is if it went through to its end."""
    return replace(layers, modules=dict(files) if is_whole else {**layers.modules, **files})


def _is_right(bookmark: Bookmark, changes: Changes, modules: Mapping[str, str]) -> bool:
    return not (
        changes.is_vague
        or changes.is_environment
        or changes.vanished
        or any(path in bookmark.read or path not in modules for path in changes.arrived)
    )


def _hides(changes: Changes, layers: Layers, tops: frozenset[str], roots: Iterable[str]) -> bool:
    """Whether a path may be a new module that is found in place of a library's."""
    for root in roots:
        for path in changes.arrived - layers.modules.keys():
            if path.startswith(root + os.sep):
                first = path[len(root) + 1 :].split(os.sep, 1)[0]
                if first.partition(".")[0] in tops:
                    return True
    return False
