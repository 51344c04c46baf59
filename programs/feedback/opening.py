"""Opening the answers beside a profile store. It needs no SQLAlchemy where there are none."""

from typing import TYPE_CHECKING

from programs.feedback.beside import answers_file
from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:
    from programs.feedback.answers import Answers


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
