"""A store of what is dear to make: indexes, embeddings."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None


class Store(Generic[Value]):
    """Values by key, of which the last used are kept; each is made once, however many threads want it at a time.

    A copy, pickled or not, begins empty.

    Args:
        size: how many values to keep, at least 1.

    Example:
        >>> squares = Store(2)
        >>> squares.get(3, lambda: 9), squares.get(3, lambda: print("made again"))
        (9, 9)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made by `make` if it is not there; what `make` raises, this raises, and keeps nothing."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            if len(self._slots) > self._size:
                self._slots.popitem(last=False)
        with slot.lock:  # its own, so that only those wait who want the same
            if slot.value is None:
                slot.value = make()
            return slot.value

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._size,)
