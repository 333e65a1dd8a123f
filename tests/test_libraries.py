"""Which files are the application's."""

import sys
import types

import pytest

from asgireload.libraries import Places, find_places, library_names

PLACES = Places(
    ("/usr/lib/python3.11/",), ("/venv/lib/site-packages/", "/srv/asgireload/"), ("/app/",)
)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/usr/lib/python3.11/json/__init__.py", True),
        ("/venv/lib/site-packages/yaml.py", True),
        ("/other/lib/python3/dist-packages/yaml.py", True),
        ("/srv/asgireload/app.py", True),
        ("/app/main.py", False),
        ("/app/.venv/lib/python3.11/site-packages/yaml.py", True),
        ("/home/me/editable/thing.py", False),
    ],
)
def test_libraries_are_what_is_installed(file, expected):
    assert PLACES.is_library(file) is expected


def test_an_installed_library_that_is_watched_by_name_is_edited():
    places = Places(PLACES.python, PLACES.installed, ("/venv/lib/site-packages/thing/",))
    assert not places.is_library("/venv/lib/site-packages/thing/core.py")
    assert places.is_library("/venv/lib/site-packages/other.py")


def test_the_standard_library_below_the_application_stays_one():
    """A home directory that is served has the interpreters of pyenv in it."""
    places = Places(("/home/ada/.pyenv/3.11/lib/python3.11/",), (), ("/home/ada/",))
    assert places.is_library("/home/ada/.pyenv/3.11/lib/python3.11/json/decoder.py")
    assert not places.is_library("/home/ada/app.py")


def test_this_interpreter_is_known():
    import json

    places = find_places(["/app"])
    assert places.is_library(json.__file__)
    assert places.is_library(pytest.__file__)


def test_names_are_those_of_modules_that_importing_gives_again():
    made_up = types.ModuleType("made_up")
    modules = {
        "json": sys.modules["json"],
        "alias": sys.modules["json"],
        "made_up": made_up,
        "sys": sys,
        "__main__": sys.modules["__main__"],
        "gone": None,
    }
    assert library_names(modules, find_places(["/app"])) == ("json",)
