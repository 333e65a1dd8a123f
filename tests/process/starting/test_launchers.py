"""However a server was started, a reload can do what the start did: the second template is as the first one was.

Zipapps by `zipapp` of the standard library are always tried; shiv and pex build theirs where they are installed.
Otherwise a launcher does what theirs do: it puts a directory with unpacked packages into the import path, or takes
the site directories out of it.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipapp
from importlib.metadata import distribution
from pathlib import Path

import pytest

import asgireload
from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

REPORTING = """
import sys as _sys, json as _json

def _interpreter():
    main = _sys.modules["__main__"]
    flags = {name: getattr(_sys.flags, name) for name in dir(_sys.flags) if name[0] != "_"}
    return _json.dumps({
        "flags": {name: value for name, value in flags.items() if isinstance(value, (int, bool))},
        "path": _sys.path,
        "warnoptions": _sys.warnoptions,
        "xoptions": _sys._xoptions,
        "main": [main.__name__, main.__file__, main.__spec__.name],
        "argv": _sys.argv[:1],
        "executable": _sys.executable,
        "stdout": _sys.__stdout__.write_through,
    }).encode()

_SEEN = _interpreter()

async def interpreter(scope, receive, send):
    await answer(send, _SEEN)
PATHS["/interpreter"] = interpreter

async def extra(scope, receive, send):
    import beside
    await answer(send, beside.WHERE.encode())
