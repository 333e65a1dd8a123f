"""The texts of errors: one shape for all of them, and no traceback for a mistake of the user's."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asgireload import errors
from asgireload.errors import join_clauses

PACKAGE = Path(errors.__file__).parent
FOR_USERS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, errors.ConfigError | errors.StartupError | errors.ControlError)
}


def written(node):
    """Return the text of an expression, with … for each value in it; None for one without a text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(written(part) or "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{written(left) or '…'}{written(right) or '…'}"
    return None


def raised():
    """Yield place and text of every error for users that is raised with a text of its own."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in FOR_USERS and node.args and (text := written(node.args[0])):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


def test_every_error_has_the_shape_of_one_statement():
    texts = list(raised())
    assert len(texts) > 90
    wrong = [
        f"{place}: {text!r}"
        for place, text in texts
        # Doubled punctuation, an end that owes something, a space too many.
        if re.search(r"[.;:,?!]\s*[.;:,](?!\.)|\s\s|^\s|[\s;,:]$", re.sub(r"://|\[::1\]", "", text))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("first", "joined"),
    [
        ("no database", "no database; nothing serves"),
        ("no database.", "no database; nothing serves"),
        ("wait...", "wait; nothing serves"),
        ('Did you mean "app"?', 'Did you mean "app"? (nothing serves)'),
        ("ValueError: stop!", "ValueError: stop! (nothing serves)"),
    ],
)
def test_a_text_that_ends_as_a_sentence_is_continued_without_doubled_punctuation(first, joined):
    assert join_clauses(first, "nothing serves") == joined


MODULES = {
    "exits": "import sys\nsys.exit('no settings')",
    "prints": "print('hello'); raise RuntimeError('no database.')",
    "broken": "def app(:",
    "around": "import around_too",
    "around_too": "from around import app",
    "needs": "import nowhere_dependency",
    "good": "async def app(scope, receive, send): pass",
    "wsgi": "def app(environ, start_response): pass",
}
STARTS = {
    "./good:app": (2, '"good:app"'),
    "good.py:app": (3, '"good:app"'),
    "good.app": (2, '"good:app"'),
    "goood:app": (3, 'Did you mean "good"?'),
    "good:ap": (3, 'Did you mean "app"?'),
    "good:app --app-dir gone": (3, "gone: there is no such directory"),
    "good:app --ssl-certfile gone.pem": (3, "certificate gone.pem: no such file or directory"),
    "good:app --ssl-keyfile gone.pem": (2, "--ssl-keyfile needs the certificate"),
    "good:app --env-file gone.env": (3, "--env-file gone.env: no such file"),
    "good:app --log-config gone.toml": (3, "--log-config gone.toml: No such file"),
    "good:app --log-config gone.txt": (3, "must end in one of"),
    "good:app --error-log-file gone/x.log": (3, "--error-log-file gone/x.log: it cannot be opened"),
    "good:app --pid-file gone/x.pid": (3, "--pid-file gone/x.pid: No such file or directory"),
    "good:app --uds gone/x.sock": (3, "gone/x.sock: No such file or directory"),
    "good:app --bind nonsense": (2, "--bind: address 'nonsense': "),
    "good:app --fd 77": (3, "fd://77"),
    "good:app --host no.such.host.invalid": (3, "no.such.host.invalid"),
    "good:app --admin-port 1 --admin-host ::": (2, "--admin-host :: can be reached"),
    "good:app --config gone.toml": (2, "gone.toml: there is no such configuration file"),
    "good:app --config good.py": (2, "good.py: the configuration is a TOML file here"),
    "wsgi:app": (3, "a2wsgi.WSGIMiddleware"),
    "exits:app": (3, "sys.exit('no settings') was called"),
    "prints:app": (3, "RuntimeError: no database; nothing serves"),
    "broken:app": (3, "SyntaxError"),
    "around:app": (3, "circular import"),
    "needs:app": (3, "No module named 'nowhere_dependency'"),
    "good:app --factory": (3, "needs no call"),
}


@pytest.mark.parametrize("words", STARTS)
def test_a_start_that_fails_says_why_and_where(tmp_path, words):
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    status, expected = STARTS[words]
    port = () if "--bind" in words or "--uds" in words or "--fd" in words else ("--port", "0")
    done = subprocess.run(
        [sys.executable, "-m", "asgireload", *words.split(), *port, "--admin-socket", "none"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stderr
    assert done.returncode == status, said
    assert expected in said
    assert not re.search(r"[.?!];|\.\.(?!\.)", re.sub(r'File ".*', "", said))
    for flag in re.findall(r"--([a-z]+(?:-[a-z]+)+)", said):
        assert flag.replace("-", "_") not in said, "the option is named twice"
    assert "asgireload/" not in said, "a traceback shows our own frames"
    lines = [
        line for line in said.splitlines() if line.startswith(("ERROR:", "asgireload: error:"))
    ]
    assert len(lines) == 1, said
