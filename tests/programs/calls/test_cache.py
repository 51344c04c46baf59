"""The call cache: a completed call is stored whatever happens, and comes back as it was."""

import json
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from programs.calls.cache import Call, CallCache, CallCacheFailed, Usage
from r2p_dspy.errors import RunError
from tests.programs.calls.stored import stored_calls

LONG = random.Random(0).randbytes(20_000).hex()  # what zlib cannot make small
CALLS = [
    Call(["plain"], {"prompt_tokens": 3, "completion_tokens": 1}, Usage(1, 3, 1, 0.25, 1.5)),
    Call([{"text": "answer", "reasoning_content": "thought"}]),
    Call(["half \ud83d and 雨", "2"], readings=[[["read", 0, "te", None], ["read", 2, "xt", [1, "n", "o"]]]]),
    Call([]),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_stored_call_round_trips(tmp_path, call):
    first = CallCache(tmp_path / "calls", run="a")
    first.put("key", "m", call)
    assert first.get("key") == CallCache(tmp_path / "calls").get("key") == call
    assert first.get("other") is None and stored_calls(tmp_path / "calls") == (1, 0)


def test_usage_by_run(tmp_path):
    mine, other = CallCache(tmp_path, run="mine"), CallCache(tmp_path, run="other")
    for number in range(3):
        mine.put(f"m{number}", "m", Call(["x"], usage=Usage(1, 100, 10, 0.5, 2.0)))
    other.put("o", "m", Call(["x"]))
    assert mine.usage("mine") == Usage(3, 300, 30, 1.5, 6.0)
    assert mine.usage("other").calls == 1 and mine.usage("nobody") == Usage()


def test_repeated_call_is_counted(tmp_path):
    cache = CallCache(tmp_path)
    cache.put("key", "m", Call(["old"]))
    cache.put("key", "m", Call(["new"]))
    assert cache.get("key").outputs == ["new"] and stored_calls(tmp_path) == (1, 1)


SPENT = {"calls": 1, "prompt": 3, "completion": 1, "usd": 0.25, "seconds": 1.5}


def first_format(folder, calls=1):
    """Make a file of the first format with so many calls."""
    answer = {"outputs": ["plain"], "usage": {"prompt_tokens": 3}, "spent": SPENT, "readings": [[["pause", None]]]}
    with sqlite3.connect(folder / "ledger.sqlite") as file:
        file.execute(
            "CREATE TABLE calls (key TEXT PRIMARY KEY, run TEXT, model TEXT, made REAL, times INTEGER, prompt INTEGER, "
            "completion INTEGER, usd REAL, seconds REAL, answer TEXT) WITHOUT ROWID"
        )
        for number in range(calls):
            values = (f"k{number}", json.dumps(answer))
            file.execute("INSERT INTO calls VALUES (?, 'r', 'm', 0, 1, 3, 1, 0.25, 1.5, ?)", values)
        file.execute("PRAGMA user_version = 1")


def test_first_format_is_upgraded(tmp_path):
    first_format(tmp_path)
    for cache in (CallCache(tmp_path), CallCache(tmp_path)):
        assert cache.get("k0") == Call(["plain"], {"prompt_tokens": 3}, Usage(**SPENT), [[["pause", None]]])
        assert cache.usage("r") == Usage(**SPENT)
    assert stored_calls(tmp_path) == (1, 0)


def test_processes_upgrade_a_file_once(tmp_path):
    first_format(tmp_path, calls=500)
    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(CallCache, [tmp_path] * 4))
    assert all(cache.get("k499").outputs == ["plain"] for cache in caches) and stored_calls(tmp_path) == (500, 0)


