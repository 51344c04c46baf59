"""The tables of answers and feedback, and the database that holds them."""

from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

from programs.feedback.beside import answers_file
from r2p_dspy.errors import ConfigError
from r2p_dspy.stores.owner import checked_version

SQLITE = "sqlite"
_NEWEST = 1  # the version of the tables
_LOCK = 0x723271  # the number of a lock of PostgreSQL's, for processes that start side by side
_BUSY = 60  # seconds that a writer of SQLite waits for others

_tables = MetaData()
_number = BigInteger().with_variant(Integer, SQLITE)
VERSION = Table("r2p_answers_version", _tables, Column("version", Integer, nullable=False))
ANSWERS = Table(
    "r2p_answers",
    _tables,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("program", String(200), nullable=False),
    Column("task", String(200), nullable=False, index=True),
    Column("user", String(500), index=True),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
FEEDBACK = Table(
    "r2p_feedback",
    _tables,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("answer", String(32), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)


def engine_of(store: str) -> tuple[Any, str]:
    """An engine of SQLAlchemy for the answers beside a store, and their address, without a password."""
    file = answers_file(store)
    try:
        if file is None:
            engine = sqlalchemy.create_engine(store, pool_pre_ping=True, hide_parameters=True)
        else:
            engine = sqlalchemy.create_engine(
                f"sqlite+pysqlite:///{file}", hide_parameters=True, connect_args={"timeout": _BUSY}
            )
    except ModuleNotFoundError as missing:
        raise ConfigError(f"the store needs the driver {missing.name}: pip install it") from None
    if file is None:
        return engine, engine.url.render_as_string(hide_password=True)
    file.touch(0o600)

    @sqlalchemy.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        for pragma in ("journal_mode = WAL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine, str(file)


def create(engine: Any, where: str) -> None:
    """Make the tables where they are missing; `StoreError` for tables of a newer version."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        elif engine.dialect.name == SQLITE:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if not sqlalchemy.inspect(connection).has_table(VERSION.name):
            _tables.create_all(connection)
            connection.execute(VERSION.insert(), {"version": _NEWEST})
        checked_version(where, connection.execute(VERSION.select()).scalar(), _NEWEST)
