"""What is dear to make is made once, and the last used is kept."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from r2p_dspy.retrieval.cache import LRUCache


def test_concurrent_calls_make_a_value_once():
    store, makers, gate = LRUCache(4), [], threading.Barrier(8)

    def make():
        makers.append(threading.get_ident())
        return len(makers)

    def ask(_):
        gate.wait()
        return store.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [1] * 8


def test_other_keys_do_not_wait():
    store, done = LRUCache(4), threading.Event()

    def slow():
        assert done.wait(30)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get, "slow", slow)
        assert store.get("quick", lambda: "quick") == "quick"
        done.set()
        assert waiting.result() == "slow"


def test_last_used_values_are_kept():
    store = LRUCache(2)
    for key in ("a", "b", "a", "c"):
        store.get(key, lambda: key.upper())  # noqa: B023
    assert store.get("a", lambda: "made again") == "A"
    assert store.get("b", lambda: "made again") == "made again"


def test_failed_make_is_retried():
    store = LRUCache(2)
    with pytest.raises(ZeroDivisionError):
        store.get("a", lambda: 1 / 0)
    assert store.get("a", lambda: 1) == 1


def test_failed_make_leaves_nothing():
    store = LRUCache(1)
    store.get("a", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        store.get("b", lambda: 1 / 0)
    assert store.get("a", lambda: 2) == 1


def test_the_limit_is_of_sizes():
    store = LRUCache(10, lambda key, value: value)
    for size in (4, 5, 3):
        store.get(size, lambda: size)  # noqa: B023
    assert store.get(5, lambda: 0) == 5 and store.get(3, lambda: 0) == 3, "8 in all"
    assert store.get(4, lambda: 1) == 1, "12 in all were too many"
    assert store.get("large", lambda: 99) == 99
    assert store.get("large", lambda: 0) == 99, "one that is larger than the limit is kept alone"
    assert store.get(5, lambda: 2) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copy_begins_empty(copied):
    store = LRUCache(1)
    store.get("a", lambda: 1)
    twin = copied(store)
    assert (twin.get("a", lambda: 2), store.get("a", lambda: 3)) == (2, 1)
    twin.get("b", lambda: 4)
    assert twin.get("a", lambda: 5) == 5, "and is as large"
