"""The call cache: a completed call is stored whatever happens, and comes back as it was."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from programs.calls.cache import Call, CallCache, CallCacheFailed, Usage
from r2p_dspy.errors import RunError
from tests.programs.calls.stored import stored_calls

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


def test_first_format_is_read(tmp_path):
    spent = {"calls": 1, "prompt": 3, "completion": 1, "usd": 0.25, "seconds": 1.5}
    answer = {"outputs": ["plain"], "usage": {"prompt_tokens": 3}, "spent": spent, "readings": [[["pause", None]]]}
    with sqlite3.connect(tmp_path / "ledger.sqlite") as file:
        file.execute(
            "CREATE TABLE calls (key TEXT PRIMARY KEY, run TEXT, model TEXT, made REAL, times INTEGER, prompt INTEGER, "
            "completion INTEGER, usd REAL, seconds REAL, answer TEXT) WITHOUT ROWID"
        )
        file.execute("INSERT INTO calls VALUES ('k', 'r', 'm', 0, 1, 3, 1, 0.25, 1.5, ?)", (json.dumps(answer),))
        file.execute("PRAGMA user_version = 1")
    cache = CallCache(tmp_path)
    assert cache.get("k") == Call(["plain"], {"prompt_tokens": 3}, Usage(**spent), [[["pause", None]]])
    assert cache.usage("r") == Usage(**spent)


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
        cache.put("key", "m", Call(["x" * 20_000]))
    assert cache.get("key") is not None
    assert not (tmp_path / "reserve").exists()
    assert (CallCache(tmp_path).path.parent / "reserve").stat().st_size == 1 << 20, "made again for the next time"


def test_full_disk_without_reserve(tmp_path):
    cache = CallCache(tmp_path)
    fill(cache)
    with pytest.raises(CallCacheFailed, match="an answer could not be stored"):
        cache.put("key", "m", Call(["x" * 20_000]))
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
