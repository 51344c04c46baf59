"""What a profile store is: the protocol that `R2P(store=…)` reads and a service writes."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Protocol, runtime_checkable

from r2p_dspy.profile import Profile

Moment = str | date  # a `datetime` is a date too; texts as `r2p_dspy.values.dates.date_key` reads them


@dataclass(frozen=True)
class Reading:
    """What a store gives for one call.

    Args:
        version: of the history that was read; "" for a user without one.
        items: the items, in the order in which they were appended.
        scope: "whole": all items. "appended": those appended since the version that the reader knows, and nothing else
            has changed. "candidates": of a long history, those that match the query best, and the newest.
        size: the number of items that the user has.
    """

    version: str
    items: Profile
    scope: Literal["whole", "appended", "candidates"]
    size: int


@runtime_checkable
class ProfileStore(Protocol):
    """Users' histories. Threads may share one.

    A user is a name or a number; a user without items is no error. Items are what `Profile.of` reads. An item's moment
    is its date or, without one, the time when it was appended.

    Two methods are optional. `read(user, query, known)` returns a `Reading` (see `SQLStore.read`): a store without it
    is read whole at each new version. `load(histories)` appends the histories of many users at once.

    Methods raise `ConfigError` for arguments that cannot be used, and `StoreError` where the store cannot be used; then
    nothing is written. What is written when a method returns survives the end of the process.
    """

    def get(self, user: str | int, limit: int | None = None, since: Moment | None = None) -> Profile:
        """A user's items in the order in which they were appended.

        Args:
            user: whose.
            limit: at most so many, the newest by their moments; None for all.
            since: only those of this moment or later.
        """
        ...

    def append(self, user: str | int, items: Any) -> list[str]:  # what `Profile.of` reads
        """Add items to the end of a user's history, all or none, and return their ids.

        An item without an id gets a random one. An item that is there already, with the same content, is not added
        again, so an append may be repeated; another item under an id that is taken is a `ConfigError`.
        """
        ...

    def update(self, user: str | int, items: Any) -> None:
        """Replace items, found by their ids, where they stand; `ConfigError` for an id that the user has not."""
        ...

    def expire(self, before: Moment, user: str | int | None = None) -> int:
        """Delete the items of moments before this one, of a user or of all, and return their number."""
        ...

    def delete_user(self, *users: str | int) -> int:
        """Delete users with all their items, and return the number of items.

        No file of an embedded store then holds a text of theirs; a server's log and backups are its own. It may be
        repeated, and is to be after an error.
        """
        ...

    def version(self, user: str | int) -> str:
        """A text that changes with each change of the user's history, and never returns; "" for an unknown user."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...
