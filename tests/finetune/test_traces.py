"""Traces: of a teacher's answers only the good ones, as the student is to be asked and to write."""

import json
from collections import Counter
from dataclasses import replace

import dspy
import pytest
from datasets import Dataset

from finetune.config import FinetuneConfig
from finetune.student import Student
from finetune.task_setup import RowBuilder, TaskSetup, completion_text, student_program
from finetune.teacher.asking import asking_teacher
from finetune.traces import accepted_rows, answers, answers_file, ask_teacher, check_source, task_source, write_traces
from programs.data.dataset import Data
from programs.runs.directory import Rows
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig
from r2p_dspy.errors import RunError
from r2p_dspy.template import NO_STAGES
from tests.film import fields, program
from tests.finetune.tiny import TASK, examples, tiny_student
from tests.programs.cluster.pickled import Pickled
from tests.scripted import completion as written

WRONG = written(tag="fantasy", draft="fantasy")
INVENTED = written(evidence='[{"item": "1", "quote": "a castle"}]')
SPLIT = written(draft="fantasy")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return Student.load(tiny_student(tmp_path_factory.mktemp("student")))


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_teacher_is_connected_for_its_carrier(student, tmp_path, carrier):
    config = FinetuneConfig.of(model="hosted_vllm/Qwen/Qwen3-8B", api_base="http://localhost:1", limit=2, users=2)
    config = replace(config, r2p=config.r2p.model_copy(update={"carrier": carrier}))
    setups = [TaskSetup.of("lamp2", config, "fields", student, Reporter())]
    with asking_teacher(config, setups, tmp_path, None) as (lm, _):
        assert lm.supports_reasoning is (carrier == "thinking")


def setup_of(student, count=1, carrier="fields", **options):
    teacher = program(**{"max_backtracks": 1, **options})
    films = examples(count)
    answers = student_program(TASK, teacher, carrier)
    rows = RowBuilder(answers, TASK, student, 128)
    return TaskSetup(TASK, teacher, answers, rows, R2PConfig(), Data(films, films, films, "here", "test"))


def trace(setup, path):
    """Asks the teacher, and returns the rows."""
    ask_teacher(setup, dspy.settings.lm, path, 1, lambda: None)
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
def test_only_good_answers_are_kept(scripted, student, tmp_path, answer, why):
    scripted(answer)
    (row,) = trace(setup_of(student, max_backtracks=0), tmp_path / "films.jsonl")
    assert row["refused"] == why
    assert ("completion" in row) is (why is None)


def test_row_matches_students_call(scripted, student, tmp_path):
    engine = scripted(written())
    setup = setup_of(student)
    (row,) = trace(setup, tmp_path / "films.jsonl")
    setup.program(**setup.data.train[0].inputs())
    sent = engine.requests[-1]
    assert [message["content"] for message in row["prompt"]] == [message.text for message in (*sent.messages,)] or [
        message["content"] for message in row["prompt"]
    ] == [sent.system, *(message.text for message in sent.messages)]
    assert row["completion"] == [{"role": "assistant", "content": written()}]


def test_corrections_leave_no_trace(scripted, student, tmp_path):
    engine = scripted(INVENTED, written())
    (row,) = trace(setup_of(student), tmp_path / "films.jsonl")
    assert row["refused"] is None and len(engine.requests) == 2
    assert row["completion"][0]["content"] == written()
    assert "castle" not in json.dumps(row) and "word for word." not in row["prompt"][-1]["content"]
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]


def test_student_gets_no_demos_or_candidates(scripted, student, tmp_path):
    scripted(written())
    setup = setup_of(student, candidates=3)
    setup.teacher.reason.demos = [dspy.Example(film="an old film", profile="", **fields())]
    (row,) = trace(setup, tmp_path / "films.jsonl")
    assert row["calls"] == 3 and "an old film" not in json.dumps(row["prompt"])


def test_student_has_teachers_instructions(student):
    teacher = program()
    teacher.reason.signature = teacher.reason.signature.with_instructions("Tag as this user tags.")
    answers = student_program(TASK, teacher, "fields")
    assert answers.reason.signature.instructions == "Tag as this user tags."
    assert (answers.max_backtracks, answers.max_interventions, answers.candidates) == (0, 0, 1)


def test_thinking_student_reasons_in_thought(scripted, student, tmp_path):
    scripted(written())
    (row,) = trace(setup_of(student, carrier="thinking"), tmp_path / "films.jsonl")
    text = row["completion"][0]["content"]
    assert text.startswith("<think>\n<analyse>") and "</think>\n\n[[ ## tag ## ]]\nromance" in text
    assert "[[ ## reasoning ## ]]" not in json.dumps(row) and "[[ ## evidence ## ]]" not in json.dumps(row)


def test_resumed_traces_repeat_no_call(scripted, student, tmp_path):
    engine = scripted(written())
    path = tmp_path / "films.jsonl"
    trace(setup_of(student, 2), path)
    with path.open("a") as file:
        file.write('{"id": "2", "pro')  # killed while it wrote
    trace(setup_of(student, 4), path)
    assert len(engine.requests) == 4
    assert Counter(row["id"] for row in accepted_rows(Rows(path), Counter())) == Counter("0123")


