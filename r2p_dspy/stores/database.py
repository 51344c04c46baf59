"""A profile store in any database that SQLAlchemy knows, such as PostgreSQL."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from r2p_dspy.errors import ConfigError, StoreError
from r2p_dspy.stores.owner import Connection, checked_version
from r2p_dspy.stores.sql import WHOLE, SQLStore

if TYPE_CHECKING:
    from sqlalchemy import Connection as DatabaseConnection
    from sqlalchemy import Engine, MetaData

_VERSION = 1
_WORDS_AT_ONCE = 10_000  # rows of one statement
_MIGRATING = 0x723270  # the number of a lock of PostgreSQL's, for processes that start side by side


class _DatabaseConnection:
    """A connection within a transaction."""

    def __init__(self, connection: "DatabaseConnection") -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Any] = {}) -> list[Any]:  # never changed
        from sqlalchemy import text

        result = self._connection.execute(text(statement), dict(values))
        return [tuple(row) for row in result] if result.returns_rows else []

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from sqlalchemy import text

        if rows:
            self._connection.execute(text(statement), [*map(dict, rows)])

    def try_execute(self, statement: str, values: Mapping[str, Any]) -> None:
        """Execute a statement, or leave everything as it was where a row of that key is there already."""
        from sqlalchemy.exc import IntegrityError

        try:
            with self._connection.begin_nested():
                self.execute(statement, values)
        except IntegrityError:
            pass


class Database(SQLStore):
    """Users' histories in a database of a server; PostgreSQL is tested.

    Writers of one user wait for one another, writers of different users do not. A connection that the server has closed
    is opened anew, so the store goes on when a server comes back.

    Args:
        url: the database's address, as SQLAlchemy writes it.
        whole: see `SQLStore`.
        connections: to the server at the same time, at least 1; calls beyond them wait.

    Raises:
        ConfigError: no address, or one whose driver is not installed.
        StoreError: the database cannot be reached or used, or holds a store of a newer version.
    """

    _for_update = " FOR UPDATE"

    def __init__(self, url: str, *, whole: int = WHOLE, connections: int = 20) -> None:
        super().__init__(whole)
        self._engine = _engine(url, connections)
        self._dialect = self._engine.dialect.name
        self._address = self._engine.url.render_as_string(hide_password=True)
        isolation = {} if self._dialect == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        self._reader = self._engine.execution_options(**isolation)  # one state for all statements of a reader
        if self._dialect == "sqlite":
            self._for_update = ""
        with self._errors():
            self._migrate()

    def __repr__(self) -> str:
        return f"Database({self._address!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Database":
        return self  # optimizers copy programs by the dozen

    def _migrate(self) -> None:
        from sqlalchemy import inspect, text

        with self._engine.begin() as connection:
            if self._dialect == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
            if not inspect(connection).has_table("r2p_store"):
                _tables().create_all(connection)
                connection.execute(
                    text("INSERT INTO r2p_store (version, unwiped) VALUES (:version, 0)"), {"version": _VERSION}
                )
            checked_version(self._address, connection.execute(text("SELECT version FROM r2p_store")).scalar(), _VERSION)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._errors(), self._reader.begin() as connection:
            yield _DatabaseConnection(connection)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield _DatabaseConnection(connection)

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(f"the store at {self._address}", "nothing was written, try again when it can")

    def _add_owner(self, db: Any, name: str) -> None:
        db.try_execute(self._new_owner, {"name": name})  # another process may add the same user now

    def _add_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        self._for_words(db, "INSERT INTO r2p_words (word, position) VALUES (:word, :position)", rows)

    def _remove_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        self._for_words(db, "DELETE FROM r2p_words WHERE word = :word AND position = :position", rows)

    def _for_words(self, db: Connection, statement: str, rows: Mapping[int, set[int]]) -> None:
        pairs = [{"word": word, "position": position} for position, words in rows.items() for word in sorted(words)]
        for start in range(0, len(pairs), _WORDS_AT_ONCE):
            db.execute_many(statement, pairs[start : start + _WORDS_AT_ONCE])

    def _newest_with(self, db: Connection, word: int, limit: int) -> list[int]:
        statement = "SELECT position FROM r2p_words WHERE word = :word ORDER BY position DESC LIMIT :limit"
        return [position for (position,) in db.execute(statement, {"word": word, "limit": limit})]

    def _overwrite(self) -> None:
        """Let PostgreSQL clear what was deleted from its tables. Its log and its backups are the server's own."""
        if self._dialect != "postgresql":
            return
        from sqlalchemy import text

        with self._errors(), self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM r2p_items, r2p_owners, r2p_words"))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


@contextmanager
def database_errors(what: str, advice: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into a `StoreError` of one line: `what` cannot be used, why, and `advice`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise StoreError(f"{what} cannot be used ({reason}); {advice}") from error


def _engine(url: str, connections: int) -> "Engine":
    try:
        import sqlalchemy
    except ModuleNotFoundError:
        raise ConfigError(f"{_scheme(url)} needs SQLAlchemy: pip install 'r2p-dspy[stores]'") from None
    try:
        address = sqlalchemy.make_url(url)
        pool = {} if address.get_backend_name() == "sqlite" else {"pool_size": connections, "max_overflow": 0}
        # Errors without the parameters of statements, which are users' texts.
        return sqlalchemy.create_engine(address, pool_pre_ping=True, hide_parameters=True, **pool)
    except ModuleNotFoundError as missing:
        raise ConfigError(f"{_scheme(url)} needs the driver {missing.name}: pip install it") from None
    except sqlalchemy.exc.NoSuchModuleError:
        raise ConfigError(
            f"{_scheme(url)} names no database that SQLAlchemy knows; write postgresql+psycopg://user@host/name"
        ) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError("the store's address cannot be read; write postgresql+psycopg://user@host/name") from None


def _scheme(url: str) -> str:
    """What of an address may be shown: it can hold a password."""
    return f"a store at {url.partition('://')[0]}://…"


def _tables() -> "MetaData":
    from sqlalchemy import (
        BigInteger,
        Column,
        Index,
        Integer,
        LargeBinary,
        MetaData,
        String,
        Table,
        Text,
        UniqueConstraint,
    )

    tables = MetaData()
    # Names differ by case and accents: MySQL compares them otherwise unless it is told.
    name = String(500).with_variant(String(500, collation="utf8mb4_bin"), "mysql", "mariadb")
    number = BigInteger().with_variant(Integer, "sqlite")
    Table("r2p_store", tables, Column("version", Integer, nullable=False), Column("unwiped", BigInteger))
    Table(
        "r2p_owners",
        tables,
        Column("number", number, primary_key=True, autoincrement=True),
        Column("name", name, nullable=False, unique=True),
        Column("size", BigInteger, nullable=False),
        Column("latest", BigInteger, nullable=False),
        Column("edits", BigInteger, nullable=False),
        Column("secret", LargeBinary(32)),
        sqlite_autoincrement=True,  # the number of a deleted user is never given again
    )
    Table(
        "r2p_items",
        tables,
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("owner", BigInteger, nullable=False),
        Column("id", name, nullable=False),
        Column("moment", BigInteger, nullable=False),
        Column("body", Text(1 << 24).with_variant(Text, "postgresql"), nullable=False),
        UniqueConstraint("owner", "id"),
        Index("r2p_moments", "owner", "moment"),
    )
    Table(
        "r2p_words",
        tables,
        Column("word", BigInteger, primary_key=True, autoincrement=False),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
    )
    return tables
