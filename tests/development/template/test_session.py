"""What a template under --reload decides about its import, without one."""

import os

import pytest

from asgireload.config import Config
from asgireload.development.pages.failure import FailureApp
from asgireload.development.template.session import DevelopmentSession
from asgireload.failures import Failure
from asgireload.ipc.messages import LoadApp, VariablesDiffer


class Channel:
    """A channel whose other end only listens."""

    def __init__(self):
        self.sent = []

    def send(self, message, descriptors=()):
        self.sent.append(message)

    def receive(self):
        return None


def session_for(**order):
    session = DevelopmentSession(Channel(), os.getpid())
    session.order = LoadApp(
        generation=2,
        config=Config(app="shop:app"),
        preload=True,
        directory="/",
        name="shop",
        **order,
    )
    session.environment = dict(os.environ)
    return session


def test_an_import_from_a_fresh_interpreter_is_always_accepted(monkeypatch):
    session = session_for()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert session.accepts_import()
    assert not session.channel.sent


@pytest.mark.parametrize(
    ("found", "ignored", "differing"),
    [
        ({"OMP_NUM_THREADS": "1"}, (), ()),
        ({"OMP_NUM_THREADS": "8"}, (), ("OMP_NUM_THREADS",)),
        ({}, (), ("OMP_NUM_THREADS",)),
        ({"OMP_NUM_THREADS": "1", "GONE": "x"}, (), ("GONE",)),
        ({}, ("OMP_NUM_THREADS",), ()),
    ],
)
def test_libraries_must_have_found_the_variables_that_the_application_sets(
    monkeypatch, found, ignored, differing
):
    session = session_for(source_variables=found, ignored_variables=ignored)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert session.accepts_import() is (not differing)
    assert session.channel.sent == ([VariablesDiffer(differing)] if differing else [])


def test_a_failed_import_is_shown_and_a_failure_before_it_is_not():
    session = session_for()
    error = ValueError("no such table")
    assert isinstance(session.stand_in(Failure("import", "no such table"), error), FailureApp)
    assert session.stand_in(Failure("logging", "no such file"), error) is None


def test_a_generation_that_has_crashed_is_shown():
    session = session_for()
    assert isinstance(session.stand_in(Failure("boot", "killed by SIGSEGV")), FailureApp)
