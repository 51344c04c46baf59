"""Traces: of a teacher's answers only the good ones, as the student is to be asked and to write."""

import json
from collections import Counter

import dspy
import pytest
from datasets import Dataset

from finetune.rows import Asking, completion
from finetune.student import Student
from finetune.task_setup import TaskSetup, student_program
from finetune.traces import ask_teacher, asked_file, check_source, source, survivors, write_traces
from programs.data.dataset import Data
from programs.runs.directory import Rows
from programs.tasks.program import R2PConfig
from r2p_dspy.errors import RunError
from tests.film import fields, program
from tests.finetune.tiny import TASK, examples, tiny_student
from tests.scripted import completion as written

WRONG = written(tag="fantasy", draft="fantasy")
INVENTED = written(evidence='[{"item": "1", "quote": "a castle"}]')
SPLIT = written(draft="fantasy")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return Student.load(tiny_student(tmp_path_factory.mktemp("student")))


def course(count=1, carrier="fields", **options):
    teacher = program(**{"max_backtracks": 1, **options})
    asked = examples(count)
    return TaskSetup(
        TASK, teacher, student_program(TASK, teacher, carrier), R2PConfig(), Data(asked, asked, asked, "here", "test")
    )


def trace(made, student, path):
    """Asks the teacher, and returns the rows."""
    asking = Asking(made.program, made.task, student, 128)
    ask_teacher(made, asking, dspy.settings.lm, path, 1, lambda: None)
    return [*Rows(path)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (written(), None),
        (WRONG, "wrong"),
        (INVENTED, "evidence"),
        (SPLIT, "checks"),
        (written(requirements=""), "structure"),
        ("I do not know.", "wrong"),
    ],
)
def test_only_right_compliant_answers_with_valid_evidence_are_kept(scripted, student, tmp_path, answer, why):
    scripted(answer)
    (row,) = trace(course(max_backtracks=0), student, tmp_path / "films.jsonl")
    assert row["refused"] == why
    assert ("completion" in row) is (why is None)


def test_a_row_is_what_the_students_program_sends_and_what_it_is_to_write(scripted, student, tmp_path):
    engine = scripted(written())
    made = course()
    (row,) = trace(made, student, tmp_path / "films.jsonl")
    made.program(**made.data.train[0].inputs())
    sent = engine.requests[-1]
    assert [one["content"] for one in row["prompt"]] == [one.text for one in (*sent.messages,)] or [
        one["content"] for one in row["prompt"]
    ] == [sent.system, *(one.text for one in sent.messages)]
    assert row["completion"] == [{"role": "assistant", "content": written()}]


def test_what_was_mended_leaves_no_trace_of_it(scripted, student, tmp_path):
    engine = scripted(INVENTED, written())
    (row,) = trace(course(), student, tmp_path / "films.jsonl")
    assert row["refused"] is None and len(engine.requests) == 2
    assert row["completion"][0]["content"] == written()
    assert "castle" not in json.dumps(row) and "word for word." not in row["prompt"][-1]["content"]
    assert [one["role"] for one in row["prompt"]] == ["system", "user"]


def test_demos_and_candidates_of_the_teacher_are_not_asked_of_the_student(scripted, student, tmp_path):
    scripted(written())
    made = course(candidates=3)
    made.teacher.reason.demos = [dspy.Example(film="an old film", profile="", **fields())]
    (row,) = trace(made, student, tmp_path / "films.jsonl")
    assert row["calls"] == 3 and "an old film" not in json.dumps(row["prompt"])


def test_the_students_instructions_are_the_teachers(student):
    teacher = program()
    teacher.reason.signature = teacher.reason.signature.with_instructions("Tag as this user tags.")
    made = student_program(TASK, teacher, "fields")
    assert made.reason.signature.instructions == "Tag as this user tags."
    assert (made.max_backtracks, made.max_interventions, made.candidates) == (0, 0, 1)


def test_where_a_student_thinks_the_reasoning_is_its_thought(scripted, student, tmp_path):
    scripted(written())
    (row,) = trace(course(carrier="thinking"), student, tmp_path / "films.jsonl")
    text = row["completion"][0]["content"]
    assert text.startswith("<think>\n<analyse>") and "</think>\n\n[[ ## tag ## ]]\nromance" in text
    assert "[[ ## reasoning ## ]]" not in json.dumps(row) and "[[ ## evidence ## ]]" not in json.dumps(row)


def test_what_was_asked_is_not_asked_again(scripted, student, tmp_path):
    engine = scripted(written())
    path = tmp_path / "films.jsonl"
    trace(course(2), student, path)
    with path.open("a") as file:
        file.write('{"id": "2", "pro')  # killed while it wrote
    trace(course(4), student, path)
    assert len(engine.requests) == 4
    assert Counter(row["id"] for row in survivors([path], Counter())) == Counter("0123")


def test_the_same_row_is_learnt_once(scripted, student, tmp_path):
    scripted(written())
    path = tmp_path / "films.jsonl"
    trace(course(2), student, path)
    path.write_text(path.read_text() * 2)
    counts = Counter()
    assert len(list(survivors([path], counts))) == 2
    assert counts == {"kept": 2, "duplicate": 2}


def test_the_set_is_reloaded_and_its_manifest_says_where_it_comes_from(scripted, student, tmp_path):
    scripted(written(), WRONG, written())
    made = course(3)
    trace(made, student, asked_file(tmp_path, made))
    told = {"tasks": {"films": source(made)}}
    rows = Dataset.from_json(str(write_traces([made], dspy.settings.lm, tmp_path, told)), cache_dir=str(tmp_path / "c"))
    assert len(rows) == 2 and rows[0]["prompt"][0]["role"] == "system"
    assert rows[0]["completion"] == [{"role": "assistant", "content": written()}]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["rows"] == {"kept": 2, "wrong": 1} and manifest["lm"] == "scripted/test"
    assert len(manifest["tasks"]["films"]["program"]) == len(manifest["tasks"]["films"]["data"]["digest"]) == 16


def test_where_nothing_is_good_enough_a_line_says_why(scripted, student, tmp_path):
    scripted(WRONG, WRONG, INVENTED)
    made = course(3, max_backtracks=0)
    trace(made, student, asked_file(tmp_path, made))
    with pytest.raises(ValueError, match=r"good enough to learn from \(2 wrong, 1 evidence\): give another --model"):
        write_traces([made], dspy.settings.lm, tmp_path, {})
    assert not (tmp_path / "train.jsonl").exists()


def test_answers_of_another_teacher_are_not_mixed_in(tmp_path):
    check_source(tmp_path, {"tasks": source(course())})
    check_source(tmp_path, {"tasks": source(course())})
    other = course()
    other.teacher.reason.signature = other.teacher.reason.signature.with_instructions("Otherwise.")
    with pytest.raises(RunError, match="started with tasks"):
        check_source(tmp_path, {"tasks": source(other)})


def test_a_completion_reads_back_as_what_it_says():
    made = course(carrier="thinking")
    from r2p_dspy import Outcome
    from r2p_dspy.scoring.completions import CompletionReader
    from tests.finetune.test_rewards import INPUTS

    typed = {name: value for name, value in fields().items() if name != "tag"}
    text = completion(made.program, Outcome(fields={"tag": "romance"}, stages=typed, answers=("tag",)))
    again = CompletionReader(made.program.reason, made.program.checks)(INPUTS, text)
    assert again.tag == "romance" and not again.violations and again.outcome.stages["draft"] == "romance"
