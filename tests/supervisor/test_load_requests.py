"""The order that is given before anything is decided is the one that is decided upon."""

import random

from hypothesis import given
from hypothesis import strategies as st

from asgireload.config import Config
from asgireload.supervisor.events import StartTemplate
from asgireload.supervisor.fleet import new_fleet
from asgireload.supervisor.load_requests import first_request, request_of
from asgireload.supervisor.policy import make_policy
from asgireload.supervisor.reconcile import reconcile

CONFIGS = st.builds(
    Config,
    app=st.just("app:app"),
    workers=st.integers(1, 64),
    preload=st.sampled_from([None, True, False]),
    surge=st.integers(1, 4),
    drain_overlap=st.booleans(),
    reload_priority=st.sampled_from(["low", "normal"]),
)


@given(CONFIGS)
def test_it_is_what_the_first_step_asks_for(config):
    fleet = new_fleet(make_policy(config), random.Random(0), 0.0)
    orders = [
        request_of(step, config, "/srv")
        for step in reconcile(fleet, 0.0)
        if isinstance(step, StartTemplate)
    ]
    assert orders == [first_request(config, "/srv")]
