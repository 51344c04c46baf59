"""Reading users' histories for a program's calls: through memory, and with a policy for users who are new."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Profile
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.cache import LRUCache
from r2p_dspy.retrieval.index import clear as clear_indexes
from r2p_dspy.stores.protocol import ProfileStore, Reading
from r2p_dspy.stores.rows import user_name

_FEW = 3  # items; with fewer, an answer says that it knows little of the user
_KEPT = 100_000  # items in memory


@dataclass(frozen=True)
class History:
    """A user's history as a call gets it, and what a reader of the answer must know of it."""

    items: Profile
    warnings: list[str]
    size: int  # items of the user's own in the store, shown or not


class Histories:
    """Reads users' histories from a store. Threads may share one; copies of a program share it.

    The histories that were read last stay in memory. A call asks the store for the version, and reads what is new.

    Args:
        store: the store.
        few: a user with fewer items than this is new, and the answer's `warnings` say so. 0: nobody is.
        segment: the name of a history in the store that stands in for new users, such as the items of typical users;
            or a function from a user's name to such a name, or to None for no stand-in. Those of its items that match
            the query best follow the user's own, until there are `few`. Their ids begin with the segment's name, as in
            `readers/m1`, also in answers.
        kept: the number of items in memory, at least 0.

    Raises:
        ConfigError: a store without the methods of `ProfileStore`, or a number that cannot be used.

    Examples:
        >>> import tempfile
        >>> from r2p_dspy.stores import open_store
        >>> store = open_store(f"sqlite:///{tempfile.mkdtemp()}/histories.sqlite")
        >>> _ = store.append("readers", [{"id": "m1", "text": "a storm"}])
        >>> history = Histories(store, segment="readers").read("ada", "a film")
        >>> [item.id for item in history.items]
        ['readers/m1']
        >>> history.warnings
        ["the user has 0 items in the store, so 1 of readers was added; their ids begin with 'readers/'"]
    """

    def __init__(
        self,
        store: ProfileStore,
        *,
        few: int = _FEW,
        segment: str | Callable[[str], str | None] | None = None,
        kept: int = _KEPT,
    ) -> None:
        if not isinstance(store, ProfileStore):
            raise ConfigError(f"{store!r} is no profile store; open one with open_store('sqlite:///FILE')")
        for name, number in (("few", few), ("kept", kept)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ConfigError(f"{name} is a number of items, an integer of at least 0, not {number!r}")
        self.store, self._few, self._segment = store, few, segment
        self._kept: LRUCache[tuple[str, Profile]] = LRUCache(kept, lambda _, value: len(value[1]) + 1)

    @classmethod
    def of(cls, store: "ProfileStore | Histories | None") -> "Histories | None":
        """The reader of a store; None for none."""
        return store if store is None or isinstance(store, Histories) else cls(store)

    def read(self, user: str | int, query: str) -> History:
        """A user's history for a call: the whole of it, or of a long one the candidates for the query."""
        name = user_name(user)
        items, size = self._read(name, query)
        if size >= self._few:
            return History(items, [], size)
        segment = self._segment(name) if callable(self._segment) else self._segment
        others = Profile() if segment is None else BM25(k=self._few - size)(query, self._read(segment, query)[0])
        has = f"the user has {size} item{'' if size == 1 else 's'} in the store"
        if not others:
            return History(items, [f"{has}, so the answer knows little of them"], size)
        marked = [item.model_copy(update={"id": f"{segment}/{item.id}"}) for item in others]
        start = f"{segment}/"
        were = "was" if len(marked) == 1 else "were"
        warning = f"{has}, so {len(marked)} of {segment} {were} added; their ids begin with {start!r}"
        return History(Profile.model_construct(items=[*items, *marked], dropped=0), [warning], size)

    async def aread(self, user: str | int, query: str) -> History:
        """`read` in a thread, since a database may let it wait."""
        return await asyncio.to_thread(self.read, user, query)

    def delete_user(self, *users: str | int) -> int:
        """Delete users from the store and from this process's memory; return the number of items."""
        try:
            return self.store.delete_user(*users)
        finally:
            for user in users:
                self._kept.drop(user_name(user))
            clear_indexes()

    def _read(self, user: str, query: str) -> tuple[Profile, int]:
        """The items for a call, and how many the user has."""
        known = self._kept.peek(user) or ("", Profile())
        reading = self._reading(user, query, *known)
        if reading.scope == "candidates":
            return reading.items, reading.size
        items = reading.items
        if reading.scope == "appended":
            before = known[1]
            items = Profile.model_construct(items=[*before, *items], dropped=0) if items else before
        if not reading.version:
            self._kept.drop(user)
        elif items is not known[1]:
            self._kept.put(user, (reading.version, items))
        return items, reading.size

    def _reading(self, user: str, query: str, known: str, items: Profile) -> Reading:
        """What the store has for a call, whose reader knows these items of this version."""
        if callable(read := getattr(self.store, "read", None)):
            reading: Reading = read(user, query, known)
            return reading
        version = self.store.version(user)  # before the items: of what is written meanwhile, a later call reads more
        if version and version == known:
            return Reading(version, Profile(), "appended", len(items))
        items = self.store.get(user)
        return Reading(version, items, "whole", len(items))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Histories":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_store, ()  # a saved program carries no address of a database


def _no_store() -> None:
    """What a pickle holds in place of a store."""
