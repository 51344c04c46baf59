"""Histories in a file, read when they are used: so examples that take more than memory can be worked on."""

import pickle
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import dspy

from r2p_dspy.errors import DataError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.cache import LRUCache

_IN_MEMORY = 16 << 20  # bytes; with more, all of it lies on disk
_LAST = 64  # so many histories that were read last are kept


def stored(examples: Iterable[dspy.Example]) -> list[dspy.Example]:
    """Examples whose histories lie in a file that has no name, and is gone with them.

    Args:
        examples: taken one after another.

    Returns:
        Examples as they were, but for the items of their profiles, which are read whenever somebody looks at them.

    Raises:
        DataError: where there is no room for the file.

    Example:
        >>> row = dspy.Example(id="1", profile=Profile.of([{"id": "a", "text": "Rain in May."}])).with_inputs("profile")
        >>> stored([row])[0].profile[0].text
        'Rain in May.'
    """
    file = _File()
    return [_with_profiles(example, file.keep) for example in examples]


def in_memory(examples: Iterable[dspy.Example]) -> list[dspy.Example]:
    """The same examples with all their items in memory."""
    return [_with_profiles(example, lambda profile: Profile(items=list(profile))) for example in examples]


class _File:
    """Where histories lie, one behind another."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # closed with its last profile
        self._lock = threading.Lock()
        self._size = 0
        self._last: LRUCache[list[Item]] = LRUCache(_LAST)

    def keep(self, profile: Profile) -> Profile:
        """The profile, its items in the file."""
        raw = pickle.dumps(profile.items)  # of our own making, in a file that nobody else can open
        try:
            self._file.write(raw)
            self._file.flush()
        except OSError as error:
            why = f"histories lie in a temporary file, which cannot be written ({error.strerror})"
            raise DataError(f"{why}; let TMPDIR name a directory with room, or give --limit") from None
        start, self._size = self._size, self._size + len(raw)
        return Profile.model_construct(items=_Items(self, start, self._size, len(profile)))

    def items(self, start: int, end: int) -> list[Item]:
        """The items that lie between two places."""

        def read() -> list[Item]:
            with self._lock:
                self._file.seek(start)
                return pickle.loads(self._file.read(end - start))

        return self._last.get(start, read)


class _Items(Sequence[Item]):
    """A profile's items, of which only the place is in memory; a copy of them is a plain list."""

    def __init__(self, file: _File, start: int, end: int, count: int) -> None:
        self._file, self._start, self._end, self._count = file, start, end, count

    def _read(self) -> list[Item]:
        return self._file.items(self._start, self._end)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        return self._read()[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | _Items) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def _with_profiles(example: dspy.Example, made: Any) -> dspy.Example:
    return example.copy(**{name: made(value) for name, value in example.items() if isinstance(value, Profile)})
