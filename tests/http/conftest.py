"""Both parsers and every way in, for the suites of this folder, and `make fuzz` for its properties."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.fuzz.repeating import pytest_pyfunc_call
from tests.http import server

__all__ = ["loop_factory", "parser", "pytest_pyfunc_call"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Which parser takes a head apart makes no difference to how its connection is served: others on one loop."""
    left_out = set()
    for item in items:
        params = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]
        if (
            params
            and params.get("parser", "builtin") != "builtin"
            and params.get("loop_factory", "uvloop") != "uvloop"
        ):
            left_out.add(item)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=["builtin", "httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["asyncio", "uvloop", "direct"])
def loop_factory(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Both event loops, and connections that are served before the loop has them."""
    monkeypatch.setattr(server, "serves_directly", request.param == "direct")
    return asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop
