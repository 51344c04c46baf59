"""A cache for what takes long to make: indexes, vectors."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass
class _Slot(Generic[Value]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Value | None = None
    size: int = 0


def _one(key: Any, value: Any) -> int:
    return 1


class LRUCache(Generic[Value]):
    """Keep the values that were used last. Each is made once, however many threads ask for it at a time.

    A copy, pickled or not, begins empty.

    Args:
        limit: the total size of what is kept. A single value that is larger is kept alone, until the next is made.
        size_of: from a key and its value to the size of both, such as bytes; by default each counts 1.
    """

    def __init__(self, limit: int, size_of: Callable[[Any, Value], int] = _one) -> None:
        self._limit, self._size_of = limit, size_of
        self._slots: OrderedDict[Hashable, _Slot[Value]] = OrderedDict()
        self._lock = threading.Lock()
        self._size = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key; make it if it is not there. When `make` raises, nothing is kept."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:  # one for each key, so that threads wait for the same value only
            if slot.value is None:
                try:
                    slot.value = make()
                except BaseException:
                    self._drop(key, slot)
                    raise
                self._keep(key, slot, self._size_of(key, slot.value))
            return slot.value

    def peek(self, key: Hashable) -> Value | None:
        """Return the value of a key if it is there, and count it as used."""
        with self._lock:
            if (slot := self._slots.get(key)) is None:
                return None
            self._slots.move_to_end(key)
            return slot.value

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value under a key, in place of the one that is there."""
        self.drop(key)
        self.get(key, lambda: value)

    def drop(self, key: Hashable) -> None:
        """Keep the value of a key no longer."""
        with self._lock:
            if (slot := self._slots.pop(key, None)) is not None:
                self._size -= slot.size

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._slots.clear()
            self._size = 0

    def _keep(self, key: Hashable, slot: _Slot[Value], size: int) -> None:
        """Count a new value, and drop the values that were not used for longest."""
        with self._lock:
            if self._slots.get(key) is not slot:  # dropped while it was made
                return
            slot.size = size
            self._size += size
            while self._size > self._limit and len(self._slots) > 1:
                _, oldest = self._slots.popitem(last=False)
                self._size -= oldest.size

    def _drop(self, key: Hashable, slot: _Slot[Value]) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return LRUCache, (self._limit, self._size_of)
