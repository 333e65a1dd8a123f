"""With what the interpreters of children begin: options and import paths as plain values."""

import os
import site
import subprocess
import sys
from types import SimpleNamespace

import pytest

from asgireload.errors import StartupError
from asgireload.supervisor import interpreter
from asgireload.supervisor.interpreter import (
    check_executable,
    child_path,
    interpreter_options,
    is_edited,
)

PLAIN = dict.fromkeys((*interpreter._LETTERS, "safe_path"), 0)


def options(*, warnoptions=(), xoptions=None, is_unbuffered=False, **flags):
    seen = SimpleNamespace(**{**PLAIN, **flags})
    return interpreter_options(seen, warnoptions, xoptions or {}, is_unbuffered=is_unbuffered)


def test_a_plain_interpreter_has_no_options():
    assert options() == []


def test_flags_become_options_as_often_as_they_were_given():
    assert options(optimize=2, bytes_warning=1, verbose=3) == ["-b", "-OO", "-vvv"]


def test_isolation_says_it_all():
    flags = {"isolated": 1, "ignore_environment": 1, "no_user_site": 1, "safe_path": True}
    assert options(**flags) == ["-I"]
    assert options(**{**flags, "isolated": 0}) == ["-E", "-s", "-P"]


def test_warnings_and_x_options_are_given_as_they_were():
    assert options(
        warnoptions=["error::UserWarning"], xoptions={"utf8": True, "pycache_prefix": "/p"}
    ) == ["-Werror::UserWarning", "-X", "utf8", "-X", "pycache_prefix=/p"]


def test_unbuffered_output_is_no_flag():
    assert options(is_unbuffered=True) == ["-u"]


@pytest.mark.parametrize("given", [["-I"], ["-E", "-bb", "-OO"], ["-S", "-B"], ["-X", "dev"]])
def test_an_interpreter_with_the_options_of_another_has_its_flags(given):
    show = "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)"
    code = (
        f"import sys; sys.path.insert(0, {interpreter._OWN_ROOT!r});"
        f"sys.path += {site.getsitepackages()!r};"
        "from asgireload.supervisor.interpreter import own_options; import subprocess;"
        f"print(subprocess.check_output([sys.executable, *own_options(), '-c', {show!r}], text=True), end='')"
    )
    first = subprocess.check_output([sys.executable, *given, "-c", show], text=True)
    second = subprocess.check_output([sys.executable, *given, "-c", code], text=True)
    assert second == first


def test_the_directory_of_the_program_is_left_out():
    assert child_path(["/bin", "/lib"], {"/bin"}, "/site") == ["/lib"]
    assert child_path(["/lib", "/bin", "/bin"], {"/bin"}, "/site") == ["/lib", "/bin"]
    assert child_path(["/lib"], set(), "/site") == ["/lib"]


def test_it_stays_where_nothing_else_leads_to_our_package():
    """As in a checkout that is not installed: a template could not even begin."""
    assert child_path(["/site", "/lib"], {"/site"}, "/site") == ["/site", "/lib"]
    assert child_path(["/site", "/lib", "/site"], {"/site"}, "/site") == ["/lib", "/site"]
    assert child_path(["", "/lib"], {""}, os.getcwd()) == ["", "/lib"]


def fresh_path():
    code = "import sys; print(*sys.path, sep='\\n')"
    return subprocess.check_output([sys.executable, "-P", "-c", code], text=True).splitlines()


def test_what_an_interpreter_makes_by_itself_is_not_edited():
    assert not is_edited(fresh_path())


def test_what_is_named_in_the_environment_is_not_edited(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}relative")
    assert not is_edited(fresh_path())


def test_one_directory_more_or_less_is():
    path = fresh_path()
    assert is_edited([*path, "/opt/libraries"])
    assert is_edited([entry for entry in path if entry not in site.getsitepackages()])


@pytest.mark.parametrize(
    ("executable", "is_frozen", "told"),
    [
        ("", False, "empty"),
        (None, False, "empty"),
        ("/nowhere/python", False, "/nowhere/python"),
        (sys.executable, True, "frozen"),
    ],
)
def test_what_starts_no_interpreter_is_told(executable, is_frozen, told):
    with pytest.raises(StartupError, match=told):
        check_executable(executable, is_frozen=is_frozen)


def test_this_interpreter_will_do():
    check_executable(sys.executable, is_frozen=False)
