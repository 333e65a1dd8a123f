"""The fixtures of the suites of HTTP, for those of its wire."""

from tests.http.conftest import (
    loop_factory,
    parser,
    pytest_collection_modifyitems,
    pytest_pyfunc_call,
)

__all__ = ["loop_factory", "parser", "pytest_collection_modifyitems", "pytest_pyfunc_call"]
