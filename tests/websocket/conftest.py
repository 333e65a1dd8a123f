"""WebSockets start as HTTP requests: one parser is enough here, the HTTP suite covers the other."""

import pytest


@pytest.fixture
def parser() -> str:
    return "httptools"
