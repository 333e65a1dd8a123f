"""The table of mechanisms: how the server is with each, and without it. Pure.

The first variant of each question is the server as it is, and the others are compared with it.
"""

import ast
from dataclasses import dataclass

from .edits import Behind, Body, DataClasses, Edit, Instead, is_plain_struct

AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    edits: tuple[Edit, ...] = ()
    flags: tuple[str, ...] = ()
    """Of the command line, where the server has a switch."""


HERE = Variant(AS_IT_IS)

# Priorities in a reload: --reload-priority turns both off, so one edit is enough.
_NO_LOOK = Body("CpuPriority._look", "self._is_looking = False")
_WORKERS_DO_NOT = (
    Instead(
        "gives_way=succeeds and fleet.policy.changes_give_way",
        "gives_way=False",
    ),
    Instead(
        "gives_way=bool(targets) and policy.changes_give_way",
        "gives_way=False",
    ),
)
SPREAD = (
    HERE,
    Variant("no spreading", (_NO_LOOK,)),
    Variant("the import alone gives way", _WORKERS_DO_NOT),
    Variant("usual priority", flags=("--reload-priority", "normal")),
)

_SPAWNED = Body("can_fork", "return False")
_NOT_EARLY = Body("EarlyTemplate.begin", "return")
_COLLECTS = Instead("if is_program and gc.isenabled():", "if is_program and False:")
EARLY = (
    HERE,
    Variant("spawned, not forked", (_SPAWNED,)),
    Variant("not early", (_NOT_EARLY,)),
    Variant("early, with collection", (_COLLECTS,)),
)

WRITTEN = {"Closed", "DeflateParameters", "Entrance", "RequestLimits", "SessionLimits"}
"""Classes that hold values, and whose methods are written out."""


def _is_written(node: ast.ClassDef) -> bool:
    return node.name in WRITTEN


_COMMANDS = Behind(
    "cli/main.py",
    "import asgireload.cli.checking, asgireload.cli.command, asgireload.cli.control, asgireload.cli.parsing",
)
_ADMIN = Behind("supervisor/loop.py", "import asgireload.admin.server, asgireload.admin.metrics")
_PAGES = Behind(
    "worker/main.py",
    "\n".join(
        f"import asgireload.development.pages.{name}"
        for name in ("exceptions", "failure", "reading", "refresh", "stream")
    ),
)
_LIBRARY = {
    "difflib": ("errors.py", "import difflib"),
    "tomllib": ("config/sources.py", "import tomllib"),
    "configparser and logging.config": (
        "log/user_config.py",
        "import configparser, logging.config",
    ),
    "grp and pwd": ("net/unix.py", "import grp, pwd"),
    "site": ("supervisor/interpreter.py", "import site"),
    "runpy": ("supervisor/spawning.py", "import runpy"),
    "sysconfig": ("libraries.py", "import sysconfig"),
    "dis": ("worker/inherited.py", "import dis"),
}
"""Modules of the standard library that are imported late, and by whom."""
_FORMAT = Behind("cli/serve.py", "import asgireload.http.access_format")
IMPORTS = (
    HERE,
    Variant("data classes, not Structs", (DataClasses(is_plain_struct),)),
    Variant("data classes, not written out", (DataClasses(_is_written),)),
    Variant("all commands imported", (_COMMANDS,)),
    Variant("admin server imported", (_ADMIN,)),
    Variant("development pages imported", (_PAGES,)),
    Variant("access formats imported", (_FORMAT,)),
    *(Variant(f"{name} imported", (Behind(*place),)) for name, place in _LIBRARY.items()),
)

_NO_CHECKPOINT = Body("choose_checkpoint", 'return ""')
_NO_STANDBY = Body("PreloadCache._renew_standby", "return")
_NO_BASE = (
    Body("PreloadCache._rebuild_later", "return"),
    Body("PreloadCache.begin", "return"),
)
STANDBY = (
    HERE,
    Variant("no import checkpoint", (_NO_CHECKPOINT,)),
    Variant("no standby template", (_NO_STANDBY,)),
    Variant("standby without copied pages", (Body("copy_pages", "return 0"),)),
    Variant("library base alone", (_NO_CHECKPOINT, _NO_STANDBY)),
    Variant("nothing kept", (_NO_CHECKPOINT, _NO_STANDBY, *_NO_BASE)),
)

DIRECT = (
    HERE,
    Variant("through the loop", (Body("InlineServing.serve", "return False"),)),
)

QUESTIONS = {
    "spread": SPREAD,
    "early": EARLY,
    "imports": IMPORTS,
    "standby": STANDBY,
    "direct": DIRECT,
}
