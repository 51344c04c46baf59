"""`--ray` on a Ray of this machine: the same files as without, also when workers and commands are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.answering import citing
from tests.endpoint import Endpoint
from tests.test_cli import report_of, run

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def started():
    """A small Ray."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_BACKEND_LOG_LEVEL="fatal")
    ray.init(
        num_cpus=2,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


def workers():
    """The process ids of the workers that answer."""
    from psutil import process_iter

    titles = {process.pid: " ".join(process.info["cmdline"] or ()) for process in process_iter(["cmdline"])}
    return [pid for pid, title in titles.items() if "ray::MapWorker" in title]


@pytest.mark.timeout(1200)
def test_the_same_files_as_without_ray_though_a_worker_is_killed(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    asked, lock = [], threading.Lock()

    def reply(body):
        with lock:
            asked.append(body)
            if len(asked) == 5:
                os.kill(workers()[0], signal.SIGKILL)
        return citing(body)

    with Endpoint(citing) as calm, Endpoint(reply) as server:
        common = ["--model", "openai/m", "--lm", "num_retries=0", "--input", rows]
        alone = run("predict", *common, "--api-base", calm.api_base, "--output", tmp_path / "alone.jsonl")
        options = [*common, "--api-base", server.api_base, "--output", tmp_path / "out", "--partition-rows", 4]
        spread = run("predict", *options, "--ray", "--num-threads", 2)
    assert alone.exit_code == spread.exit_code == 3, spread.output
    assert (
        spread.stdout.splitlines()[-1]
        == f"23 rows: 16 answered in {tmp_path / 'out'}, 7 failed, see {tmp_path / 'out' / 'answers'}"
    )
    for ending, file in ((".jsonl", "alone.jsonl"), (".failed.jsonl", "alone.failed.jsonl")):
        parts = sorted((tmp_path / "out" / "answers").glob(f"part-?????{ending}"))
        assert b"".join(part.read_bytes() for part in parts) == (tmp_path / file).read_bytes()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["rows"], report["answered"], report["failed"], report["workers"]) == (23, 16, 7, 2)
    assert 16 <= report["calls"] <= len(asked) <= 16 + 2, "the calls in flight of the killed worker are made again"
    again = run("predict", *options, "--ray", "--resume")
    assert again.exit_code == 2 and "holds a finished run" in again.stderr


TIMES = ("seconds", "latency")  # what a row has of its own each time


def rows_of(directory, folder="results"):
    """What the files of a run's folder hold, by their names and the rows' ids, without what differs each time."""
    found = {}
    for path in sorted((directory / folder).glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        found[path.stem] = sorted(kept, key=lambda row: row["id"])
    return found


EVALUATE = ["evaluate", "--model", "openai/m", "--lm", "num_retries=0", "--limit", 8, "--num-threads", 2, "--k", 1]


@pytest.mark.timeout(1200)
def test_the_same_evaluation_as_without_ray_though_a_worker_is_killed(tmp_path, monkeypatch):
    """Also of programs that are made here alone: with other users' histories, and without single items."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    asked, killed, lock = [], [], threading.Lock()

    def reply(body):
        with lock:
            asked.append(body)
            if len(asked) == 5:
                os.kill(workers()[0], signal.SIGKILL)
                killed.append(True)
        return citing(body)

    options = [*EVALUATE, "--only", "r2p", "--only", "r2p:other_user", "--controls"]
    with Endpoint(citing) as calm, Endpoint(reply) as server:
        alone = run(*options, "--api-base", calm.api_base, "--output", tmp_path / "alone")
        spread = run(*options, "--api-base", server.api_base, "--output", tmp_path / "out", "--ray")
    assert killed and (alone.exit_code, spread.exit_code) == (0, 0), spread.output
    for folder in ("results", "transcripts"):
        assert rows_of(tmp_path / "out", folder) == rows_of(tmp_path / "alone", folder)
    reports = report_of(tmp_path / "alone"), report_of(tmp_path / "out")
    for name in ("differences", "grounding", "examples", "lm"):
        assert reports[0][name] == reports[1][name]
    wanted, spent = (report["calls"]["spent"]["calls"] for report in reports)
    assert wanted <= spent <= len(asked) <= wanted + 2, "the calls in flight of the killed worker are made again"
    assert not (tmp_path / "out" / "calls").exists() and (tmp_path / "out" / "report.html").exists()


@pytest.mark.timeout(1200)
def test_a_killed_evaluation_goes_on_and_asks_no_row_again(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    rows = tmp_path / "out" / "results" / "r2p.jsonl"
    release = threading.Event()

    def reply(body):
        if rows.exists() and not release.is_set():  # some rows are written, and those in flight are not
            release.wait(60)
        return citing(body)

    with Endpoint(reply) as server:
        options = [*EVALUATE, "--only", "r2p", "--api-base", server.api_base, "--output", tmp_path / "out", "--ray"]
        first = subprocess.Popen([sys.executable, "cli.py", *map(str, options)], stderr=subprocess.PIPE)
        while not rows.exists() and first.poll() is None:
            time.sleep(0.05)
        first.kill()
        first.wait()
        release.set()
        done, asked = len(rows.read_text().splitlines()), server.asked
        assert 0 < done < 8
        again = run(*options, "--resume")
    assert again.exit_code == 0, again.output
    ids = [row["id"] for row in rows_of(tmp_path / "out")["r2p"]]
    assert len(ids) == len({*ids}) == 8
    assert server.asked - asked <= 8 - done
    report = report_of(tmp_path / "out")["calls"]
    assert report["spent_before"]["calls"] >= done


@pytest.mark.timeout(1200)
def test_what_is_in_the_way_of_an_answer_ends_an_evaluation_in_one_line(tmp_path):
    options = [*EVALUATE, "--only", "r2p", "--api-base", "http://127.0.0.1:9/v1", "--output", tmp_path / "out"]
    result = run(*options, "--ray")
    assert result.exit_code == 2 and "the language model failed" in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) <= 3
