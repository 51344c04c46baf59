"""`data forget` empties DSPy's cache: here it is one of these tests' own."""

import dspy
import pytest


@pytest.fixture(autouse=True, scope="module")
def _own_cache():
    shared = dspy.cache
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.cache = shared
