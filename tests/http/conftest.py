"""Both parsers, for the suites of this folder, and `make fuzz` for its properties."""

import pytest

from tests.fuzz.repeating import pytest_pyfunc_call

__all__ = ["parser", "pytest_pyfunc_call"]


@pytest.fixture(params=["builtin", "httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)
