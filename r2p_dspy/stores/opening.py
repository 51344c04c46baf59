"""Open a profile store by its address."""

from pathlib import Path

from r2p_dspy.errors import ConfigError
from r2p_dspy.stores.sql import WHOLE, SQLStore
from r2p_dspy.stores.sqlite import SQLite

_SQLITE = "sqlite:///"


def open_store(url: str, *, whole: int = WHOLE) -> SQLStore:
    """Open the profile store at an address.

    Args:
        url: `sqlite:///FILE` (`sqlite:////…` for an absolute path), which needs no further package; or the address of
            another database as SQLAlchemy writes it, such as `postgresql+psycopg://user:password@host/name`.
        whole: the longest history that a call reads as a whole, see `SQLStore`.

    Raises:
        ConfigError: no address of a database, or one whose driver is not installed.
        StoreError: the database cannot be reached or used, or holds a store of a newer version.

    Examples:
        >>> import tempfile
        >>> store = open_store(f"sqlite:///{tempfile.mkdtemp()}/histories.sqlite")
        >>> store.append("ada", ["Rain in May."]), len(store.get("ada"))  # doctest: +ELLIPSIS
        (['...'], 1)
    """
    if not isinstance(url, str) or "://" not in url:
        raise ConfigError(
            f"{str(url)[:60]!r} is no address of a store; write sqlite:///FILE or postgresql+psycopg://user@host/name"
        )
    if url.startswith(_SQLITE):
        name = url.removeprefix(_SQLITE)
        if not name or name == ":memory:":
            raise ConfigError(f"{url!r} names no file; write sqlite:///FILE")
        return SQLite(Path(name), whole=whole)
    if url.startswith("sqlite"):
        raise ConfigError("a store in SQLite is opened as sqlite:///FILE, without a driver")
    from r2p_dspy.stores.database import Database

    return Database(url, whole=whole)
