"""A teacher whose calls fail: nothing is paid twice, what fails is counted and listed, and training goes on."""

import json
from itertools import count

import dspy
import pytest
from dspy.utils import exceptions as errors

from programs.data.dataset import personas
from programs.tasks import lamp2
from tests.finetune.test_finetune_cli import run
from tests.finetune.tiny import tiny_student
from tests.scripted import ScriptedEngine, tagged
from tests.test_cli import report_of

USERS, LIMIT, CANDIDATES = 12, 4, 3
DATA = personas(lamp2.TASK, seed=0, limit=LIMIT, train=USERS)
CALLS = (USERS + LIMIT) * CANDIDATES
SMALL = (
    f"--method sft --users {USERS} --limit {LIMIT} --candidates {CANDIDATES} --batch 4 --epochs 1 --tokens 8".split()
)
DOWN, FILTERED = errors.LMServerError("500"), errors.LMInvalidRequestError("no", provider_code="content_filter")
TOO_LONG = errors.ContextWindowExceededError(message="9000 tokens")


class Teacher:
    """A served model that is always right, and fails as `fault` says of (the example, the number of the call)."""

    def __init__(self, monkeypatch):
        self.calls, self.fault = 0, lambda example, call: None
        lm = dspy.LM("openai/scripted", engine=ScriptedEngine(self.answer), cache=False, num_retries=0)
        monkeypatch.setattr("programs.runs.model.connect", lambda model, **options: lm.copy())

    def answer(self, request):
        self.calls += 1
        question = request.messages[-1].text
        example = next(example for example in (*DATA.train, *DATA.test) if example.description in question)
        return self.fault(example, self.calls) or tagged(question, example.tag)

    def fails_on(self, faults):
        """Fails for some examples, by their ids."""
        self.fault = lambda example, call: faults.get(example.id)


@pytest.fixture
def teacher(monkeypatch):
    return Teacher(monkeypatch)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_student(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def finetune(student, tmp_path, monkeypatch):
    monkeypatch.setattr("programs.data.dataset._DEV", 4)
    options = ["--student", student, "--model", "openai/scripted", "--output", tmp_path / "run", *SMALL]
    return lambda *more: run(*options, "--num-threads", 2, *more)


def ids(examples):
    return [example.id for example in examples]


@pytest.mark.parametrize("paid", [7, USERS * CANDIDATES + 5], ids=["traces", "report"])
def test_stopped_run_pays_for_no_call_twice(teacher, finetune, tmp_path, paid):
    """The key is refused after some calls, within the candidates of a row."""
    answered = count(1)
    teacher.fault = lambda example, call: errors.LMAuthError("no key") if next(answered) > paid else None
    stopped = finetune()
    assert stopped.exit_code == 2 and "no key" in stopped.stderr, stopped.output
    assert (tmp_path / "run/calls/ledger.sqlite").exists()
    before, teacher.fault = teacher.calls, lambda example, call: None
    result = finetune("--resume")
    assert result.exit_code == 0, result.output + result.stderr
    assert teacher.calls - before == CALLS - paid
    assert not (tmp_path / "run/calls").exists(), "a finished run needs no calls, and they are users' texts"


def test_refused_and_failed_rows_are_outcomes(teacher, finetune, tmp_path):
    filtered, failing = ids(DATA.train)[3:5]
    unscored = DATA.test[1].id
    teacher.fails_on({filtered: FILTERED, failing: DOWN, unscored: DOWN})
    result = finetune()
    assert result.exit_code == 3, result.output + result.stderr
    assert result.output.splitlines()[-1] == f"2 rows failed, see {tmp_path / 'run/failed.jsonl'}"
    listed = [json.loads(line) for line in (tmp_path / "run/failed.jsonl").read_text().splitlines()]
    assert [(row["program"], row["id"], row["failed"], row["error"]) for row in listed] == [
        ("lamp2/traces", failing, "server", "500"),
        ("lamp2/teacher", unscored, "server", "500"),
    ]
    part = report_of(tmp_path / "run")["tasks"]["lamp2"]
    assert part["traces"] == {"rows": {"good": USERS - 2, "filtered": 1}, "failed_rows": {"server": 1}}
    assert "traces: 10 good, 1 filtered" in result.output
    rows = [json.loads(line) for line in (tmp_path / "run/traces/lamp2.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["id"] == filtered]
    assert row["refused"] == "filtered" and "filter" in row["error"]
    manifest = json.loads((tmp_path / "run/traces/manifest.json").read_text())
    assert manifest["rows"] == {"kept": USERS - 2, "filtered": 1, "server": 1}
    assert part["programs"]["teacher"]["failed_rows"] == {"server": 1}
    assert part["per_answer"]["teacher"]["score"]["value"] == 1, "the failed row is no score of 0"


def test_too_many_failed_rows_stop_a_run_that_resumes(teacher, finetune, tmp_path):
    teacher.fails_on(dict.fromkeys(ids(DATA.train)[:3], TOO_LONG))
    result = finetune()
    assert result.exit_code == 2 and "rows of lamp2 failed (2 too_long" in result.stderr, result.output
    assert not (tmp_path / "run/traces/manifest.json").exists()
    result = finetune("--resume", "--max-failures", 0.2)
    assert result.exit_code == 3, result.output + result.stderr
    assert report_of(tmp_path / "run")["tasks"]["lamp2"]["traces"]["failed_rows"] == {"too_long": 3}


def test_complete_traces_are_kept(teacher, finetune, tmp_path):
    """A row that failed is not asked again once the student learns from the others."""
    failing = DATA.train[2].id
    teacher.fault = lambda example, call: (
        DOWN if example.id == failing else errors.LMAuthError("no key") if example in DATA.test else None
    )
    assert finetune().exit_code == 2
    learned, teacher.fault = (tmp_path / "run/traces/train.jsonl").read_bytes(), lambda example, call: None
    result = finetune("--resume")
    assert result.exit_code == 3, result.output + result.stderr
    assert (tmp_path / "run/traces/train.jsonl").read_bytes() == learned
