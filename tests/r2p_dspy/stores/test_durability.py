"""Writers side by side and writers that are killed: nothing acknowledged is lost."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from r2p_dspy import StoreError
from r2p_dspy.stores import SQLite, open_store

ROOT = Path(__file__).parents[3]
# Appends items to the histories of two users until it is killed, or so many; says each item that is kept.
WRITER = """
import sys
from r2p_dspy.stores import open_store
url, name, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url, whole=20)
for number in range(most):
    store.append("ada", [{"id": f"{name}-{number}", "text": f"note {number} of {name}"}])
    print(f"{name}-{number}", flush=True)
"""


def start(url, name, most):
    command = [sys.executable, "-c", WRITER, url, name, str(most)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'histories.sqlite'}"
    server = request.getfixturevalue("postgres")
    store = open_store(server.url)
    store.delete_user("ada")
    store.close()
    return server.url


def test_two_processes_write_at_once_and_lose_nothing(url):
    writers = [start(url, name, 40) for name in ("left", "right")]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = open_store(url, whole=20)
    ids = [item.id for item in store.get("ada")]
    assert sorted(ids) == sorted(f"{name}-{number}" for name in ("left", "right") for number in range(40))
    assert [name for name in ids if name.startswith("left")] == [f"left-{number}" for number in range(40)]
    assert "left-7" in [item.id for item in store.read("ada", "note 7 of left").items]
    store.close()


@pytest.mark.parametrize("kills", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_no_item_that_it_acknowledged(url, kills):
    acknowledged = []
    for attempt in range(kills):
        writer = start(url, f"run{attempt}", 100_000)
        acknowledged += [writer.stdout.readline().strip() for _ in range(25)]
        writer.kill()
        acknowledged += writer.stdout.read().split()
        writer.wait()
    store = open_store(url, whole=20)
    ids = [item.id for item in store.get("ada")]
    assert {*acknowledged} <= {*ids}
    assert len(ids) <= len(acknowledged) + kills, "of each writer at most the one whose word was not heard"
    assert store.read("ada").size == len(ids)
    assert len({*ids}) == len(ids)
    store.append("ada", [{"id": "after", "text": "and it goes on"}])
    if isinstance(store, SQLite):
        with store._reading() as db:
            assert db.execute("PRAGMA integrity_check") == [("ok",)]
    store.close()


def test_threads_write_at_once(store):
    def write(name):
        for number in range(10):
            store.append(f"user {number % 2}", [{"id": f"{name}-{number}", "text": "x"}])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    if "pysqlite" in repr(store):
        pytest.skip("SQLAlchemy's SQLite is not for writers side by side; open_store refuses it")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read(f"user {number}").size for number in (0, 1)] == [20, 20]


def test_a_writer_that_waits_too_long_says_so_and_writes_nothing(tmp_path):
    first, second = (SQLite(tmp_path / "histories.sqlite", timeout=0.1) for _ in range(2))
    with first._writing(), pytest.raises(StoreError, match=r"another process has been writing for 0\.1 seconds"):
        second.append("ada", ["rain"])
    second.append("ada", ["rain"])
    assert len(first.get("ada")) == 1


def test_readers_do_not_wait_for_a_writer(tmp_path):
    first, second = (SQLite(tmp_path / "histories.sqlite", timeout=0.1) for _ in range(2))
    first.append("ada", ["rain"])
    with first._writing():
        assert len(second.get("ada")) == len(first.get("ada")) == 1


def test_a_fork_while_a_thread_writes(tmp_path):
    code = """
import os, sys, threading
from r2p_dspy.stores import SQLite
store = SQLite(sys.argv[1])
store.append("ada", ["x"])
writing, forked = threading.Event(), threading.Event()
def write():
    with store._writer:
        writing.set()
        forked.wait()
threading.Thread(target=write).start()
writing.wait()
if not (child := os.fork()):
    store.append("ada", ["y"])
    os._exit(0)
print(os.waitpid(child, 0)[1], len(store.get("ada")))
forked.set()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "histories.sqlite")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "0 2"


def test_a_forked_process_opens_connections_of_its_own(tmp_path):
    code = """
import os, sys
from r2p_dspy.stores import SQLite
store = SQLite(sys.argv[1])
store.append("ada", [{"id": "0", "text": "x"}])
children = []
for name in range(3):
    if not (child := os.fork()):
        for number in range(5):
            store.append("ada", [{"id": f"{name}-{number}", "text": "x"}])
        os._exit(0)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
print(codes, len(store.get("ada")))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "histories.sqlite")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 0, 0] 16"
