"""--check-config: "valid" means that a start would not fail because of what the configuration names."""

import ast
import datetime as dt
import os
import socket
import sys
import zipfile

import pytest

from asgireload.cli.import_search import bound_names, find_fault
from asgireload.cli.main import main
from asgireload.config import Config
from asgireload.errors import ConfigError
from asgireload.net.addresses import check_addresses
from tests.certificates import AUTHORITY, LONG_AGO


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A working directory with an application that must not be imported, and no variable of ours."""
    for name in list(os.environ):
        if name.startswith(("ASGIRELOAD_", "UVICORN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "main.py").write_text("raise RuntimeError('was imported')\napp = None\n")
    return tmp_path


@pytest.fixture
def check(capsys):
    """Return status, standard output and standard error of a check of `main:app` with some options."""

    def run(*options, app="main:app"):
        status = main([app, *options, "--check-config"])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_what_can_be_started_is_valid(check, project):
    files = AUTHORITY.issue(project, "good")
    (project / ".env").write_text("A=1")
    (project / "token").write_text("secret")
    (project / "token").chmod(0o600)
    status, shown, errors = check(
        *("--ssl-certfile", str(files.certfile), "--ssl-keyfile", str(files.keyfile)),
        *("--env-file", ".env", "--pid-file", "a.pid", "--admin-socket", "admin.sock"),
        *("--admin-port", "8001", "--admin-token-file", "token"),
        *("--error-log-file", "error.log", "--access-log-file", "access.log", "--app-dir", "."),
    )
    assert (status, shown, errors) == (0, "The configuration is valid.\n", "")
    # Nothing was written, and nothing imported.
    assert not {"a.pid", "admin.sock", "error.log", "access.log"} & set(os.listdir(project))


def test_a_running_server_with_the_same_addresses_is_no_fault(check):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert check("--port", str(port))[0] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--ssl-certfile", "none.pem"), "--ssl-certfile: certificate none.pem: no such file"),
        (("--bind", "1 cert=none.pem"), "certificate none.pem: no such file"),
        (("--env-file", "none.env"), "--env-file: none.env: there is no such file"),
        (("--env-file", "."), "--env-file: .: it is a directory"),
        (("--app-dir", "none"), "--app-dir: none: there is no such directory"),
        (("--pid-file", "none/a.pid"), "--pid-file: none/a.pid: there is no directory "),
        (("--pid-file", "."), "--pid-file: .: it is a directory"),
        (("--uds", "none/http.sock"), "--uds: none/http.sock: there is no directory "),
        (("--uds", "main.py"), "--uds: main.py: a file that is no socket is there"),
        (("--admin-socket", "none/a.sock"), "--admin-socket: none/a.sock: there is no directory "),
        (("--error-log-file", "none/log"), "none/log: there is no directory "),
        (("--access-log-file", "none/log"), "none/log: there is no directory "),
        (
            ("--admin-port", "1", "--admin-token-file", "absent"),
            "admin_token_file 'absent': No such file",
        ),
        (("--log-config", "none.toml"), "none.toml: No such file"),
        (("--ssl-context-factory", "main:make"), 'module "main" does not define "make"'),
        (("--port", "8001", "--admin-port", "8001"), "127.0.0.1:8001 are the same place"),
    ],
)
def test_what_a_start_would_fail_for_is_told(check, options, problem):
    status, shown, errors = check(*options)
    assert status == 2
    assert "valid" not in shown
    assert problem in errors
    assert all(line.startswith("asgireload: error: ") for line in errors.splitlines())


def test_every_problem_is_told(check):
    errors = check("--env-file", "none.env", "--pid-file", "none/a.pid", app="mian:app")[2]
    assert len(errors.splitlines()) == 3


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        ("mian:app", 'mian:app: there is no module "mian"; did you mean "main"?'),
        ("main:ap", 'main:ap: module "main" does not define "ap"; did you mean "app"?'),
        ("main.sub:app", 'there is no module "main.sub": "main" is not a package'),
    ],
)
def test_an_application_that_is_not_there_is_told(check, app, problem):
    status, _, errors = check(app=app)
    assert status == 2
    assert problem in errors
    assert "APP: " in errors


def test_a_key_of_another_certificate_is_told(check, project):
    one, other = AUTHORITY.issue(project, "one"), AUTHORITY.issue(project, "other")
    status, _, errors = check(
        "--ssl-certfile", str(one.certfile), "--ssl-keyfile", str(other.keyfile)
    )
    assert status == 2
    assert "one.pem" in errors


def test_a_certificate_that_has_expired_is_a_warning(check, project):
    files = AUTHORITY.issue(
        project, "old", not_before=LONG_AGO, not_after=LONG_AGO + dt.timedelta(days=1)
    )
    status, shown, errors = check(
        "--ssl-certfile", str(files.certfile), "--ssl-keyfile", str(files.keyfile)
    )
    assert (status, shown) == (0, "The configuration is valid.\n")
    assert "old.pem: it has expired" in errors


def test_a_directory_that_cannot_be_watched_is_a_warning(check):
    status, _, errors = check("--reload", "--reload-dir", "none")
    assert status == 0
    assert "--reload-dir: none: there is no such directory" in errors


# --- modules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "import_string", "fault"),
    [
        ({"a/__init__.py": "", "a/b.py": "app = 1"}, "a.b:app", None),
        ({"a/b/c.py": "app = 1"}, "a.b.c:app", None),  # namespace packages
        ({"a/__init__.py": "raise SystemExit"}, "a.b:app", 'there is no module "a.b"'),
        ({"a/__init__.py": "__path__.append('x')"}, "a.b:app", None),  # decided at run time
        ({"a.py": "import sys; sys.modules['a.b'] = 1"}, "a.b:app", None),  # as os.path
        ({"a/__init__.py": "", "a/b.py": ""}, "a:b.app", None),
        ({"a.py": "def (:"}, "a:app", 'module "a" cannot be compiled: invalid syntax, line 1'),
        ({"a.py": "\0"}, "a:app", 'module "a" cannot be'),
        ({"a.py": "def make(): ..."}, "a:make()", None),
        ({"a.py": "def make():\n    app = 1"}, "a:app", 'module "a" does not define "app"'),
        ({"a.py": "class App:\n    app = 1"}, "a:App.app", None),
        ({"a.py": "class App:\n    app = 1"}, "a:app", "does not define"),
        ({"a.py": "from b import *"}, "a:app", None),
        ({"a.py": "def __getattr__(name): ..."}, "a:app", None),
        ({"a.py": "globals()['app'] = 1"}, "a:app", None),
        ({"a.py": "import sys; sys.modules[__name__] = 1"}, "a:app", None),
        ({"a.py": "def f():\n    global app\n    app = 1"}, "a:app", None),
        ({"a.py": "try:\n    import app\nexcept ImportError:\n    pass"}, "a:app", None),
        ({"a.py": "import app.main"}, "a:app", None),
        ({"a.py": "if x:\n    with y as app: ..."}, "a:app", None),
        ({"a.py": "print(app := 1)"}, "a:app", None),
        ({"a.py": "match x:\n    case [*app]: ..."}, "a:app", None),
    ],
)
def test_modules_are_found_without_being_imported(project, files, import_string, fault):
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = find_fault(import_string, str(project), [])
    if fault is None:
        assert found is None
    else:
        assert fault in found


def test_a_module_in_an_archive_is_found(project):
    with zipfile.ZipFile(project / "shop.pyz", "w") as archive:
        archive.writestr("shop/__init__.py", "")
        archive.writestr("shop/main.py", "app = 1")
    path = [str(project / "shop.pyz")]
    assert find_fault("shop.main:app", str(project), path) is None
    assert "does not define" in find_fault("shop.main:other", str(project), path)


def test_a_compiled_module_is_taken_at_its_word(project):
    assert find_fault("_struct:whatever", str(project), sys.path) is None
    assert find_fault("time:whatever", str(project), []) is None


def test_names_are_those_of_the_modules_own_scope():
    tree = ast.parse("a = 1\ndef f(x):\n    y = 2\nclass C:\n    z = 3\nfor i in a: j = i\n")
    assert bound_names(tree) == {"a", "f", "C", "i", "j"}


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"port": 9000, "admin_port": 9000},
        {"host": "0.0.0.0", "port": 9000, "admin_port": 9000},
        {"host": "::", "port": 9000, "admin_port": 9000},  # answers IPv4, too
        {"host": "localhost", "port": 9000, "admin_port": 9000},
        {"bind": ("0.0.0.0:80", "127.0.0.1:80")},
        {"bind": ("unix:/run/a.sock", "unix:/run/x/../a.sock")},
        {"uds": "/run/a.sock", "admin_socket": "/run/a.sock"},
    ],
)
def test_two_addresses_of_one_place_are_refused(options):
    """The second could not be taken, and a probe could not tell them apart."""
    with pytest.raises(ConfigError, match="are the same place"):
        check_addresses(Config(app="main:app", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"port": 9000, "admin_port": 9001},
        {"port": 0, "admin_port": 0},
        {"host": "10.0.0.1", "port": 9000, "admin_port": 9000},
        {"host": "::1", "port": 9000, "admin_port": 9000},
        {"host": "shop.example", "port": 9000, "admin_port": 9000},
        {"bind": ("[::]:80", "0.0.0.0:80")},  # each answers its own family then
        {"bind": ("127.0.0.1:0", "127.0.0.1:0")},
        {"uds": "/run/a.sock", "admin_socket": "/run/b.sock"},
    ],
)
def test_addresses_beside_each_other_are_allowed(options):
    check_addresses(Config(app="main:app", **options))
