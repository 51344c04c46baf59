"""`predict --ray` on a Ray of this machine: the same files as without, also when workers are killed."""

import json
import os
import signal
import threading

import pytest

from benchmarks.answering import citing
from tests.endpoint import Endpoint
from tests.test_cli import run

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

    return [
        process.pid for process in process_iter(["cmdline"]) if "ray::MapWorker" in " ".join(process.info["cmdline"])
    ]


@pytest.mark.timeout(400)
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
