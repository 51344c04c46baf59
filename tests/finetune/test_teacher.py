"""Traces of a teacher that a Ray of this machine asks are those of this process."""

import json

import pytest

from benchmarks.answering import citing
from finetune.config import FinetuneConfig
from finetune.student import Student
from finetune.task_setup import TaskSetup
from finetune.teacher.asking import calls_of, teacher_traces
from programs.calls.cache import CallCache
from programs.runs.reporter import Reporter
from tests.endpoint import Endpoint
from tests.finetune.tiny import tiny_student

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
USERS, CANDIDATES = 6, 2


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """traces(name, **options): the files of a teacher's traces, and the number of calls that are kept."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    student = Student.load(tiny_student(tmp_path / "student"))

    def collect(name, **options):
        with Endpoint(citing) as server:
            small = {"model": "openai/m", "api_base": server.api_base, "lm": ("num_retries=0",), "users": USERS}
            config = FinetuneConfig.of(**small, candidates=CANDIDATES, limit=2, num_threads=2, **options)
            setups = [TaskSetup.of("lamp2", config, "fields", student, Reporter())]
            directory = tmp_path / name
            teacher_traces(config, setups, {}, directory, directory / "traces", Reporter(), False)
            assert server.asked == USERS * CANDIDATES
        rows = [json.loads(line) for line in (directory / "traces" / "lamp2.jsonl").read_text().splitlines()]
        rows = sorted(({**row, "seconds": 0, "latency": []} for row in rows), key=lambda row: row["id"])
        cache = CallCache(calls_of(config, directory).directory)
        return rows, (directory / "traces" / "train.jsonl").read_bytes(), cache.usage("finetune").calls

    return collect


def test_the_same_traces_as_without_ray(traces):
    pytest.importorskip("ray")
    here, sent = traces("here"), traces("sent", ray="local")
    assert sent == here and sent[-1] == USERS * CANDIDATES
