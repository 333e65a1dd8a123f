"""Check an import string without importing anything, so that no code of the application runs.

Python's finders locate the file of a module in a directory, a ZIP archive or an editable installation. When a
package decides at run time where its modules are, or a module creates attributes at run time, no problem is
reported: only a name that is certainly missing is a problem.
"""

import ast
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, cast

import msgspec

from asgireload.errors import closest

_MAKES_NAMES = frozenset({"globals", "vars", "locals", "exec", "eval", "setattr", "import_module"})
"""Calls that can give a module any attribute."""


class _Module(msgspec.Struct, frozen=True):
    name: str
    source: str | None
    """None when the module has no source, or is a namespace package."""
    places: tuple[str, ...] = ()
    """The `__path__` of a package."""


class _LostError(Exception):
    """The search cannot be certain: a package may change its `__path__` or `sys.modules` when it is imported."""


def find_fault(import_string: str, directory: str, path: Sequence[str]) -> str | None:
    """Return why `<module>:<attribute>` cannot be imported; None if it can, or if only an import could show it.

    The module is searched in `directory` and then in `path`, as `app.load_attribute` does.
    """
    module_name, _, attribute = import_string.removesuffix("()").partition(":")
    try:
        found = _find_module(module_name, [directory, *path])
    except _LostError:
        return None
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        return f'module "{module_name}" cannot be read: {error}'
    if isinstance(found, str):
        if "." in found:
            return f"there is no module {found}"
        near = closest(module_name.partition(".")[0], _names_beside(directory))
        hint = f'; did you mean "{near}"?' if near else f"; it was looked for in {directory} first"
        return f"there is no module {found}{hint}"
    if found.source is None:
        return None
    try:
        tree = ast.parse(found.source, found.name)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        return f'module "{module_name}" cannot be compiled: {reason}{line}'
    first = attribute.partition(".")[0]
    names = bound_names(tree)
    if names is None or first in names or first.startswith("__") or _is_module_in(first, found):
        return None
    near = closest(first, names)
    hint = f'; did you mean "{near}"?' if near else ""
    return f'module "{module_name}" does not define "{first}"{hint}'


def bound_names(tree: ast.Module) -> set[str] | None:
    """Return the names that an import of a module binds in it; None when it may bind any name. Pure."""
    names: set[str] = set()
    for node in _nodes_of_scope(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Import():
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            case ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.MatchAs() | ast.MatchStar() if node.name is not None:
                names.add(node.name)
            case ast.MatchMapping(rest=str(rest)):
                names.add(rest)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
    for inner in ast.walk(tree):
        match inner:
            case ast.Global():
                names |= set(inner.names)
            case ast.Call(func=ast.Name(id=called)) if called in _MAKES_NAMES:
                return None
            case ast.Attribute(attr="modules"):
                return None  # sys.modules: the module may replace itself
    return None if names & {"*", "__getattr__"} else names


def _nodes_of_scope(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are evaluated in the scope of the module."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        ):
            yield from _nodes_of_scope(child)


def _find_module(name: str, path: Sequence[str]) -> _Module | str:
    """Return the module, or the quoted name of the missing one. Raise _LostError, and exceptions of the loader."""
    places = tuple(path)
    parts = name.split(".")
    package: _Module | None = None
    for count in range(1, len(parts) + 1):
        full_name = ".".join(parts[:count])
        if package is not None and _is_made_up(package):
            raise _LostError
        if package is not None and not places:
            return f'"{full_name}": "{package.name}" is not a package'
        found = _find_in(full_name, places)
        if found is None and package is None:
            found = _find_elsewhere(full_name)
        if found is None:
            return f'"{full_name}"'
        package, places = found, found.places
    assert package is not None
    return package


def _is_made_up(package: _Module) -> bool:
    """Return whether a package may change its modules when it is imported."""
    source = package.source or ""
    return "__path__" in source or "sys.modules" in source


def _find_in(full_name: str, places: Iterable[str]) -> _Module | None:
    portions: list[str] = []
    for place in places:
        finder = pkgutil.get_importer(place or os.getcwd())
        # The annotation covers every kind of finder; these are path entry finders.
        spec = cast("Any", finder).find_spec(full_name) if finder is not None else None
        if spec is None:
            continue
        if spec.loader is not None:
            return _module_of(full_name, spec)
        portions += spec.submodule_search_locations or ()
    return _Module(full_name, None, tuple(portions)) if portions else None


def _find_elsewhere(full_name: str) -> _Module | None:
    """Return the module from finders other than PathFinder: built-in modules, editable installations."""
    for finder in sys.meta_path:
        if finder is PathFinder:
            continue
        spec = finder.find_spec(full_name, None, None)
        if spec is not None:
            return _module_of(full_name, spec)
    return None


def _module_of(full_name: str, spec: ModuleSpec) -> _Module:
    places = tuple(spec.submodule_search_locations or ())
    read = getattr(spec.loader, "get_source", None)
    return _Module(full_name, read(full_name) if read is not None else None, places)


def _is_module_in(name: str, package: _Module) -> bool:
    return bool(package.places) and _find_in(f"{package.name}.{name}", package.places) is not None


def _names_beside(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []  # only the suggestion is missing then
    return [name.removesuffix(".py") for name in names if not name.startswith((".", "_"))]
