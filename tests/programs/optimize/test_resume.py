"""Compiling that is stopped: by a kill at any moment, by its budget, by a full disk, by another process in its way."""

import errno
import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dspy
import pytest

from programs.calls.cache import CallCache
from programs.data import dataset as data
from programs.data.dataset import DataConfig, personas
from programs.optimize.run import run_compile
from programs.runs.configs import CompileConfig
from programs.runs.directory import Rows, Run
from programs.runs.reporter import Reporter
from programs.tasks import lamp2
from r2p_dspy.errors import RunError
from tests.programs.calls.stored import stored_calls
from tests.scripted import ScriptedEngine, tagged
from tests.test_cli import report_of, run

ROOT = Path(__file__).parents[3]
LIMIT, SMALL = 4, 8  # examples to report on; to compile with


class LineReporter(Reporter):
    """Keeps the lines of progress."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def examples():
    loaded = personas(lamp2.TASK, seed=0, limit=LIMIT)
    return [*loaded.train, *loaded.dev, *loaded.test]


def knows(examples):
    """A model that has every format, cites well, and is right at every other film, or where it is shown how."""

    def write(request):
        question = request.messages[-1].text
        number = next(at for at, example in enumerate(examples) if example.description in question)
        gold = examples[number].tag
        right = number % 2 == 0 or len(request.messages) > 1
        tag = gold if right else next(label for label in lamp2.LABELS if label != gold)
        return tagged(question, tag)

    return write


@pytest.fixture
def engine(monkeypatch):
    """A served model that is scripted, and few examples to compile with."""
    monkeypatch.setattr("programs.runs.configs.DataConfig", partial(DataConfig, train=SMALL))
    monkeypatch.setattr(data, "_DEV", SMALL)
    engine = ScriptedEngine(knows(examples()))
    lm = dspy.LM("openai/scripted", engine=engine, cache=False, num_retries=0)
    monkeypatch.setattr("programs.runs.model.connect", lambda model, **options: lm.copy())
    return engine


def compile_in(output, resume=False, reporter=None, **options):
    config = CompileConfig.of(task="lamp2", model="openai/scripted", limit=LIMIT, num_threads=4, **options)
    return run_compile(config, output, resume, reporter or Reporter())


def outcome(directory):
    """What must not depend on how often a run was stopped."""
    report = report_of(directory)
    program = json.loads((directory / "program.json").read_text())
    entries = report["programs"]
    kept = ("metrics", "calls", "tokens", "parse_failures", "violations", "compliance")
    scores = {name: {key: entry[key] for key in kept} for name, entry in entries.items()}
    return program["predictors"], scores, report["compiling"]


def test_second_run_replays_every_call(engine, tmp_path):
    first = compile_in(tmp_path / "a")
    paid = len(engine.requests)
    assert first["calls"]["spent"]["calls"] == paid > 0 and first["compiling"]["winner"] == "compiled"
    assert first["calls"]["latency"]["p95"] >= 0
    again = compile_in(tmp_path / "b")
    assert len(engine.requests) == paid
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    assert again["calls"]["spent"]["calls"] == 0 and again["calls"]["replayed"]["calls"] >= paid
    assert again["plan"]["actual"]["calls"] == first["plan"]["actual"]["calls"]


def test_resumed_run_tells_the_whole_plan(engine, tmp_path, monkeypatch):
    """The plan's usage is that of all calls, whichever process made them."""
    whole = compile_in(tmp_path / "whole")["plan"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("programs.optimize.run.complete", killed)  # all is measured, and no report is written
        compile_in(tmp_path / "run")
    plan = compile_in(tmp_path / "run", resume=True)["plan"]
    assert {name: plan["actual"][name] for name in ("calls", "tokens", "usd")} == {
        name: whole["actual"][name] for name in ("calls", "tokens", "usd")
    }
    assert plan["actual"]["calls"] > 0 and plan["estimate"]["calls"] == whole["estimate"]["calls"]


def test_no_cache_stores_no_calls(engine, tmp_path):
    compile_in(tmp_path / "a", cache=False)
    paid = len(engine.requests)
    assert not (tmp_path / "calls").exists()
    compile_in(tmp_path / "b", calls=str(tmp_path / "elsewhere"))
    assert len(engine.requests) > paid and (tmp_path / "elsewhere" / "ledger.sqlite").exists()


def test_report_has_estimate_and_actual_usage(engine, tmp_path):
    reporter = LineReporter()
    report = compile_in(tmp_path / "run", reporter=reporter)
    expected, took = report["plan"]["estimate"], report["plan"]["actual"]
    assert set(expected) == set(took) == {"calls", "tokens", "usd", "minutes"}
    assert took["calls"] / 2 < expected["calls"] < 2 * took["calls"]
    assert any(re.search(r"will take about \d+ calls, [\d,]+ tokens", line) for line in reporter.lines)


@pytest.mark.parametrize("most", [1, 10, 30, 45, 60])
def test_limit_of_calls_holds_at_every_step(engine, tmp_path, most):
    report = compile_in(tmp_path / "run", max_calls=most)
    assert len(engine.requests) <= most
    assert (tmp_path / "run" / "program.json").exists()
    measured, unmeasured = set(report["programs"]), set(report["unmeasured"])
    assert not measured & unmeasured and measured | unmeasured >= {"predict", "cot", "r2p"}
    whole = "stopped" not in report["compiling"] and not unmeasured
    assert whole == (most > 59) or "--max-calls" in json.dumps(report["compiling"] | report["unmeasured"])
    assert report["calls"]["limits"] == {"calls": most}


def test_token_limit_overshoots_by_calls_in_flight_only(engine, tmp_path):
    report = compile_in(tmp_path / "run", max_tokens=300)
    spent = report["calls"]["spent"]
    assert 180 < sum(spent["tokens"].values()) <= 300 + 4 * 15, "what is kept for measuring may stay"
    assert "--max-tokens" in report["compiling"]["stopped"]


def test_larger_limit_repeats_no_call_of_a_smaller_one(engine, tmp_path):
    compile_in(tmp_path / "small", max_calls=30)
    before = len(engine.requests)
    compile_in(tmp_path / "large")
    compile_in(tmp_path / "alone", calls=str(tmp_path / "fresh"))
    assert outcome(tmp_path / "large") == outcome(tmp_path / "alone")
    calls, repeated = stored_calls(tmp_path / "calls")
    assert repeated == 0 and calls > before


def test_unknown_price_is_refused_before_writing(engine, tmp_path):
    with pytest.raises(ValueError, match="--max-usd cannot hold"):
        compile_in(tmp_path / "run", max_usd=1.0)
    assert not list(tmp_path.iterdir())


def test_run_resumes_after_a_full_disk(engine, tmp_path, monkeypatch):
    kept, put = [], CallCache.put

    def until_full(self, key, model, call, **owner):
        kept.append(key)
        if len(kept) == 20:
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            self._connection.execute(f"PRAGMA max_page_count = {pages}")
            call = type(call)([random.Random(0).randbytes(50_000).hex()], call.dspy_usage, call.usage)
        return put(self, key, model, call, **owner)

    with monkeypatch.context() as patched:
        patched.setattr(CallCache, "put", until_full)
        with pytest.raises(RunError, match=r"cannot write to .*full.*go on with --resume"):
            compile_in(tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()
    compile_in(tmp_path / "run", resume=True)
    compile_in(tmp_path / "alone", calls=str(tmp_path / "fresh"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")
    assert stored_calls(tmp_path / "calls")[1] == 0


def test_full_disk_while_writing_rows(engine, tmp_path, monkeypatch):
    options = ["--limit", LIMIT, "--model", "openai/scripted", "--output", tmp_path / "run"]
    append = Rows.append

    def full(self, row):
        if self.path.name == "cot.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        append(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Rows, "append", full)
        result = run("compile", *options)
    assert result.exit_code == 2
    assert re.search(
        r"Error: the disk of .*cot.jsonl is full; free some space, .*--resume", result.stderr, re.MULTILINE
    )
    assert "Traceback" not in result.output + result.stderr
    assert run("compile", *options, "--resume").exit_code == 0
    assert stored_calls(tmp_path / "calls")[1] == 0


def test_unusable_call_cache_leaves_no_run(engine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to .*; give another --calls"):
        compile_in(tmp_path / "run", calls=str(tmp_path / "file" / "calls"))
    compile_in(tmp_path / "run")


def test_second_process_in_one_run_is_refused(engine, tmp_path):
    with Run(tmp_path / "run", {}):
        script = "import sys; from programs.runs.directory import Run; Run(sys.argv[1], {}, resume=True)"
        other = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
        )
        assert "another process works in" in other.stderr and other.returncode != 0
    Run(tmp_path / "run", {}, resume=True).close()


PROCESS = """
import os, random, signal, sys, threading, time
from pathlib import Path
import dspy
from functools import partial
from programs.data import dataset as data
from programs.runs import configs, model
configs.DataConfig = partial(data.DataConfig, train={small})
data._DEV = {small}
from tests.programs.optimize.test_resume import ScriptedEngine, compile_in, examples, knows

write = knows(examples())

def slow(request):
    time.sleep(0.01)
    return write(request)

lm = dspy.LM("openai/scripted", engine=ScriptedEngine(slow), cache=False, num_retries=0)
model.connect = lambda name, **options: lm.copy()
compile_in(Path(sys.argv[1]), resume=sys.argv[2] == "resume")
"""


def calls_in(folder):
    """How many calls a ledger holds, and how many were made again, while others write it."""
    path = folder / "calls" / "ledger.sqlite"
    if not path.exists():
        return 0, 0
    try:
        return stored_calls(folder / "calls")
    except sqlite3.OperationalError:  # the table is about to be made
        return 0, 0


def killed_at(command, folder, stops):
    """Run a command, killed when the ledger holds so many calls, again and again; and at last to its end."""
    for stop in (*stops, None):
        resume = "resume" if (folder / "run" / "config.json").exists() else "begin"
        process = subprocess.Popen(command(resume), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if stop is None:
            _, stderr = process.communicate(timeout=280)
            assert process.returncode == 0, stderr
            break
        while process.poll() is None and calls_in(folder)[0] < stop:
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL and not (folder / "run" / "report.json").exists()


def test_killed_run_resumes_without_repeating_calls(engine, tmp_path):
    compile_in(tmp_path / "alone" / "run")
    whole, _ = stored_calls(tmp_path / "alone" / "calls")
    stops = sorted(random.Random(1).sample(range(1, whole - 4), 3))
    script = PROCESS.format(small=SMALL)
    killed_at(lambda how: [sys.executable, "-c", script, str(tmp_path / "run"), how], tmp_path, stops)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone" / "run")
    assert calls_in(tmp_path) == (whole, 0)
    report = report_of(tmp_path / "run")
    assert report["calls"]["spent_before"]["calls"] + report["calls"]["spent"]["calls"] == whole


@pytest.mark.slow
def test_killed_run_of_the_pocket_model(tmp_path):
    options = ["compile", "--limit", "4", "--optimizer", "random", "--seed", "3"]

    def command(folder):
        return lambda how: [
            sys.executable, "cli.py", *options, "--output", str(folder / "run"), *["--resume"] * (how == "resume")
        ]  # fmt: skip

    killed_at(command(tmp_path / "alone"), tmp_path / "alone", [])
    whole, _ = calls_in(tmp_path / "alone")
    killed_at(command(tmp_path), tmp_path, sorted(random.Random(2).sample(range(1, whole - 16), 4)))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone" / "run")
    assert calls_in(tmp_path) == (whole, 0)
