"""Imports between rooms go one way; the table is the one in ARCHITECTURE.md."""

import ast
from pathlib import Path

import asgireload

PACKAGE = Path(asgireload.__file__).parent

LAYERS = [
    {"cli"},
    # What only --reload needs stands above the processes that it changes, so that these cannot import it.
    {"development"},
    {"supervisor", "template"},
    {"worker", "admin"},
    {"websocket"},
    {"http1"},
    {"http"},
    {"ipc", "net", "app", "draining", "handover"},
    {"log"},
    {"libraries"},
    {"config", "asgi", "bytecode", "frameworks"},
    {"errors", "failures"},
]
"""A room imports rooms of lower layers, and of its own layer only where ALLOWED says so."""
ALLOWED = {
    # The supervisor's decisions never import the code of its children; it joins admin.
    ("template", "worker"),
    ("supervisor", "admin"),
    ("ipc", "config"),
    # Messages carry values of the rooms they are about.
    ("ipc", "net"),
}
TOP = {"__init__", "__main__"}
"""The package's own front door may import what it offers."""


def level(room):
    return next(index for index, layer in enumerate(LAYERS) if room in layer)


def imports():
    """Yield (file, importing room, imported room) for each import of ours."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0]
        if room in TOP:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "asgireload":
                    names = [f"asgireload.{alias.name}" for alias in node.names]
            for name in names:
                pieces = name.split(".")
                if pieces[0] == "asgireload" and len(pieces) > 1:
                    yield path.relative_to(PACKAGE), room, pieces[1]


def test_imports_go_one_way():
    wrong = []
    for path, room, target in imports():
        if target == room or target.startswith("_") or target == "run":
            continue
        if level(target) <= level(room) and (room, target) not in ALLOWED:
            wrong.append(f"{path} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_the_supervisor_never_imports_the_code_of_its_children():
    children = {"worker", "template", "app", "websocket"}
    wrong = [
        f"{path} imports {target}"
        for path, room, target in imports()
        if room == "supervisor" and target in children
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_table():
    rooms = {
        path.stem if path.is_file() else path.name
        for path in PACKAGE.iterdir()
        if not path.name.startswith("__") and (path.is_dir() or path.suffix == ".py")
    }
    assert rooms == set().union(*LAYERS)
