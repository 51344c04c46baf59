"""Evaluations whose calls fail: what is no score, what is reported, and that runs go on."""

import json
import random

import dspy
import pytest
from dspy.utils import exceptions as errors

from programs.data.dataset import personas
from programs.tasks import lamp2
from tests.scripted import ScriptedEngine, tagged
from tests.test_cli import report_of, run

LIMIT = 30
EXAMPLES = personas(lamp2.TASK, seed=0, limit=LIMIT).test
FILTERED = errors.LMInvalidRequestError("no", provider_code="content_filter")


def example_of(request):
    text = "\n".join(message.text or "" for message in request.messages)
    return next(example for example in EXAMPLES if example.description in text)


def right(request):
    return tagged(request.messages[-1].text, example_of(request).tag)


class Served:
    """A served model that is always right, and fails as `fault` says of (the number of the example, of the call)."""

    def __init__(self, monkeypatch):
        self.calls, self.fault = 0, lambda number, call: None
        self.engine = ScriptedEngine(self.answer)
        lm = dspy.LM("openai/scripted", engine=self.engine, cache=False, num_retries=0)
        monkeypatch.setattr("programs.runs.model.connect", lambda model, **options: lm.copy())

    def answer(self, request):
        self.calls += 1
        return self.fault(EXAMPLES.index(example_of(request)), self.calls) or right(request)


@pytest.fixture
def served(monkeypatch):
    return Served(monkeypatch)


def evaluate(directory, *more):
    options = ["--model", "openai/scripted", "--limit", LIMIT, "--output", directory, "--num-threads", 2]
    return run("evaluate", *options, *more)


def sweep(directory, *more):
    options = ["--model", "openai/scripted", "--limit", LIMIT, "--output", directory, "--num-threads", 2]
    return run("sweep", *options, "--k", 1, "--k", 2, *more)


@pytest.mark.parametrize(
    "fault, failed, unanswered, score, code",
    [
        (errors.LMTimeoutError("no answer"), {"timeout": 1}, {}, 1.0, 3),
        (errors.LMServerError("500"), {"server": 1}, {}, 1.0, 3),
        (errors.LMInvalidRequestError("bad schema"), {"invalid": 1}, {}, 29 / 30, 3),
        (FILTERED, {}, {"filtered": 1}, 29 / 30, 0),
    ],
    ids=["hangs", "fails", "refused", "filtered"],
)
def test_row_that_always_fails(served, tmp_path, fault, failed, unanswered, score, code):
    served.fault = lambda number, call: fault if number == 7 else None
    result = evaluate(tmp_path / "run")
    assert result.exit_code == code, result.output + result.stderr
    report = report_of(tmp_path / "run")
    for name, entry in report["programs"].items():
        assert (entry["failed_rows"], entry["parse_failures"]) == (failed, unanswered), name
        assert entry["metrics"]["accuracy"]["value"] == pytest.approx(score, abs=1e-4)
    assert report["differences"]["cot"]["r2p"]["accuracy"]["value"] == 0
    listed = tmp_path / "run" / "failed.jsonl"
    if failed:
        assert result.output.strip().splitlines()[-1] == f"3 rows failed, see {listed}"
        rows = [json.loads(line) for line in listed.read_text().splitlines()]
        assert [(row["program"], row["id"], row["failed"]) for row in rows] == [
            (name, EXAMPLES[7].id, next(iter(failed))) for name in ("predict", "cot", "r2p")
        ]
    else:
        assert not listed.exists()


def test_differences_are_of_rows_that_both_answered(served, tmp_path):
    """R2P fails where chain of thought answers: that is no difference between the two."""
    served.fault = lambda number, call: errors.LMServerError("500") if number == 7 and call > 2 * LIMIT else None
    assert evaluate(tmp_path / "run").exit_code == 3
    report = report_of(tmp_path / "run")
    assert [entry["failed_rows"] for entry in report["programs"].values()] == [{}, {}, {"server": 1}]
    assert report["differences"]["cot"]["r2p"]["accuracy"] == {"value": 0, "low": 0, "high": 0}


