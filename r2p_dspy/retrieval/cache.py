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


class LRUCache(Generic[Value]):
    """Keep the values that were used last. Each is made once, however many threads ask for it at a time.

    A copy, pickled or not, begins empty.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots: OrderedDict[Hashable, _Slot[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key; make it if it is not there. When `make` raises, nothing is kept."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            if len(self._slots) > self._size:
                self._slots.popitem(last=False)
        with slot.lock:  # one for each key, so that threads wait for the same value only
            if slot.value is None:
                slot.value = make()
            return slot.value

    def __reduce__(self) -> tuple[Any, ...]:
        return LRUCache, (self._size,)
