"""Stores to test: the same behaviour of each kind."""

import pytest

from r2p_dspy.stores.database import Database
from r2p_dspy.stores.sqlite import SQLite
from tests.postgres import postgres  # noqa: F401  # a fixture


@pytest.fixture(params=["sqlite", "sqlalchemy", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    """A store of each kind, whose histories of more than 20 items are indexed."""
    if request.param == "sqlite":
        made = SQLite(tmp_path / "histories.sqlite", whole=20)
    elif request.param == "sqlalchemy":
        made = Database(f"sqlite+pysqlite:///{tmp_path / 'any.sqlite'}", whole=20)
    else:
        made = Database(request.getfixturevalue("postgres").url, whole=20)
    yield made
    if request.param == "postgres":
        with made._writing() as db:
            db.execute("TRUNCATE r2p_items, r2p_owners, r2p_words")
    made.close()
