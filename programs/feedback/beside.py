"""Where the answers beside a profile store are."""

from pathlib import Path

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
