"""The ledger: a completed call is kept whatever happens, and answered from it as it was."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from programs.calls.cache import Call, CallCache, CallCacheFailed, Usage
from r2p_dspy.errors import RunError

CALLS = [
    Call(["plain"], {"prompt_tokens": 3, "completion_tokens": 1}, Usage(1, 3, 1, 0.25, 1.5)),
    Call([{"text": "answer", "reasoning_content": "thought"}]),
    Call(["half \ud83d and 雨", "2"], readings=[[["read", 0, "te", None], ["read", 2, "xt", [1, "n", "o"]]]]),
    Call([]),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_a_call_comes_back_as_it_was_also_to_another_process(tmp_path, call):
    first = CallCache(tmp_path / "calls", run="a")
    first.keep("key", "m", call)
    assert first.known("key") == CallCache(tmp_path / "calls").known("key") == call
    assert first.known("other") is None and len(first) == 1 and first.repeated == 0


def test_what_a_run_has_paid_is_known_by_its_id(tmp_path):
    mine, other = CallCache(tmp_path, run="mine"), CallCache(tmp_path, run="other")
    for number in range(3):
        mine.keep(f"m{number}", "m", Call(["x"], spent=Usage(1, 100, 10, 0.5, 2.0)))
    other.keep("o", "m", Call(["x"]))
    assert mine.spent("mine") == Usage(3, 300, 30, 1.5, 6.0)
    assert mine.spent("other").calls == 1 and mine.spent("nobody") == Usage()


def test_a_call_that_is_made_again_is_counted(tmp_path):
    ledger = CallCache(tmp_path)
    ledger.keep("key", "m", Call(["old"]))
    ledger.keep("key", "m", Call(["new"]))
    assert ledger.known("key").outputs == ["new"] and ledger.repeated == 1 and len(ledger) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from programs.calls.cache import Call, CallCache
ledger = CallCache(Path(sys.argv[1]))
for number in range(50):
    ledger.keep(f"k{number}", "m", Call(["x" * 5000]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_kept_survives_a_kill(tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert process.returncode == -9
    assert len(CallCache(tmp_path)) == 50


def fill(ledger):
    """Let the disk be full: SQLite may take no further page, until the reserve is given up."""
    (pages,) = ledger._file.execute("PRAGMA page_count").fetchone()
    ledger._file.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_stops_the_run_and_loses_no_answer_that_the_reserve_has_room_for(tmp_path, monkeypatch):
    ledger = CallCache(tmp_path)
    fill(ledger)
    given_up = Path.unlink

    def unlink(path, **options):
        given_up(path, **options)
        ledger._file.execute("PRAGMA max_page_count = 1000000")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(CallCacheFailed, match=r"full.*nothing that was paid for is lost; free some space.*--resume"):
        ledger.keep("key", "m", Call(["x" * 20_000]))
    assert ledger.known("key") is not None
    assert not (tmp_path / "reserve").exists()
    assert (CallCache(tmp_path).path.parent / "reserve").stat().st_size == 1 << 20, "made again for the next time"


def test_a_disk_that_is_full_beyond_the_reserve_says_so(tmp_path):
    ledger = CallCache(tmp_path)
    fill(ledger)
    with pytest.raises(CallCacheFailed, match="an answer could not be kept"):
        ledger.keep("key", "m", Call(["x" * 20_000]))
    assert ledger.known("key") is None and len(str(ledger.path)) > 0


def no_database(folder):
    (folder / "ledger.sqlite").write_text("dear diary, today I was no database at all, as ever" * 30)


def a_later_version(folder):
    with sqlite3.connect(folder / "ledger.sqlite") as file:
        file.execute("PRAGMA user_version = 99")


def a_folder(folder):
    (folder / "ledger.sqlite").mkdir()


@pytest.mark.parametrize("there", [no_database, a_later_version, a_folder])
def test_a_ledger_that_cannot_be_used_is_one_line(tmp_path, there):
    there(tmp_path)
    with pytest.raises(RunError, match=r"ledger.sqlite .*remove it, or give another --calls") as caught:
        CallCache(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_ledger_that_breaks_meanwhile_stops_the_run(tmp_path):
    ledger = CallCache(tmp_path)
    ledger.close()
    for fails in (lambda: ledger.known("key"), lambda: ledger.keep("key", "m", Call(["x"]))):
        with pytest.raises(CallCacheFailed, match=r"ledger.sqlite \(.*go on with --resume"):
            fails()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to .*; give another --calls"):
        CallCache(tmp_path / "file" / "calls")
