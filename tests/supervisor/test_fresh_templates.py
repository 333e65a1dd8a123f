"""Where the templates of a production server come from."""

import os
import socket

import pytest

from asgireload.config import Config
from asgireload.ipc.channel import Channel
from asgireload.supervisor.early_template import Begun
from asgireload.supervisor.events import StartTemplate
from asgireload.supervisor.fresh_templates import FreshTemplates
from asgireload.supervisor.system import LinuxSystem

CONFIG = Config(app="shop:app")
STEP = StartTemplate(child_id=1, generation=1, preload=True)


class Early:
    """An early template that may be taken once."""

    def __init__(self, begun=None):
        self.begun = begun
        self.asked = []

    def take(self, request):
        self.asked.append(request)
        begun, self.begun = self.begun, None
        return begun


class Spawner(LinuxSystem):
    """Notes which modules were to be run in a fresh interpreter; this process stands for each."""

    def __init__(self):
        self.spawned = []

    def spawn(self, module, channel):
        self.spawned.append(module)
        return self.open_process(os.getpid())


@pytest.fixture
def system():
    return Spawner()


@pytest.fixture
def end():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one


def origin_of(early, step=STEP, system=None):
    origins = []
    FreshTemplates(CONFIG, "/srv", early, system or LinuxSystem()).prepare(step, origins.append)
    return origins[0]


def test_a_template_is_a_fresh_interpreter_whose_pid_is_known(system, end):
    origin = origin_of(Early(), system=system)
    started = origin.start(end)
    assert system.spawned == ["asgireload.template.main"]
    assert started.process.pid == os.getpid()
    assert (started.channel, started.fault_file) == (None, None)
    assert not origin.is_fork
    started.process.close()


def test_the_first_one_may_have_begun_with_its_request(system, end):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    early = Early()
    request = origin_of(early).request
    early.begun = Begun(os.getpid(), ours, request, fault_file=77)
    started = origin_of(early, system=system).start(end)
    assert early.asked == [request]
    assert not system.spawned
    assert started.fault_file == 77
    assert isinstance(started.channel, Channel)
    started.channel.close()
    started.process.close()
    theirs.close()


def test_one_that_has_begun_without_a_request_is_still_to_be_given_it(system, end):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started = origin_of(Early(Begun(os.getpid(), ours)), system=system).start(end)
    assert started.fault_file is None
    started.channel.close()
    started.process.close()
    theirs.close()


def test_one_that_ended_meanwhile_leaves_no_socket_behind(end):
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with pytest.raises(OSError):
        origin_of(Early(Begun(ended, ours))).start(end)
    assert ours.fileno() == -1
    theirs.close()


def test_the_request_says_what_was_decided():
    step = StartTemplate(child_id=3, generation=7, preload=False)
    request = origin_of(Early(), step).request
    assert (request.generation, request.preload, request.directory) == (7, False, "/srv")
    assert (request.checkpoint, request.source_variables) == ("", None)
