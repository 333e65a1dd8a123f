"""What --reload changes of a configuration."""

import pytest

from asgireload.config import Config
from asgireload.development.settings import development_config
from asgireload.supervisor.capacity import Demand, demand_of
from asgireload.worker.settings import http_settings


def settled(**options):
    return development_config(Config(app="shop:app", reload=True, **options))


@pytest.mark.parametrize(("given", "expected"), [(None, 3.0), (0.5, 0.5), (30.0, 30.0)])
def test_a_worker_leaves_soon_unless_the_option_says_how_long_it_may_take(given, expected):
    assert settled(exit_timeout=given).exit_timeout == expected


def test_connections_are_not_waited_for_as_long_as_in_production():
    settings = http_settings(settled(), 1000)
    assert (settings.drain_grace, settings.event_stream_notice) == (0.1, 1.0)
    settings = http_settings(settled(drain_grace=0.01, event_stream_notice=0.5), 1000)
    assert (settings.drain_grace, settings.event_stream_notice) == (0.01, 0.5)
    assert http_settings(settled(drain_timeout=0.05), 1000).drain_grace == 0.05


def test_connections_are_accepted_at_once():
    assert settled(defer_accept=True).defer_accept is False


@pytest.mark.parametrize("drain_overlap", [True, False])
def test_a_worker_takes_room_for_one_that_drains_beside_it(drain_overlap):
    config = settled(drain_generations=5, drain_overlap=drain_overlap)
    assert demand_of(config, 1) == Demand(6, 0)
