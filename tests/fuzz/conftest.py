"""Everything in this folder is tried for longer by `make fuzz`."""

from tests.fuzz.repeating import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
