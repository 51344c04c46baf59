"""Opening stores: addresses, files of something else, newer versions, and servers that go away."""

import re
import sqlite3
import stat
import subprocess
import sys

import pytest

from r2p_dspy import ConfigError, StoreError
from r2p_dspy.stores import SQLite, open_store
from r2p_dspy.stores.database import Database


@pytest.mark.parametrize(
    "url, message",
    [
        ("histories.sqlite", "'histories.sqlite' is no address of a store; write sqlite:///FILE or postgresql"),
        (None, "'None' is no address of a store"),
        ("sqlite://", "opened as sqlite:///FILE"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite+pysqlite:///x.sqlite", "opened as sqlite:///FILE, without a driver"),
        ("nosuch://user:secret@host/name", "a store at nosuch://… names no database that SQLAlchemy knows"),
        ("mysql+nosuch://user:secret@host/name", "names no database"),
        ("oracle+oracledb://user:secret@host/name", "needs the driver oracledb: pip install it"),
        ("postgresql+psycopg://user:secret@host:port/name", "address cannot be read"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("whole", [0, True, 1.5])
def test_whole_is_a_number_of_items(tmp_path, whole):
    with pytest.raises(ConfigError, match="whole is a number of items"):
        SQLite(tmp_path / "histories.sqlite", whole=whole)


def test_a_file_that_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(StoreError, match="there is no directory"):
        SQLite(tmp_path / "missing" / "histories.sqlite")
    with pytest.raises(StoreError, match="cannot be used"):
        SQLite(tmp_path)


def test_a_database_of_something_else_is_left_as_it_is(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreError, match="is a database of something else; give another file"):
        SQLite(path)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


@pytest.mark.parametrize(
    "content", [b"not a database at all, but a text that is long enough", b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    path = tmp_path / "histories.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be used"):
        SQLite(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["sqlite", "sqlalchemy", pytest.param("postgres", marks=pytest.mark.postgres)])
@pytest.mark.parametrize("version", [99, -1])
def test_a_store_of_a_newer_version_is_refused_in_one_line(kind, version, tmp_path, request):
    def opened():
        if kind == "sqlite":
            return SQLite(tmp_path / "histories.sqlite")
        url = (
            f"sqlite+pysqlite:///{tmp_path / 'any'}"
            if kind == "sqlalchemy"
            else request.getfixturevalue("postgres").url
        )
        return Database(url)

    def write(version):
        with store._writing() as db:
            db.execute("UPDATE r2p_store SET version = :version", {"version": version})

    store = opened()
    write(version)
    try:
        with pytest.raises(StoreError) as refused:
            opened()
        expected = rf".* is a store of version {version}, and this r2p-dspy reads up to 1; update r2p-dspy"
        assert re.fullmatch(expected, str(refused.value))
        assert "secret-word" not in str(refused.value)
    finally:
        write(1)
    opened()


def test_only_its_owner_can_read_a_store(tmp_path):
    store = SQLite(tmp_path / "histories.sqlite")
    store.append("ada", ["rain"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_closed_store_says_so(tmp_path):
    store = SQLite(tmp_path / "histories.sqlite")
    store.close()
    with pytest.raises(ConfigError, match="is closed"):
        store.get("ada")
    assert [path.name for path in tmp_path.iterdir()] == ["histories.sqlite"], "its log is gone"


def test_a_store_in_a_file_needs_no_further_package(tmp_path):
    code = """
import sys
sys.modules["sqlalchemy"] = None
from r2p_dspy.stores import open_store
store = open_store(f"sqlite:///{sys.argv[1]}/histories.sqlite")
print(len(store.append("ada", ["rain"])))
try:
    open_store("postgresql+psycopg://host/name")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    needed = "a store at postgresql+psycopg://… needs SQLAlchemy: pip install 'r2p-dspy[stores]'"
    assert done.stdout.splitlines() == ["1", needed]


def test_a_server_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="cannot be used") as refused:
        open_store(f"postgresql+psycopg://tester:secret-word@/postgres?host={tmp_path}")
    assert "secret-word" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.postgres
def test_a_server_that_goes_away_and_comes_back(postgres):
    store = open_store(postgres.url)
    store.append("back", [{"id": "1", "text": "before"}])
    postgres.stop()
    try:
        for call in (lambda: store.get("back"), lambda: store.append("back", [{"id": "2", "text": "meanwhile"}])):
            with pytest.raises(StoreError, match="nothing was written, try again when it can"):
                call()
    finally:
        postgres.start()
    assert [item.id for item in store.get("back")] == ["1"]
    store.append("back", [{"id": "2", "text": "after"}])
    assert store.delete_user("back") == 2
    store.close()
