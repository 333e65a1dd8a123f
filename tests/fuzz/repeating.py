"""What `make fuzz` adds: every property is tried again and again, with another seed each time.

Set FUZZ_SECONDS to how long each property is tried, and FUZZ_SEED to begin with that seed. Without the
first, a property is tried once, with the same examples every time. Works for any Hypothesis test; import
`pytest_pyfunc_call` in a conftest.py to have it for the tests of a folder.
"""

import os
import random
import time
from typing import Any

import hypothesis
import pytest


def seconds() -> float | None:
    """Return how long each property is to be tried; None for once."""
    text = os.environ.get("FUZZ_SECONDS")
    return None if text is None else float(text)


def first_seed() -> int:
    text = os.environ.get("FUZZ_SEED")
    return random.randrange(1_000_000_000) if text is None else int(text)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Call a property in pytest's place. What fails, fails with a note that says how to repeat it."""
    property_test = pyfuncitem.obj
    if not hypothesis.is_hypothesis_test(property_test):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    budget = seconds()
    if budget is None:
        hypothesis.seed(0)(property_test)(**arguments)
        return True
    deadline = time.monotonic() + budget
    seed = first_seed()
    while time.monotonic() < deadline:
        try:
            hypothesis.seed(seed)(property_test)(**arguments)
        except Exception as error:
            error.add_note(f"Again: make fuzz FUZZ_SEED={seed} FUZZ_SECONDS=1")
            raise
        seed += 1
    return True
