"""The table of mechanisms: how the server is with each, and without it. Pure.

The first variant of each question is the server as it is, and the others are compared with it.
"""

import ast
from dataclasses import dataclass

from .edits import Behind, Body, DataClasses, Edit, Instead, Patterns, is_plain_struct

AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    edits: tuple[Edit, ...] = ()
    flags: tuple[str, ...] = ()
    """Of the command line, where the server has a switch."""


HERE = Variant(AS_IT_IS)

# Priorities in a reload: --reload-priority turns both off, so one edit is enough.
_NO_LOOK = Body("supervisor/giving_way.py", "GivingWay._look", "self._is_looking = False")
_WORKERS_DO_NOT = (
    Instead(
        "supervisor/transitions.py",
        "gives_way=succeeds and fleet.policy.changes_give_way",
        "gives_way=False",
    ),
    Instead(
        "supervisor/transitions.py",
        "gives_way=bool(worker.successors) and policy.changes_give_way",
        "gives_way=False",
    ),
)
SPREAD = (
    HERE,
    Variant("no spreading", (_NO_LOOK,)),
    Variant("the import alone gives way", _WORKERS_DO_NOT),
    Variant("usual priority", flags=("--reload-priority", "normal")),
)

_SPAWNED = Body("supervisor/spawning.py", "can_fork", "return False")
_NOT_EARLY = Body("supervisor/head_start.py", "HeadStart.begin", "return")
_COLLECTS = Instead(
    "supervisor/head_start.py", "if is_program and gc.isenabled():", "if is_program and False:"
)
EARLY = (
    HERE,
    Variant("spawned, not forked", (_SPAWNED,)),
    Variant("not early", (_NOT_EARLY,)),
    Variant("early, with collection", (_COLLECTS,)),
)

_WRITTEN = {
    ("http/parser.py", "RequestLimits"),
    ("websocket/deflate.py", "DeflateParameters"),
    ("websocket/session.py", "Closed"),
    ("websocket/session.py", "SessionLimits"),
    ("worker/acceptor.py", "Entrance"),
}
"""Classes that hold values, and whose methods are written out."""


def _is_written(path: str, node: ast.ClassDef) -> bool:
    return (path, node.name) in _WRITTEN


_PATTERNS = tuple(
    map(Patterns, ("config/kinds.py", "net/proxy_protocol.py", "net/tls.py", "net/x509.py"))
)
_COMMANDS = Behind(
    "cli/main.py",
    "import asgireload.cli.checking, asgireload.cli.command, asgireload.cli.control, asgireload.cli.parsing",
)
_ADMIN = Behind("supervisor/loop.py", "import asgireload.admin.server, asgireload.admin.metrics")
_PAGES = Behind(
    "worker/main.py",
    "import asgireload.devpage.exceptions, asgireload.devpage.failure, asgireload.devpage.reading\n"
    "import asgireload.devpage.refresh, asgireload.devpage.stream",
)
_LIBRARY = (
    Behind("errors.py", "import difflib"),
    Behind("config/sources.py", "import tomllib"),
    Behind("log/user_config.py", "import configparser, logging.config, tomllib"),
    Behind("net/unix.py", "import grp, pwd"),
    Behind("supervisor/interpreter.py", "import site"),
    Behind("supervisor/spawning.py", "import runpy"),
    Behind("libraries.py", "import sysconfig"),
    Behind("worker/inherited.py", "import dis"),
)
_FORMAT = Behind("cli/serve.py", "import asgireload.http.access_format")
IMPORTS = (
    HERE,
    Variant("patterns compiled at import", _PATTERNS),
    Variant("data classes, not Structs", (DataClasses(is_plain_struct),)),
    Variant("data classes, not written out", (DataClasses(_is_written),)),
    Variant("all commands imported", (_COMMANDS,)),
    Variant("admin server imported", (_ADMIN,)),
    Variant("development pages imported", (_PAGES,)),
    Variant("rare standard modules imported", _LIBRARY),
    Variant("access formats imported", (_FORMAT,)),
)

_NO_BOOKMARK = Body("supervisor/layers.py", "choose_bookmark", 'return ""')
_NO_SPARE = Body("supervisor/foundation.py", "Foundation._renew_spare", "return")
_NO_BASE = (
    Body("supervisor/foundation.py", "Foundation._rebuild_later", "return"),
    Body("supervisor/foundation.py", "Foundation.begin", "return"),
)
STANDBY = (
    HERE,
    Variant("no bookmark", (_NO_BOOKMARK,)),
    Variant("no spare", (_NO_SPARE,)),
    Variant("spare without copied pages", (Body("template/warming.py", "copy_pages", "return 0"),)),
    Variant("base alone", (_NO_BOOKMARK, _NO_SPARE)),
    Variant("nothing kept", (_NO_BOOKMARK, _NO_SPARE, *_NO_BASE)),
)

DIRECT = (
    HERE,
    Variant("through the loop", (Body("worker/direct.py", "Doorway.serve", "return False"),)),
)

QUESTIONS = {
    "spread": SPREAD,
    "early": EARLY,
    "imports": IMPORTS,
    "standby": STANDBY,
    "direct": DIRECT,
}
