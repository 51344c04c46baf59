"""What is dear to make is made once, and the last used is kept."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from r2p_dspy.retrieval.cache import LRUCache


def test_what_many_threads_want_at_once_is_made_once():
    store, made, gate = LRUCache(4), [], threading.Barrier(8)

    def make():
        made.append(threading.get_ident())
        return len(made)

    def ask(_):
        gate.wait()
        return store.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [1] * 8


def test_who_wants_something_else_does_not_wait():
    store, done = LRUCache(4), threading.Event()

    def slow():
        assert done.wait(30)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get, "slow", slow)
        assert store.get("quick", lambda: "quick") == "quick"
        done.set()
        assert waiting.result() == "slow"


def test_the_last_used_are_kept():
    store = LRUCache(2)
    for key in ("a", "b", "a", "c"):
        store.get(key, lambda: key.upper())  # noqa: B023
    assert store.get("a", lambda: "made again") == "A"
    assert store.get("b", lambda: "made again") == "made again"


def test_what_cannot_be_made_is_tried_again():
    store = LRUCache(2)
    with pytest.raises(ZeroDivisionError):
        store.get("a", lambda: 1 / 0)
    assert store.get("a", lambda: 1) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_a_copy_begins_empty(copied):
    store = LRUCache(1)
    store.get("a", lambda: 1)
    twin = copied(store)
    assert (twin.get("a", lambda: 2), store.get("a", lambda: 3)) == (2, 1)
    twin.get("b", lambda: 4)
    assert twin.get("a", lambda: 5) == 5, "and is as large"
