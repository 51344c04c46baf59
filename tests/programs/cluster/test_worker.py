"""What runs in a worker: the files of partitions, one after another, are those of `predict`."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dspy.utils.exceptions import LMTransportError

from programs.cluster import part as parts
from programs.cluster.part import ANSWERS, Done, Part
from programs.cluster.partitions import partitioned
from programs.cluster.worker import PartitionAnswerer, read_ids, repeated_ids
from programs.predict.answer_files import AnswerFiles
from programs.predict.run import run_predict
from programs.runs.reporter import Reporter
from programs.tasks.lamp2 import TASK
from r2p_dspy.errors import RunError
from tests.faulty import FaultyServer


@pytest.fixture
def cut(rows):
    return partitioned(TASK, rows, 4).partitions


def batch(partition, repeated=()):
    return {"partition": np.array([partition.to_json()]), "repeated": np.array([json.dumps(dict(repeated))])}


def go(config, partitions):
    """Let one worker answer partitions, and return what it says of each."""
    (config.target / ANSWERS).mkdir(parents=True, exist_ok=True)
    found = []
    for part in partitions:
        ids = read_ids({"partition": [part.to_json()]}, "lamp2")
        found.append((part, *(np.frombuffer(ids[name][0], np.uint64) for name in ("hashes", "lines"))))
    repeated, worker = repeated_ids(found), PartitionAnswerer(config, "run")
    said = [worker(batch(part, repeated.get(part.number, {}))) for part in partitions]
    return [Done.from_json(one["done"][0]) for one in said], [one["error"][0] for one in said]


def together(folder, ending=".jsonl"):
    """The contents of the files of all partitions, one after another."""
    names = sorted(path for path in (folder / ANSWERS).glob(f"part-?????{ending}"))
    return b"".join(path.read_bytes() for path in names)


def test_partitions_are_what_predict_writes(config, cut, tmp_path):
    done, errors = go(config(), cut)
    assert errors == [b""] * len(cut)
    alone = replace(config(ray=None), target=tmp_path / "local.jsonl")
    local = run_predict(alone, False, Reporter())
    assert together(tmp_path / "out") == alone.target.read_bytes()
    assert together(tmp_path / "out", ".failed.jsonl") == local.failures.read_bytes()
    total = sum(done, Done())
    assert (total.answered, total.failed) == (local.answered, local.failed)
    assert total.usage.calls == local.answered and total.usage.completion > 0
    assert not [*(tmp_path / "out").glob("**/*.calls")]


def test_a_partition_that_is_done_is_not_answered_again(config, cut, endpoint):
    first, _ = go(config(), cut)
    asked = endpoint.asked
    assert go(config(), cut) == (first, [b""] * len(cut)) and endpoint.asked == asked


def test_a_lost_worker_costs_no_row_and_no_call(config, cut, endpoint, tmp_path, monkeypatch):
    """A worker ends after two answers, as one that is killed does; another one goes on with its partition."""

    class Killed(BaseException):
        pass

    answer = AnswerFiles.answer

    def dying(self, row):
        if self.answered == 2:
            raise Killed
        answer(self, row)

    monkeypatch.setattr(AnswerFiles, "answer", dying)
    with pytest.raises(Killed):
        go(config(), cut[5:])
    monkeypatch.setattr(AnswerFiles, "answer", answer)
    asked = endpoint.asked
    (done,), _ = go(config(), cut[5:])
    assert (done.rows, done.answered) == (3, 3) and endpoint.asked == asked == done.usage.calls
    assert len(together(tmp_path / "out").splitlines()) == 3


def test_a_server_that_is_away_goes_back_as_data(config, cut):
    with FaultyServer("reset") as away:
        (done,), (error,) = go(config(api_base=away.api_base), cut[:1])
    assert done == Done() and isinstance(pickle.loads(error), LMTransportError)


def test_two_processes_do_not_write_one_partition(config, cut, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_WAIT", 0.2)
    (tmp_path / "out" / ANSWERS).mkdir(parents=True)
    with Part(tmp_path / "out", cut[0]).writer():
        _, (error,) = go(config(), cut[:1])
    assert isinstance(pickle.loads(error), RunError) and "another process is writing" in str(pickle.loads(error))


def test_failures_of_one_of_several_files_name_it(config, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"id": "a"}\n')
    (folder / "b.jsonl").write_text('{"id": "b"}\n{"id": "a"}\n')
    go(config(), partitioned(TASK, folder, 10).partitions)
    failed = [json.loads(line) for line in together(tmp_path / "out", ".failed.jsonl").splitlines()]
    assert [(row["id"], row["file"], row["line"]) for row in failed] == [
        ("a", "a.jsonl", 1),
        ("b", "b.jsonl", 1),
        ("a", "b.jsonl", 2),
    ]
    assert "line 1 of a.jsonl too" in failed[2]["error"]


def test_the_input_of_a_failure_is_a_path_of_this_machine(rows):
    assert Path(partitioned(TASK, rows, 4).partitions[0].file).is_absolute()
