"""What a server with --reload does otherwise than one in production."""

import pytest

from asgireload.config import Config
from asgireload.development.supervisor.mode import looks_like_production


@pytest.mark.parametrize(
    ("options", "environ", "is_terminal", "expected"),
    [
        ({}, {}, False, False),
        ({}, {"NOTIFY_SOCKET": "/run/systemd/notify"}, True, True),
        ({"pid_file": "/run/app.pid"}, {}, True, True),
        ({"workers": 4}, {}, True, False),
        ({"workers": 4}, {}, False, True),
    ],
)
def test_a_reload_that_looks_like_a_mistake_is_pointed_out(options, environ, is_terminal, expected):
    config = Config(app="app:app", reload=True, **options)
    assert looks_like_production(config, environ, is_terminal=is_terminal) is expected
