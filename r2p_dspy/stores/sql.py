"""A profile store in SQL: what SQLite and every other database share.

The statements are those that all databases have. A user's items have consecutive positions, so that a history is read
in one piece. The words of long histories are indexed, each under a key of the user's own.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.sample import Sample
from r2p_dspy.stores.candidates import NEWEST, best_positions
from r2p_dspy.stores.owner import Connection, Owner
from r2p_dspy.stores.protocol import Moment, Reading
from r2p_dspy.stores.rows import Row, bound, item_of, items_of, keyed, user_name
from r2p_dspy.values.words import words

WHOLE = 1000  # items; a longer history is indexed, and a call reads candidates of it
_BATCH = 5000  # items of one transaction, in `load`
_VARIABLES = 500  # of one statement

_OWNER = "SELECT number, size, latest, edits, secret FROM r2p_owners WHERE name = :name"
_SAVE_OWNER = (
    "UPDATE r2p_owners SET size = :size, latest = :latest, edits = :edits, secret = :secret WHERE number = :number"
)
_ITEMS = "SELECT position, id, body FROM r2p_items WHERE position > :low AND position <= :high ORDER BY position"
_NEWEST = """SELECT position, id, body FROM r2p_items WHERE owner = :owner AND moment >= :since
    ORDER BY moment DESC, position DESC LIMIT :limit"""
_INSERT = """INSERT INTO r2p_items (position, owner, id, moment, body)
    VALUES (:position, :owner, :id, :moment, :body)"""


class SQLStore(ABC):
    """The methods of `ProfileStore`, over the transactions of a database.

    Args:
        whole: the longest history that a call reads as a whole, at least 1. An item that makes a history longer has
            its words indexed, with all items before it.
    """

    _for_update = ""  # what locks a row that a statement reads, where a writer has not locked everything
    _new_owner = "INSERT INTO r2p_owners (name, size, latest, edits) VALUES (:name, 0, 0, 0)"

    def __init__(self, whole: int = WHOLE) -> None:
        if isinstance(whole, bool) or not isinstance(whole, int) or whole < 1:
            raise ConfigError(f"whole is a number of items, an integer of at least 1, not {whole!r}")
        self.whole = whole

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Connection]:
        """A transaction that is on disk when the block ends, or not at all if it raises. It waits for other writers."""

    @abstractmethod
    def _add_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        """Index words, by the position of their item."""

    @abstractmethod
    def _remove_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        """Take words out of the index."""

    @abstractmethod
    def _newest_with(self, db: Connection, word: int, limit: int) -> list[int]:
        """The positions of the newest items that have a word."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections."""

    def _overwrite(self) -> None:  # noqa: B027  # a database may do it itself
        """Make sure that deleted texts are in no file, as far as the database can."""

    def _wipe(self) -> None:
        """Overwrite what was deleted since the last time, also by a process that was killed before it came to it."""
        with self._reading() as db:
            ((unwiped,),) = db.execute("SELECT unwiped FROM r2p_store")
        if unwiped:
            self._overwrite()
            with self._writing() as db:  # what others have deleted meanwhile stays to be overwritten
                db.execute("UPDATE r2p_store SET unwiped = 0 WHERE unwiped = :unwiped", {"unwiped": unwiped})

    def _owner(self, db: Connection, user: Any, lock: bool = False) -> Owner | None:
        rows = db.execute(_OWNER + (self._for_update if lock else ""), {"name": user_name(user)})
        return Owner(*rows[0]) if rows else None

    def get(self, user: str | int, limit: int | None = None, since: Moment | None = None) -> Profile:
        """A user's items, see `ProfileStore.get`."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ConfigError(f"limit is a number of items, an integer of at least 0, not {limit!r}")
        earliest = None if since is None else bound(since, "since")
        with self._reading() as db:
            owner = self._owner(db, user)
            if owner is None or limit == 0:
                return Profile()
            if earliest is None and (limit is None or limit >= owner.size):
                return _profile(self._after(db, owner, 0))
            return _profile(self._newest(db, owner, owner.size if limit is None else limit, earliest))

    def version(self, user: str | int) -> str:
        """The version of a user's history, see `ProfileStore.version`."""
        with self._reading() as db:
            owner = self._owner(db, user)
        return "" if owner is None else owner.version

    def read(self, user: str | int, query: str = "", known: str = "") -> Reading:
        """Read what one call needs, in one state of the store.

        Args:
            user: whose history.
            query: what the call asks about; it chooses the candidates of a long history.
            known: the version of the history that the caller holds; "" for none.
        """
        with self._reading() as db:
            owner = self._owner(db, user)
            if owner is None:
                return Reading("", Profile(), "whole", 0)
            if owner.secret is not None and owner.size > self.whole:
                return Reading(owner.version, self._candidates(db, owner, query), "candidates", owner.size)
            place = owner.since(known)
            items = _profile(self._after(db, owner, place or 0))
            return Reading(owner.version, items, "whole" if place is None else "appended", owner.size)

    def append(self, user: str | int, items: Any) -> list[str]:
        """Add items to a user's history, see `ProfileStore.append`."""
        rows = [Row.of(item) for item in items_of(items)]
        if rows:
            with self._writing() as db:
                self._append(db, user, rows)
        return [row.id for row in rows]

    def load(self, histories: Iterable[tuple[str | int, Any]]) -> int:
        """Append the histories of many users, thousands of items in one transaction; return the number of new items.

        After an error, the histories before the one at fault may be there. It may be repeated.
        """
        total, remaining = 0, ((user, [Row.of(item) for item in items_of(items)]) for user, items in histories)
        while batch := [*_batch(remaining)]:
            with self._writing() as db:
                for user, rows in batch:
                    total += self._append(db, user, rows)
        return total

    def update(self, user: str | int, items: Any) -> None:
        """Replace items of a user, see `ProfileStore.update`."""
        rows = {row.id: row for row in map(Row.of, Profile.of(items))}
        with self._writing() as db:
            owner = self._owner(db, user, lock=True)
            before = [] if owner is None else self._with_ids(db, owner, [*rows])
            known = {name: position for position, name, _ in before}
            if missing := [name for name in rows if name not in known]:
                raise ConfigError(f"user {user!r} has no item {missing[0]!r} to update; append it")
            if owner is None:
                return
            self._index(db, owner, before, remove=True)
            changed = [{"position": known[name], "moment": row.moment, "body": row.body} for name, row in rows.items()]
            statement = "UPDATE r2p_items SET moment = :moment, body = :body WHERE position = :position"
            db.execute_many(statement, changed)
            self._index(db, owner, [(known[name], name, row.body) for name, row in rows.items()])
            self._save(db, owner._replace(edits=owner.edits + 1))

    def expire(self, before: Moment, user: str | int | None = None) -> int:
        """Delete old items, see `ProfileStore.expire`."""
        limit, names, deleted = bound(before, "before"), [] if user is None else [user_name(user)], 0
        if user is None:
            with self._reading() as db:
                owners = (
                    "SELECT name FROM r2p_owners WHERE number IN (SELECT owner FROM r2p_items WHERE moment < :limit)"
                )
                names = [name for (name,) in db.execute(owners, {"limit": limit})]
        for name in names:  # a transaction each, so that other writers need not wait long
            with self._writing() as db:
                if (owner := self._owner(db, name, lock=True)) is not None:
                    old = "SELECT position, id, body FROM r2p_items WHERE owner = :owner AND moment < :limit"
                    deleted += self._delete(db, owner, db.execute(old, {"owner": owner.number, "limit": limit}))
        self._wipe()
        return deleted

    def delete_user(self, *users: str | int) -> int:
        """Delete users with all their items, see `ProfileStore.delete_user`; several at once take the time of one."""
        deleted = 0
        for user in users:
            with self._writing() as db:
                if (owner := self._owner(db, user, lock=True)) is not None:
                    deleted += self._delete(db, owner, self._after(db, owner, 0))
                    db.execute("DELETE FROM r2p_owners WHERE number = :number", {"number": owner.number})
        self._wipe()
        return deleted

    def _add_owner(self, db: Connection, name: str) -> None:
        db.execute(self._new_owner, {"name": name})

    def _after(self, db: Connection, owner: Owner, place: int) -> list[Any]:
        """The rows of a user's items behind a place, in their order."""
        return db.execute(_ITEMS, {"low": owner.start + place, "high": owner.start + owner.latest})

    def _newest(self, db: Connection, owner: Owner, limit: int, since: int | None = None) -> list[Any]:
        earliest = -(1 << 62) if since is None else since
        return sorted(db.execute(_NEWEST, {"owner": owner.number, "since": earliest, "limit": limit}))

    def _with_ids(self, db: Connection, owner: Owner, ids: Sequence[str]) -> list[Any]:
        """The rows of a user's items of these ids."""
        statement = "SELECT position, id, body FROM r2p_items WHERE owner = :owner AND id IN ({names})"
        return _listed(db, statement, ids, owner=owner.number)

    def _append(self, db: Connection, user: Any, rows: Sequence[Row]) -> int:
        """Append rows, and return the number of those that were not there."""
        owner = self._owner(db, user, lock=True)
        if owner is None:
            self._add_owner(db, user_name(user))
            owner = self._owner(db, user, lock=True)
            assert owner is not None
        if owner.size:
            there = {name: body for _, name, body in self._with_ids(db, owner, [row.id for row in rows])}
            for row in rows:
                if there.get(row.id, row.body) != row.body:
                    raise ConfigError(
                        f"user {user!r} has another item {row.id!r} already; update it, or give another id"
                    )
            rows = [row for row in rows if row.id not in there]
        if not rows:
            return 0
        first = owner.latest + 1
        placed = [(owner.start + place, row) for place, row in enumerate(rows, start=first)]
        db.execute_many(
            _INSERT, [{"position": position, "owner": owner.number, **row._asdict()} for position, row in placed]
        )
        grown = owner._replace(size=owner.size + len(rows), latest=owner.latest + len(rows))
        if owner.secret is None and grown.size > self.whole:
            grown = grown._replace(secret=os.urandom(32))
            first = 1
        self._index(db, grown, self._after(db, grown, first - 1) if grown.secret is not None else [])
        self._save(db, grown)
        return len(rows)

    def _delete(self, db: Connection, owner: Owner, rows: Sequence[Any]) -> int:
        if rows:
            self._index(db, owner, rows, remove=True)
            positions = [{"position": position} for position, _, _ in rows]
            db.execute_many("DELETE FROM r2p_items WHERE position = :position", positions)
            self._save(db, owner._replace(size=owner.size - len(rows), edits=owner.edits + 1))
            db.execute("UPDATE r2p_store SET unwiped = unwiped + 1")
        return len(rows)

    def _save(self, db: Connection, owner: Owner) -> None:
        db.execute(_SAVE_OWNER, owner._asdict())

    def _index(self, db: Connection, owner: Owner, rows: Iterable[Any], remove: bool = False) -> None:
        """Index the words of rows, or take them out of the index, if the history is indexed."""
        if owner.secret is None:
            return
        placed = {
            position: {keyed(word, owner.secret) for word in {*words(item_of(name, body).text)}}
            for position, name, body in rows
        }
        (self._remove_words if remove else self._add_words)(db, placed)

    def _candidates(self, db: Connection, owner: Owner, query: str) -> Sample:
        """The items that match a query best, and the newest, in the order of the history."""
        best, having = best_positions(owner, query, partial(self._newest_with, db))
        rows = {row[0]: row for row in self._newest(db, owner, NEWEST)}
        # Without the owner, so that no database looks through all items of the owner for them.
        statement = "SELECT position, id, body FROM r2p_items WHERE position IN ({names})"
        rows |= {row[0]: row for row in _listed(db, statement, [*best - {*rows}])}
        return Sample.from_history(_profile(rows[position] for position in sorted(rows)).items, owner.size, having)


def _listed(db: Connection, statement: str, values: Sequence[Any], **others: Any) -> list[Any]:
    """The rows of a statement with `{names}` where a list of values belongs."""
    found: list[Any] = []
    for start in range(0, len(values), _VARIABLES):
        named = {f"value{place}": value for place, value in enumerate(values[start : start + _VARIABLES])}
        found += db.execute(statement.format(names=", ".join(f":{name}" for name in named)), {**others, **named})
    return found


def _batch(histories: Iterator[tuple[Any, list[Row]]]) -> Iterator[tuple[Any, list[Row]]]:
    """Histories for one transaction."""
    size = 0
    for user, rows in histories:
        yield user, rows
        size += len(rows)
        if size >= _BATCH:
            return


def _profile(rows: Iterable[Any]) -> Profile:
    items: list[Item] = [item_of(name, body) for _, name, body in rows]
    return Profile.model_construct(items=items, dropped=0)
