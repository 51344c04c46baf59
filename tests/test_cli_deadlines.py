"""Commands against a server that hangs: Ctrl-C, time limits and deadlines end them, and they keep what they have."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cli
from tests.faulty import FaultyServer
from tests.scripted import STAGES

COMMANDS = {
    "predict": ["--input", "users.jsonl", "--output", "out.jsonl"],
    "evaluate": ["--limit", "40"],
    "compile": ["--limit", "40", "--optimizer", "bootstrap"],
    "sweep": ["--limit", "40", "--task", "lamp2", "--task", "lamp3"],
    "finetune": ["--users", "40", "--method", "sft"],
}
ANSWER = {"reasoning": "It is a film.", **STAGES}
TAG = "".join(f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in ANSWER.items()) + "[[ ## completed ## ]]"


@pytest.fixture
def start(tmp_path):
    """start(command, server, *options) begins a command in its own process, with a model of that server."""

    def begin(command, server, *options):
        root = Path(cli.__file__).parent
        where = ["--output", "run"] if command != "predict" else []
        model = ["--model", "openai/m", "--api-base", server.api_base]
        arguments = [sys.executable, str(root / "cli.py"), command, *COMMANDS[command], *where, *model, *options]
        environment = {**os.environ, "OPENAI_API_KEY": "none", "DSPY_CACHEDIR": str(tmp_path / "cache")}
        processes.append(subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    users = [
        {
            "id": f"u{n}",
            "description": "A film.",
            "profile": [{"id": "a", "description": "a lighthouse", "tag": "romance"}],
        }
        for n in range(40)
    ]
    (tmp_path / "users.jsonl").write_text("".join(json.dumps(user) + "\n" for user in users))
    processes = []
    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition, process, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come so far"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_ends_within_five_seconds(start, command):
    with FaultyServer("hang") as server:
        process = start(command, server)
        wait_until(lambda: len(server.requests) >= 5, process)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - interrupted < 5
    assert process.returncode == 130, said
    assert said.count("stopped; the run goes on with the same command and --resume") == 1
    assert "Traceback" not in said


def test_second_ctrl_c_ends_at_once(start):
    with FaultyServer("hang") as server:
        process = start("evaluate", server)
        wait_until(lambda: len(server.requests) >= 5, process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        process.communicate(timeout=30)
        assert time.monotonic() - interrupted < 3
    assert process.returncode == 130


def test_ctrl_c_keeps_answered_rows_and_fails_none(start, tmp_path):
    with FaultyServer(lambda number: "" if number < 30 else "hang", text=TAG) as server:
        process = start("evaluate", server, "--num-threads", "4")
        wait_until(lambda: len(server.requests) >= 34, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        rows = [json.loads(line) for line in (tmp_path / "run/results/predict.jsonl").read_text().splitlines()]
    assert len(rows) >= 25
    assert all(row["answer"] == "romance" for row in rows)


def test_time_limit_ends_a_compile_with_hung_calls(start, tmp_path):
    with FaultyServer(lambda number: "hang" if number % 20 == 19 else "", text=TAG) as server:
        process = start("compile", server, "--max-minutes", "0.1")
        wait_until(lambda: server.requests, process)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 20, said
    assert "the usage limit is reached" in said or process.returncode == 0, said


def test_predict_fails_rows_that_are_not_answered_in_time(start, tmp_path):
    with FaultyServer(lambda number: "hang" if number == 7 else "", text=TAG) as server:
        process = start("predict", server, "--timeout", "2")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    (failure,) = [json.loads(line) for line in (tmp_path / "out.failed.jsonl").read_text().splitlines()]
    assert "no answer within 2 s" in failure["error"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 39


@pytest.mark.parametrize("threads", [16, 64])
def test_predict_ends_when_its_server_never_answers(start, threads):
    with FaultyServer("hang") as server:
        process = start("predict", server, "--timeout", "2", "--num-threads", str(threads))
        wait_until(lambda: server.requests, process)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 12
    assert process.returncode == 2 and "no answer within 2 s" in said
