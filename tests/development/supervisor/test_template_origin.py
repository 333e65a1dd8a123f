"""How one template is started under --reload."""

import socket

import pytest

from asgireload.development.supervisor.fork_source_processes import ForkSource, StandbyTemplate
from asgireload.development.supervisor.template_origin import CachedOrigin
from asgireload.ipc.messages import AppImported, AppLoaded, ForkTemplate, VariablesDiffer
from asgireload.supervisor.roles import FORK_SOURCE
from asgireload.supervisor.template_source import StartedTemplate


class Channel:
    def __init__(self):
        self.posted = []

    def post(self, message, descriptors=()):
        self.posted.append((message, list(descriptors)))


class Cache:
    """Takes notes of what a preload cache is told."""

    def __init__(self):
        self.told = []
        self.system = self

    def spawn(self, module, channel):
        """Stand for the operating system as well."""
        return module, channel

    def take_record(self, descriptor, *, is_whole):
        self.told.append(("record", descriptor, is_whole))

    def take_differing_variables(self, source, variables):
        self.told.append(("variables", source, variables))

    def distrust(self, source, *, next_too=False):
        self.told.append(("distrust", source, next_too))


class Processes:
    """Those that the source belongs to."""

    def take_standby(self, source):
        standby, source.standby = source.standby, None
        return standby


@pytest.fixture
def source():
    return ForkSource(
        FORK_SOURCE, 5, Channel(), Processes(), variables={}, name="library base", signatures={}
    )


@pytest.fixture
def end():
    one, other = socket.socketpair()
    with one, other:
        yield one


def origin_from(source, cache=None):
    return CachedOrigin(cache or Cache(), template_id=3, request=None, source=source)


def test_a_template_is_forked_from_its_source_and_says_its_pid_itself(source, end):
    origin = origin_from(source)
    assert origin.start(end) == StartedTemplate(process=None)
    assert source.channel.posted == [(ForkTemplate(), [end.fileno()])]
    assert origin.is_fork


def test_one_that_was_forked_ahead_is_taken_once(source, end):
    source.standby = StandbyTemplate(Channel(), source)
    source.standby.process = "its process"
    waiting = source.standby.channel
    assert origin_from(source).start(end) == StartedTemplate("its process", waiting)
    assert source.standby is None
    assert not source.channel.posted


def test_without_a_source_it_is_a_fresh_interpreter(end):
    origin = origin_from(None)
    started = origin.start(end)
    assert started == StartedTemplate(("asgireload.development.template.main", end.fileno()))
    assert not origin.is_fork


@pytest.mark.parametrize(
    ("modules", "count", "text"),
    [
        ((), 0, ""),
        (("shop.views",), 1, "read shop.views in 15 ms, from library base"),
        (("b", "c", "d"), 4, "read b, c, d and 1 more module in 15 ms, from library base"),
        (("b", "c", "d"), 9, "read b, c, d and 6 more modules in 15 ms, from library base"),
    ],
)
def test_the_log_says_what_was_read_and_from_where(source, modules, count, text):
    loaded = AppLoaded(0.0151, modules=modules, module_count=count)
    assert origin_from(source).describe(loaded) == text
    assert origin_from(None).describe(loaded) == text.replace("library base", "a fresh interpreter")


def test_what_a_template_tells_goes_to_the_cache_with_its_source(source):
    cache = Cache()
    origin = origin_from(source, cache)
    origin.record(AppImported(is_whole=True), [17])
    origin.record(VariablesDiffer(("A",)), [])
    origin.distrust(next_too=True)
    assert cache.told == [
        ("record", 17, True),
        ("variables", source, ("A",)),
        ("distrust", source, True),
    ]


def test_a_fresh_interpreter_is_never_at_fault():
    cache = Cache()
    origin_from(None, cache).distrust(next_too=True)
    assert not cache.told
