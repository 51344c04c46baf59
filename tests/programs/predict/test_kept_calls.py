"""Completed calls of `predict` are kept at once: a kill repeats at most those in flight, and the result is the same."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dspy
import pytest

from programs.calls.cache import CallCache
from programs.calls.keeping import CallKeeping
from programs.calls.recording import record_calls
from programs.predict.run import calls_beside
from programs.runs.active import open_calls
from tests.film import program
from tests.programs.predict.test_predict import TASK, answer, go, lines, number_of, results, row, survey, until, write
from tests.scripted import ScriptedEngine, completion

ROOT = Path(__file__).parents[3]


def kept(source, engine, *, resume=False, keep=None, temperature=0.0, **options):
    """Predict with a model whose calls are kept beside the answers."""
    lm = dspy.LM("scripted/test", engine=engine, cache=False, num_retries=0, temperature=temperature)
    calls = keep or CallKeeping.of(None, True, calls_beside(source.with_name("out.jsonl")))
    with (
        open_calls(calls, survey(TASK, source)[1]) as (limiter, cache),
        dspy.context(lm=record_calls(lm, cache, limiter)),
    ):
        writer = go(source, resume=resume, **options)
    calls.finish()
    return writer, limiter


def test_finished_run_keeps_no_calls(tmp_path):
    source = write(tmp_path, map(row, range(6)))
    writer, limiter = kept(source, ScriptedEngine(answer))
    assert (writer.answered, limiter.usage.calls) == (6, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.run.json", "rows.jsonl"]


def test_calls_of_another_directory_stay(tmp_path):
    source, keep = write(tmp_path, map(row, range(6))), CallKeeping.of(str(tmp_path / "mine"), True, tmp_path)
    kept(source, ScriptedEngine(answer), keep=keep)
    assert CallCache(tmp_path / "mine").forget("r3") == 1, "a row without a user is a user of its own"
    (tmp_path / "out.jsonl").unlink()
    _, limiter = kept(source, ScriptedEngine(answer), keep=keep)
    assert (limiter.usage.calls, limiter.replayed.calls) == (1, 5)


def test_answers_behind_a_slow_row_are_not_lost(tmp_path):
    """The first row takes for ever; the run is stopped when all others are answered, and goes on."""
    source, over = write(tmp_path, map(row, range(100))), threading.Event()

    def slow(request):
        if number_of(request) == 0:
            over.wait(60)
            raise RuntimeError("stopped")
        return answer(request)

    engine = ScriptedEngine(slow)

    def stop():
        until(lambda: len(engine.requests) == 100)
        time.sleep(0.2)
        over.set()

    threading.Thread(target=stop).start()
    with pytest.raises(Exception, match="stopped"):
        threading.Thread(
            target=lambda: (until(lambda: len(engine.requests) == 100), time.sleep(0.2), over.set())
        ).start()
        kept(source, engine, ahead=256)
    assert results(tmp_path) == ([], []) and (tmp_path / "out.calls" / "ledger.sqlite").exists()
    again = ScriptedEngine(answer)
    writer, limiter = kept(source, again, resume=True)
    assert writer.answered == 100 and results(tmp_path)[0] == [f"r{n}" for n in range(100)]
    assert (len(again.requests), limiter.replayed.calls) == (1, 99)


def test_sampled_rows_are_replayed_exactly(tmp_path):
    """Retries, candidates and equal rows at a temperature: each call comes back as it was drawn."""
    rows, rng, lock = (
        [{**row(n), "film": f"film number {n % 4}"} for n in range(12)],
        random.Random(0),
        threading.Lock(),
    )
    invented = [{"item": "9", "quote": "a castle"}]

    def drawn(request):
        with lock:
            tag, wrong = rng.random(), rng.random() < 0.3
        return completion(draft=str(tag), tag=str(tag), **({"evidence": json.dumps(invented)} if wrong else {}))

    module = program(on_unmet="return", candidates=3)
    source = write(tmp_path, rows)
    keep = CallKeeping(tmp_path / "mine")
    kept(source, ScriptedEngine(drawn), keep=keep, temperature=1.0, module=module, threads=2)
    whole = (tmp_path / "out.jsonl").read_bytes()
    assert len({line["tag"] for line in lines(tmp_path / "out.jsonl")}) == 12, "equal rows are drawn each for itself"
    for left in (0, 5, 11):
        (tmp_path / "out.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:left]))
        engine = ScriptedEngine(drawn)
        kept(source, engine, keep=keep, temperature=1.0, module=module, resume=True, threads=2)
        assert (tmp_path / "out.jsonl").read_bytes() == whole and not engine.requests


PROCESS = """
import os, random, sys, time
from pathlib import Path
from tests.programs.predict.test_kept_calls import ScriptedEngine, answer, kept, number_of

log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def slow(request):
    number = number_of(request)
    os.write(log, f"begun {number}\\n".encode())
    time.sleep(0.6 if number % 20 == 0 else random.random() / 50)
    os.write(log, f"paid {number}\\n".encode())
    return answer(request)

kept(Path(sys.argv[1]), ScriptedEngine(slow), resume=sys.argv[2] == "resume", ahead=256)
"""


def test_kill_repeats_only_calls_in_flight(tmp_path):
    source, log = write(tmp_path, map(row, range(80))), tmp_path / "log"
    threads, out = 4, tmp_path / "out.jsonl"

    kills = 0
    for stop in (15, 35, 60, None):
        command = [sys.executable, "-c", PROCESS, str(source), "resume" if out.exists() else "begin", str(log)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        if stop is None:
            assert process.wait(120) == 0, process.stderr.read()
        else:
            until(lambda stop=stop: log.exists() and log.read_text().count("paid") >= stop)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
            kills += 1
        process.stderr.close()
    begun = [line for line in log.read_text().splitlines() if line.startswith("begun")]
    assert len(begun) - 80 <= kills * threads
    assert results(tmp_path) == ([f"r{n}" for n in range(80)], []) and not (tmp_path / "out.calls").exists()