PATHS["/extra"] = extra
"""
SERVE = "from asgireload.cli.main import main\nimport sys\nsys.exit(main())\n"
PACKAGES = ("click", "msgspec", "uvloop", "httptools", "python-dotenv", "setproctitle")


def started(directory, *command, env=None):
    """Start a server as `command` does, which the words of `asgireload` follow."""
    server = Server(directory, workers=1, env=env)
    server.command[:3] = command
    return server


def reports_of_two_generations(server):
    reports = []
    for version in (1, 2):
        write_version(server.directory, version, extra=REPORTING)
        if version == 2:
            server.reload()
        assert server.version() == version
        reports.append(json.loads(server.get("/interpreter")))
    return reports


@pytest.fixture
def project(tmp_path):
    write_version(tmp_path, 1, extra=REPORTING)
    return tmp_path


OPTIONS = [
    [],
    ["-u"],
    ["-s", "-E", "-b", "-O"],
    ["-bb", "-OO", "-B", "-q"],
    ["-I", "-X", "utf8", "-W", "error::UserWarning", "-O"],
    ["-P", "-X", "dev", "-W", "ignore::ResourceWarning", "-X", "int_max_str_digits=5000"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_of_the_interpreter_are_those_of_later_templates(project, options):
    environment = {"PYTHONUNBUFFERED": "", "PYTHONDONTWRITEBYTECODE": ""}
    with started(project, sys.executable, *options, "-m", "asgireload", env=environment) as server:
        first, second = reports_of_two_generations(server)
    assert second == first
    assert first["flags"]["isolated"] == ("-I" in options)
    assert first["flags"]["optimize"] == {"-O": 1, "-OO": 2}.get(
        next((word for word in options if word.startswith("-O")), ""), 0
    )
    assert first["stdout"] is ("-u" in options)


def test_options_from_the_environment_are_those_of_later_templates(project):
    environment = {
        "PYTHONWARNINGS": "ignore::UserWarning,error::BytesWarning",
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": str(project / "from-environment"),
        "PYTHONDEVMODE": "1",
    }
    with started(project, sys.executable, "-m", "asgireload", env=environment) as server:
        first, second = reports_of_two_generations(server)
    assert second == first
    assert str(project / "from-environment") in first["path"]


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_launcher_that_edits_the_import_path(project, place):
    """As buildout and scripts of Nix do."""
    libraries = project / "libraries"
    libraries.mkdir()
    (libraries / "beside.py").write_text("WHERE = 'libraries'\n")
    launcher = project / "bin" / "launch.py"
    launcher.parent.mkdir()
    position = 0 if place == "first" else 99
    launcher.write_text(f"import sys\nsys.path.insert({position}, {str(libraries)!r})\n{SERVE}")
    with started(project, sys.executable, str(launcher)) as server:
        assert server.get("/extra") == "libraries"
        first, second = reports_of_two_generations(server)
        assert server.get("/extra") == "libraries"
    assert second == first
    assert str(launcher.parent) not in first["path"]


def test_a_launcher_that_takes_the_site_directories_away(project):
    """As pex does: what is installed in the interpreter is not for the application."""
    parents = [str(Path(asgireload.__file__).parent.parent), sysconfig.get_path("purelib")]
    copied = project / "unpacked"
    copied.mkdir()
    for name in os.listdir(parents[1]):
        os.symlink(os.path.join(parents[1], name), copied / name)
    # A checkout lies elsewhere; what is installed is among the copies.
    paths = list(dict.fromkeys([str(copied), *parents]))
    paths.remove(parents[1])
    launcher = project / "launch.py"
    launcher.write_text(
        "import sys\nsys.path[:] = [entry for entry in sys.path if 'site-packages' not in entry]\n"
        f"sys.path += {paths!r}\n{SERVE}"
    )
    with started(project, sys.executable, str(launcher)) as server:
        first, second = reports_of_two_generations(server)
    assert second == first
    assert sysconfig.get_path("purelib") not in first["path"]


def test_what_a_launcher_does_beside_is_there_in_no_generation(project):
    """Its patches could not be made again for a reload: what needs them must be seen to fail at the start."""
    launcher = project / "launch.py"
    launcher.write_text(f"import json\njson.patched = True\n{SERVE}")
    write_version(project, 1, extra="import json\nassert not hasattr(json, 'patched')\n")
    with started(project, sys.executable, str(launcher)) as server:
        assert server.version() == 1


def test_a_program_that_calls_run_may_edit_the_import_path(project):
    libraries = project / "libraries"
    libraries.mkdir()
    (libraries / "beside.py").write_text("WHERE = 'libraries'\n")
    program = project / "serve.py"
    program.write_text(
        f"import sys, asgireload\nsys.path.insert(0, {str(libraries)!r})\n"
        "if __name__ == '__main__':\n"
        f"    asgireload.run('app:app', port=0, admin_socket={str(project / 'admin.sock')!r}, workers=1)\n"
    )
    server = Server(project)
    server.command = [sys.executable, str(program)]
    with server:
        assert server.get("/extra") == "libraries"
        first, second = reports_of_two_generations(server)
    assert second == first


def copy_package(target):
    """Put our package, and what it needs beside, into a directory."""
    shutil.copytree(
        Path(asgireload.__file__).parent,
        target / "asgireload",
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def test_a_zipapp(project):
    """With our package in the archive; what is compiled cannot be imported from one, and stays installed."""
    source = project / "source"
    source.mkdir()
    copy_package(source)
    (source / "beside.py").write_text("WHERE = 'archive'\n")
    archive = project / "server.pyz"
    zipapp.create_archive(source, archive, main="asgireload.cli.main:main")
    shutil.rmtree(source)
    with started(project, sys.executable, archive.name) as server:
        assert server.get("/extra") == "archive"
        first, second = reports_of_two_generations(server)
        assert server.get("/extra") == "archive"
    assert second == first
    assert first["main"][1].startswith(archive.name) or archive.name in first["main"][1]


def build(tool, *arguments):
    done = subprocess.run(
        [shutil.which(tool) or tool, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shiv(project):
    pytest.importorskip("shiv")
    site = project / "site"
    install_into(site)
    archive = project / "server.pyz"
    build(
        *(sys.executable, "-m", "shiv.cli", "--site-packages", str(site), "-o", str(archive)),
        *("-e", "asgireload.cli.main:main", "--python", sys.executable),
    )
    environment = {"SHIV_ROOT": str(project / "shiv"), "PYTHONPATH": ""}
    with started(project, str(archive), env=environment) as server:
        first, second = reports_of_two_generations(server)
    assert second == first
    assert any(str(project / "shiv") in entry for entry in first["path"])


def test_pex(project):
    pytest.importorskip("pex")
    site = project / "site"
    install_into(site)
    archive = project / "server.pex"
    build(
        *(sys.executable, "-m", "pex", "-D", str(site), "-o", str(archive)),
        *("-m", "asgireload", "--python", sys.executable, "--pex-root", str(project / "root")),
    )
    environment = {"PEX_ROOT": str(project / "root")}
    with started(project, str(archive), env=environment) as server:
        first, second = reports_of_two_generations(server)
    assert second == first
    assert sysconfig.get_path("purelib") not in first["path"]


def install_into(site):
    """What `pip install --target` makes, from what is installed here: no index is asked."""
    site.mkdir()
    copy_package(site)
    for name in PACKAGES:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.parts[0] != "__pycache__":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sys.executable = ''", "sys.executable is empty"),
        ("sys.executable = '/nowhere/python'", "/nowhere/python"),
        ("sys.frozen = True", "frozen"),
    ],
)
def test_a_start_that_no_reload_could_follow_is_refused(project, line, told):
    launcher = project / "launch.py"
    launcher.write_text(f"import sys\n{line}\n{SERVE}")
    command = [sys.executable, str(launcher), "app:app", "--port", "0", "--admin-socket", "none"]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr
