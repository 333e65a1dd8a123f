"""Every parser that may have read the opening handshake, for the suites of this folder."""

import pytest


@pytest.fixture(params=["builtin", "httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)
