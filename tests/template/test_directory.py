"""The directory in which a server was started: entered where it can be, missed only where it is needed."""

import os

import pytest

from asgireload.errors import AppLoadError
from asgireload.template.session import enter_directory

NOBODY = 65534


@pytest.fixture(autouse=True)
def stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_is_entered(tmp_path):
    (tmp_path / "start").mkdir()
    enter_directory(str(tmp_path / "start"), "")
    assert os.getcwd() == str(tmp_path / "start")


def test_one_that_is_gone_is_named_with_what_to_do(tmp_path):
    for app_dir in ("", "src"):
        with pytest.raises(AppLoadError, match=r"start, in which .*No such file.*--app-dir"):
            enter_directory(str(tmp_path / "start"), app_dir)


def test_one_that_is_gone_is_not_needed_beside_an_absolute_directory(tmp_path):
    enter_directory(str(tmp_path / "start"), str(tmp_path))
    assert os.getcwd() == str(tmp_path)


def test_one_that_may_not_be_entered_is_not_needed_either(tmp_path):
    """As after `runuser` in the home of root."""
    home = tmp_path / "home"
    home.mkdir(mode=0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            enter_directory(str(home), "/srv/code")
            try:
                enter_directory(str(home), "")
            except AppLoadError as error:
                status = 0 if "Permission denied" in str(error) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
