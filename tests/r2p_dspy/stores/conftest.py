"""Stores to test: the same behaviour of each kind."""

import pytest

from r2p_dspy.stores.sqlite import SQLite


@pytest.fixture
def store(tmp_path):
    """A store whose histories of more than 20 items are indexed."""
    made = SQLite(tmp_path / "histories.sqlite", whole=20)
    yield made
    made.close()