def test_occasional_failures_cost_no_row(served, tmp_path):
    draw = random.Random(1)
    served.fault = lambda number, call: errors.LMServerError("500") if draw.random() < 0.03 else None
    result = evaluate(tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert all(not entry["failed_rows"] for entry in report_of(tmp_path / "run")["programs"].values())
    assert served.calls > 3 * LIMIT, "some were asked again"


def test_too_many_failures_stop_a_run_that_resumes(served, tmp_path):
    draw = random.Random(5)
    served.fault = lambda number, call: errors.LMServerError("500") if draw.random() < 0.2 else None
    result = evaluate(tmp_path / "run")
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert "calls of openai/scripted failed, more than --max-failures 0.05 allows" in line and "--resume" in line
    assert not (tmp_path / "run" / "report.json").exists()
    answered, served.fault = len(list((tmp_path / "run/results/predict.jsonl").open())), lambda number, call: None
    before = served.calls
    assert answered and evaluate(tmp_path / "run", "--resume").exit_code == 0
    assert served.calls - before <= 3 * LIMIT - answered
    assert report_of(tmp_path / "run")["programs"]["r2p"]["metrics"]["accuracy"]["value"] == 1


def test_failed_rows_are_asked_again_by_resume_and_left_out_by_skip(served, tmp_path):
    """Two of the rows always fail, which is one too many; one of them is left out."""
    served.fault = lambda number, call: errors.LMInvalidRequestError("bad schema") if number in (3, 7) else None
    result = evaluate(tmp_path / "run")
    assert result.exit_code == 2 and "rows of predict failed (2 invalid; the last: " in result.stderr, result.stderr
    assert evaluate(tmp_path / "run", "--resume", "--skip", "nobody").exit_code == 2
    assert evaluate(tmp_path / "run", "--resume", "--skip", EXAMPLES[3].id).exit_code == 3
    report, config = report_of(tmp_path / "run"), json.loads((tmp_path / "run/config.json").read_text())
    assert report["examples"] == LIMIT - 1 and report["skipped"] == {"test": [EXAMPLES[3].id]}
    assert (config["skip"], config["skipped_later"]) == ([], [EXAMPLES[3].id])
    assert report["programs"]["predict"]["failed_rows"] == {"invalid": 1}


def test_resuming_is_no_way_past_the_allowed_share(served, tmp_path):
    served.fault = lambda number, call: errors.LMInvalidRequestError("bad schema") if number in (3, 7, 9, 11) else None
    codes = [evaluate(tmp_path / "run", *more).exit_code for more in ((), *[("--resume",)] * 6)]
    assert codes == [2] * 7
    assert evaluate(tmp_path / "run", "--resume", "--max-failures", 0.2).exit_code == 3


def test_programs_without_a_common_answer_have_no_difference(served, tmp_path):
    half = LIMIT // 2

    def fault(number, call):
        program = (call - 1) // LIMIT  # predict, chain of thought, R2P
        return errors.LMInvalidRequestError("no") if program and (number < half) == (program == 1) else None

    served.fault = fault
    result = evaluate(tmp_path / "run", "--max-failures", 0.6, "--num-threads", 1)
    assert result.exit_code == 3, result.output
    report = report_of(tmp_path / "run")
    assert all(report["programs"][name]["failed_rows"] for name in ("cot", "r2p"))


def test_larger_share_is_allowed(served, tmp_path):
    served.fault = lambda number, call: errors.LMInvalidRequestError("bad schema") if number in (3, 7) else None
    assert evaluate(tmp_path / "run").exit_code == 2
    assert evaluate(tmp_path / "run", "--resume", "--max-failures", 0.1).exit_code == 3
    assert report_of(tmp_path / "run")["programs"]["cot"]["failed_rows"] == {"invalid": 2}


def test_failed_rows_of_a_sweep(served, tmp_path):
    """A row of each cell fails; the cells are finished, and the last line says where the rows are."""
    served.fault = lambda number, call: errors.LMServerError("500") if number == 7 else None
    result = sweep(tmp_path / "run")
    assert result.exit_code == 3, result.output + result.stderr
    cell = tmp_path / "run/lamp2/1-openai-scripted"
    first = f"first 3 rows failed, see {cell / 'k1/failed.jsonl'}"
    assert result.output.splitlines()[-1] == f"rows of 2 cells failed, {first}"
    assert all(len((cell / k / "failed.jsonl").read_text().splitlines()) == 3 for k in ("k1", "k2"))
    entries = [cell["programs"] for cell in report_of(tmp_path / "run")["tasks"]["lamp2"]["cells"]]
    assert all(entry["failed_rows"] == {"server": 1} for programs in entries for entry in programs.values())


def test_failed_rows_are_left_out_of_a_resumed_sweep(served, tmp_path):
    served.fault = lambda number, call: errors.LMInvalidRequestError("bad schema") if number in (3, 7) else None
    assert sweep(tmp_path / "run").exit_code == 2
    unknown = sweep(tmp_path / "run", "--resume", "--skip", "nobody")
    assert unknown.exit_code == 2 and "no example has that id" in unknown.stderr
    left_out = [EXAMPLES[number].id for number in (3, 7)]
    result = sweep(tmp_path / "run", "--resume", "--skip", left_out[0], "--skip", left_out[1])
    assert result.exit_code == 0, result.output + result.stderr
    part = report_of(tmp_path / "run")["tasks"]["lamp2"]
    assert part["examples"] == LIMIT - 2 and part["skipped"] == {"test": left_out}
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["skip"], config["skipped_later"]) == ([], left_out)


def test_skipped_row_of_the_persona_world_is_left_out(served, tmp_path):
    assert evaluate(tmp_path / "run", "--skip", EXAMPLES[3].id).exit_code == 0
    report = report_of(tmp_path / "run")
    assert report["examples"] == LIMIT - 1 and report["skipped"] == {"test": [EXAMPLES[3].id]}
