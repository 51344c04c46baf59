"""Where the answers beside a profile store are. It needs no SQLAlchemy where there are none."""

from pathlib import Path
from typing import TYPE_CHECKING

from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:
    from programs.feedback.answers import Answers

_URL = "sqlite:///"


def answers_file(store: str) -> Path | None:
    """The file of the answers beside a store in SQLite; None for a store in another database.

    Examples:
        >>> answers_file("sqlite:///data/histories.sqlite").as_posix()
        'data/histories.answers.sqlite'
    """
    if not store.startswith(_URL):
        return None
    path = Path(store.removeprefix(_URL))
    return path.with_name(f"{path.stem}.answers.sqlite")


def open_answers(store: str) -> "Answers":
    """Open the answers beside a store, and make their tables where they are missing.

    Raises:
        ConfigError: SQLAlchemy or the database's driver is not installed.
        StoreError: the database cannot be used, or was made by a newer version.
    """
    try:
        from programs.feedback.answers import Answers
    except ModuleNotFoundError:
        raise ConfigError("answers and feedback are kept by SQLAlchemy: pip install '.[serve-http]'") from None
    return Answers(store)


def existing_answers(store: str) -> "Answers | None":
    """The answers beside a store, see `open_answers`; None if no service has kept any in a file."""
    file = answers_file(store)
    return None if file is not None and not file.exists() else open_answers(store)
