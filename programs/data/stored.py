"""Keep histories in a file and read them when they are used, so that examples need not fit in memory."""

import pickle
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import dspy

from r2p_dspy.errors import DataError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.cache import LRUCache

_IN_MEMORY = 16 << 20  # bytes; a larger file goes to disk
_LAST = 64  # histories that stay in memory after they were read


def stored(examples: Iterable[dspy.Example]) -> list[dspy.Example]:
    """Move the histories of examples to a temporary file, which is deleted with the last example.

    The examples stay equal. The items of their profiles are read from the file each time they are used.

    Examples:
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
    """A file of histories, one after another."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # closed when its last profile is deleted
        self._lock = threading.Lock()
        self._size = 0
        self._last: LRUCache[list[Item]] = LRUCache(_LAST)

    def keep(self, profile: Profile) -> Profile:
        """The same profile, with its items in the file."""
        raw = pickle.dumps(profile.items)  # pickle is safe here: nobody else can open the file
        try:
            self._file.write(raw)
            self._file.flush()
        except OSError as error:
            what = f"the temporary file of the histories cannot be written ({error.strerror})"
            raise DataError(f"{what}; set TMPDIR to a directory with more space, or give --limit") from None
        start, self._size = self._size, self._size + len(raw)
        return Profile.model_construct(items=_Items(self, start, self._size, len(profile)))

    def items(self, start: int, end: int) -> list[Item]:
        """The items between two positions of the file."""

        def read() -> list[Item]:
            with self._lock:
                self._file.seek(start)
                return pickle.loads(self._file.read(end - start))  # nosec B301  # see `keep`

        return self._last.get(start, read)


class _Items(Sequence[Item]):
    """A profile's items, of which only the position is in memory. A copy of them is a plain list."""

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

    __hash__ = None  # type: ignore[assignment]  # a list has none either

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def _with_profiles(example: dspy.Example, convert: Callable[[Profile], Profile]) -> dspy.Example:
    return example.copy(**{name: convert(value) for name, value in example.items() if isinstance(value, Profile)})