def test_traces_are_in_the_order_of_the_users(scripted, student, tmp_path):
    """Threads finish in any order, and a failed row is asked again; what the student learns is the same."""
    scripted(written())
    setup = setup_of(student, 3)
    rows = Rows(answers_file(tmp_path, setup))
    trace(setup, rows.path)
    whole = [*rows]
    rows.path.unlink()
    for row in ({"id": "1", "refused": "timeout", "failed": "timeout"}, whole[2], whole[0], whole[1]):
        rows.append(row)
    assert answers(tmp_path, setup) == whole


def test_duplicate_row_is_dropped(scripted, student, tmp_path):
    scripted(written())
    path = tmp_path / "films.jsonl"
    trace(setup_of(student, 2), path)
    path.write_text(path.read_text() * 2)
    counts = Counter()
    assert len(list(accepted_rows(Rows(path), counts))) == 2
    assert counts == {"kept": 2, "duplicate": 2}


def test_traces_and_manifest(scripted, student, tmp_path):
    scripted(written(), WRONG, written())
    setup = setup_of(student, 3)
    trace(setup, answers_file(tmp_path, setup))
    origin = {"tasks": {"films": task_source(setup)}}
    path = write_traces([setup], dspy.settings.lm, tmp_path, origin)
    rows = Dataset.from_json(str(path), cache_dir=str(tmp_path / "c"))
    assert len(rows) == 2 and rows[0]["prompt"][0]["role"] == "system"
    assert rows[0]["completion"] == [{"role": "assistant", "content": written()}]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["rows"] == {"kept": 2, "wrong": 1} and manifest["lm"] == "scripted/test"
    assert len(manifest["tasks"]["films"]["program"]) == len(manifest["tasks"]["films"]["data"]["digest"]) == 16


def test_no_good_answer(scripted, student, tmp_path):
    scripted(WRONG, WRONG, INVENTED)
    setup = setup_of(student, 3, max_backtracks=0)
    trace(setup, answers_file(tmp_path, setup))
    with pytest.raises(ValueError, match=r"good enough to learn from \(2 wrong, 1 evidence\): give another --model"):
        write_traces([setup], dspy.settings.lm, tmp_path, {})
    assert not (tmp_path / "train.jsonl").exists()


def test_other_teacher_is_refused(student, tmp_path):
    check_source(tmp_path, {"tasks": task_source(setup_of(student))})
    check_source(tmp_path, {"tasks": task_source(setup_of(student))})
    other = setup_of(student)
    other.teacher.reason.signature = other.teacher.reason.signature.with_instructions("Otherwise.")
    with pytest.raises(RunError, match="another teacher or other users .their tasks differ"):
        check_source(tmp_path, {"tasks": task_source(other)})


def test_completion_reads_back(student):
    setup = setup_of(student, carrier="thinking")
    from r2p_dspy import Outcome
    from r2p_dspy.scoring.completions import CompletionReader
    from tests.finetune.test_rewards import INPUTS

    typed = {name: value for name, value in fields().items() if name != "tag"}
    text = completion_text(setup.program, Outcome(fields={"tag": "romance"}, stages=typed, answers=("tag",)))
    again = CompletionReader(setup.program.reason, setup.program.checks)(INPUTS, text)
    assert again.tag == "romance" and not again.violations and again.outcome.stages["draft"] == "romance"


def test_rationalized_rows_say_nothing_of_the_answer_before_the_evidence(scripted, student, tmp_path):
    """What the teacher was told stands in its prompt alone; a row whose requirements tell it is not learned from."""
    engine = scripted(written(), written(requirements="romance, as is known"), written())
    setup = setup_of(student, 3, max_backtracks=0)
    ask_teacher(setup, dspy.settings.lm, tmp_path / "films.jsonl", 1, lambda: None, told=True)
    rows = [*Rows(tmp_path / "films.jsonl")]
    assert all("The right answer is known: romance" in prompt for prompt in engine.prompts())
    assert [row["refused"] for row in rows] == [None, "checks", None]
    for row in accepted_rows(rows, Counter()):
        requirements = row["completion"][0]["content"].partition("[[ ## evidence ## ]]")[0]
        assert "romance" not in requirements and "is known" not in str(row)
        example = next(film for film in examples(3) if film.id == row["id"])
        assert row["prompt"] == setup.rows(example)["prompt"]


def test_without_stages_the_answers_themselves_are_learned(scripted, student, tmp_path):
    engine = scripted(written())
    rows = trace(setup_of(student, 2, template=NO_STAGES), tmp_path / "films.jsonl")
    assert not engine.requests, "nobody is asked"
    assert [row["completion"][0]["content"] for row in rows] == [
        "[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"
    ] * 2
    assert all("evidence" not in str(row["prompt"]) for row in rows)


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_a_teacher_that_was_sent_to_another_process_gives_the_same_traces(scripted, student, tmp_path, carrier):
    pytest.importorskip("ray")
    scripted(written())
    setup, files = setup_of(student, 2, carrier), [tmp_path / "here.jsonl", tmp_path / "sent.jsonl"]
    for path, each in zip(files, (None, Pickled()), strict=True):
        ask_teacher(setup, dspy.settings.lm, path, 1, lambda: None, each=each)
    here, sent = ([{**row, "seconds": 0, "latency": []} for row in Rows(path)] for path in files)
    assert len(here) == 2 and here == sent
