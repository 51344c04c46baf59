"""What statements read and write: connections, the version of a store, a user's row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from r2p_dspy.errors import StoreError

_SHIFT = 32  # a user's first position is their number times 2 ** 32


class Connection(Protocol):
    """A connection within a transaction; parameters of statements are named."""

    def execute(self, statement: str, values: Mapping[str, Any] = ...) -> list[Any]:
        """The rows of a statement."""
        ...

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement for each row."""
        ...


class Owner(NamedTuple):
    """A user's row."""

    number: int
    size: int  # items
    latest: int  # the place of the item that was appended last, from 1
    edits: int  # changes that are no appends
    secret: bytes | None  # the key of the words in the index; None for a history that is not indexed

    @property
    def version(self) -> str:
        return f"{self.number}.{self.edits}.{self.latest}"

    @property
    def start(self) -> int:
        return self.number << _SHIFT

    def since(self, version: str) -> int | None:
        """The place up to which a reader knows the items, if nothing but appends happened since that version."""
        begin, _, latest = version.rpartition(".")
        return int(latest) if begin == f"{self.number}.{self.edits}" else None


def checked_version(where: str | Path, version: Any, newest: int) -> int:
    """The version of the store in a database; `StoreError` for one that this release cannot read."""
    if not isinstance(version, int) or not 0 <= version <= newest:
        raise StoreError(
            f"{where} is a store of version {version}, and this r2p-dspy reads up to {newest}; update r2p-dspy"
        )
    return version
