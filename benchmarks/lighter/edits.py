"""How a variant of the server is made: edits of its sources that leave one mechanism out, or put it back. Pure.

The server has no switch for most mechanisms, and gets none for a measurement. Functions and texts are looked for in
all modules, so that a module may move. An edit that does not find what it edits is an error: the table of variants
follows the sources, and a test holds it to them.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Protocol

Sources = Mapping[str, str]
"""Path below the package, with slashes, to text."""


class EditError(Exception):
    """The sources do not have what an edit names."""


class Edit(Protocol):
    def __call__(self, sources: Sources) -> dict[str, str]:
        """Return the files that change. Raise EditError."""


@dataclass(frozen=True, slots=True)
class Body:
    """Another body for a function, or for a method named `Class.method`, that is defined once."""

    name: str
    text: str

    def __call__(self, sources: Sources) -> dict[str, str]:
        names = self.name.split(".")
        found = [
            (path, function)
            for path, source in sources.items()
            if f"def {names[-1]}(" in source
            and (function := _find(ast.parse(source), names)) is not None
        ]
        if len(found) != 1:
            raise EditError(f"{self.name} is defined {len(found)} times, not once")
        path, function = found[0]
        lines = sources[path].splitlines(keepends=True)
        first, last = function.body[0], function.body[-1]
        assert last.end_lineno is not None
        body = indent(self.text.rstrip() + "\n", " " * first.col_offset)
        kept = [*lines[: first.lineno - 1], body, *lines[last.end_lineno :]]
        return {path: "".join(kept)}


@dataclass(frozen=True, slots=True)
class Behind:
    """More code at the end of a module, which runs when the module is imported."""

    path: str
    text: str

    def __call__(self, sources: Sources) -> dict[str, str]:
        return {self.path: _text(sources, self.path) + "\n\n" + self.text.rstrip() + "\n"}


@dataclass(frozen=True, slots=True)
class Instead:
    """Another text for one that stands in the modules once."""

    old: str
    new: str

    def __call__(self, sources: Sources) -> dict[str, str]:
        count = sum(source.count(self.old) for source in sources.values())
        if count != 1:
            raise EditError(f"{self.old!r} stands there {count} times, not once")
        path = next(path for path, source in sources.items() if self.old in source)
        return {path: sources[path].replace(self.old, self.new)}


@dataclass(frozen=True, slots=True)
class DataClasses:
    """A data class beside each class of these modules that could be one: what its definition takes is added.

    The classes themselves stay, so that the server works as before; their own definition takes little.
    """

    is_candidate: Callable[[ast.ClassDef], bool]

    def __call__(self, sources: Sources) -> dict[str, str]:
        changed: dict[str, str] = {}
        for path, source in sources.items():
            added = [
                _data_class(node)
                for node in ast.parse(source).body
                if isinstance(node, ast.ClassDef) and self.is_candidate(node)
            ]
            if added:
                text = "from dataclasses import dataclass as _dataclass\n\n\n" + "\n\n".join(added)
                changed |= Behind(path, text)(sources)
        if not changed:
            raise EditError("no module has such a class")
        return changed


def is_plain_struct(node: ast.ClassDef) -> bool:
    """Whether a class is a Struct that is not sent: those that are have a tag, and are Structs for that."""
    bases = {ast.unparse(base) for base in node.bases}
    return "msgspec.Struct" in bases and all(keyword.arg != "tag" for keyword in node.keywords)


def fields_of(node: ast.ClassDef) -> list[str]:
    """Return the names of a class's values: its annotations, or else its slots."""
    annotated = [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    for item in node.body:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__slots__":
            annotated += ast.literal_eval(item.value)
    return annotated


def apply_all(sources: Sources, edits: tuple[Edit, ...]) -> dict[str, str]:
    """Return the files that change, one edit after the other. Raise EditError."""
    now = dict(sources)
    changed: dict[str, str] = {}
    for edit in edits:
        new = edit(now)
        now |= new
        changed |= new
    return changed


def _data_class(node: ast.ClassDef) -> str:
    lines = ["@_dataclass(frozen=True, slots=True)", f"class _{node.name}Data:"]
    lines += [f"    {name}: object = None" for name in fields_of(node)] or ["    pass"]
    return "\n".join(lines) + "\n"


def _text(sources: Sources, path: str) -> str:
    if path not in sources:
        raise EditError(f"there is no {path}")
    return sources[path]


def _find(module: ast.Module, names: list[str]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    *classes, name = names
    body: list[ast.stmt] = module.body
    for class_name in classes:
        found = (n for n in body if isinstance(n, ast.ClassDef) and n.name == class_name)
        body = next((node.body for node in found), [])
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    return None