def test_failed_upgrade_changes_nothing(tmp_path):
    first_format(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as file:
        file.execute("UPDATE calls SET answer = 'no JSON'")
    for _ in range(2):
        with pytest.raises(RunError, match="ledger.sqlite cannot be used"):
            CallCache(tmp_path)


def test_forget_deletes_a_users_calls(tmp_path):
    cache = CallCache(tmp_path)
    for name in ("ada", "bob", "no one"):
        text = f"words of {name} {random.Random(name).randbytes(3000).hex()}"
        cache.put(name, "m", Call([text]), user=None if name == "no one" else name)
    stored = [answer for (answer,) in cache._connection.execute("SELECT answer FROM calls ORDER BY rowid")]
    assert cache.forget("ada") == 2, "hers, and what may quote her"
    cache.close()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "reserve")
    assert [answer[100:200] in files for answer in stored] == [False, True, False]
    assert b"ada" not in files and b"bob" not in files, "ids are kept as digests"
    again = CallCache(tmp_path)
    assert again.forget("ada") == 0 and again.get("bob") is not None


def test_only_its_owner_can_read_it(tmp_path):
    cache = CallCache(tmp_path / "calls")
    cache.put("key", "m", Call(["text"]))
    modes = {path.name: path.stat().st_mode & 0o077 for path in cache.path.parent.glob("ledger*")}
    assert {"ledger.sqlite", "ledger.sqlite-wal"} <= modes.keys() and not any(modes.values())


def test_damaged_answer(tmp_path):
    cache = CallCache(tmp_path)
    cache.put("key", "m", Call(["text"]))
    cache._connection.execute("UPDATE calls SET answer = ?", (b"no zlib",))
    with pytest.raises(CallCacheFailed, match=r"cannot read .*ledger.sqlite \(.*remove it"):
        cache.get("key")


KILLED = """
import os, signal, sys
from pathlib import Path
from programs.calls.cache import Call, CallCache
cache = CallCache(Path(sys.argv[1]))
for number in range(50):
    cache.put(f"k{number}", "m", Call(["x" * 5000]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_calls_survive_a_kill(tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert process.returncode == -9
    CallCache(tmp_path)
    assert stored_calls(tmp_path) == (50, 0)


def fill(cache):
    """Simulate a full disk: SQLite may take no further page until the reserve is freed."""
    (pages,) = cache._connection.execute("PRAGMA page_count").fetchone()
    cache._connection.execute(f"PRAGMA max_page_count = {pages}")


def test_full_disk_uses_the_reserve(tmp_path, monkeypatch):
    cache = CallCache(tmp_path)
    fill(cache)
    given_up = Path.unlink

    def unlink(path, **options):
        given_up(path, **options)
        cache._connection.execute("PRAGMA max_page_count = 1000000")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(CallCacheFailed, match=r"full.*all paid answers are stored; free some space.*--resume"):
        cache.put("key", "m", Call([LONG]))
    assert cache.get("key") is not None
    assert not (tmp_path / "reserve").exists()
    assert (CallCache(tmp_path).path.parent / "reserve").stat().st_size == 1 << 20, "made again for the next time"


def test_full_disk_without_reserve(tmp_path):
    cache = CallCache(tmp_path)
    fill(cache)
    with pytest.raises(CallCacheFailed, match="an answer could not be stored"):
        cache.put("key", "m", Call([LONG]))
    assert cache.get("key") is None and len(str(cache.path)) > 0


def no_database(folder):
    (folder / "ledger.sqlite").write_text("dear diary, today I was no database at all, as ever" * 30)


def a_later_version(folder):
    with sqlite3.connect(folder / "ledger.sqlite") as file:
        file.execute("PRAGMA user_version = 99")


def a_folder(folder):
    (folder / "ledger.sqlite").mkdir()


@pytest.mark.parametrize("there", [no_database, a_later_version, a_folder])
def test_unusable_cache(tmp_path, there):
    there(tmp_path)
    with pytest.raises(RunError, match=r"ledger.sqlite .*remove it, or give another --calls") as caught:
        CallCache(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_cache_that_breaks_later(tmp_path):
    cache = CallCache(tmp_path)
    cache.close()
    for fails in (lambda: cache.get("key"), lambda: cache.put("key", "m", Call(["x"]))):
        with pytest.raises(CallCacheFailed, match=r"ledger.sqlite \(.*go on with --resume"):
            fails()


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to .*; give another --calls"):
        CallCache(tmp_path / "file" / "calls")
