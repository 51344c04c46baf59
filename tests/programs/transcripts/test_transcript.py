"""What a run keeps of an example, for every kind of program: prompts, completions, reasoning, corrections."""

import json

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError

from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks.task import Task
from programs.transcripts.calls import Call
from programs.transcripts.reading import Transcripts
from programs.transcripts.transcript import transcript_of
from r2p_dspy import Attempt, Details, R2PPrediction, RunError, Verdict
from r2p_dspy.decoding.monitor import Intervention
from tests.film import FILM, HISTORY, Film, program
from tests.r2p_dspy.modules.test_thinking import ANSWER, thought
from tests.scripted import completion, written

TASK = Task("film", Film, "film", "tag", ("text",), ("accuracy",), labels=("romance", "fantasy"))
INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')
EXAMPLE = dspy.Example(id="7", user="ada", film=FILM, profile=HISTORY, tag="romance").with_inputs("film", "profile")


@pytest.fixture
def kept(tmp_path):
    """kept(program) measures it on one example; the row and the transcript."""

    def run(module, **options):
        files = Rows(tmp_path / "rows.jsonl"), Rows(tmp_path / "transcripts.jsonl")
        (row,) = measure(module, [EXAMPLE], TASK, files[0], 1, lambda: None, transcripts=files[1], **options)
        (transcript,) = files[1]
        assert json.loads(json.dumps(row)) == row
        return row, transcript

    return run


def test_corrected_answer(kept, scripted):
    scripted(INVENTED, completion())
    row, transcript = kept(program())
    assert (row["score"], row["right"]) == (1.0, True)
    assert (transcript["id"], transcript["user"], transcript["question"]) == ("7", "ada", {"film": FILM})
    assert transcript["outputs"] == {"tag": "romance"} and transcript["reasoning"]["draft"] == "romance"
    assert [(item["number"], item["id"], item["label"]) for item in transcript["items"]] == [
        ("1", "m7", "romance"),
        ("2", "m9", "fantasy"),
    ]
    assert transcript["cited"] == [{"id": "m7", "known": True, "marks": {"text": [[0, 12]]}, "missing": []}]
    assert transcript["preferences"] == [{"statement": "lighthouses are sad", "items": ["m7"], "label": "romance"}]
    assert transcript["corrections"][0] == "attempt 1, at its end: There is no item 9; cite only 1, 2."
    first, second = transcript["calls"]
    assert [call["attempt"] for call in transcript["calls"]] == [1, 2]
    assert (first["text"], first["accepted"], first["unmet"][0]["check"]) == (INVENTED, False, "cited")
    assert (second["text"], second["accepted"], second["unmet"]) == (completion(), True, [])
    assert [role for role, _ in first["messages"]] == ["system", "user"] and first["repeats"] == 0
    assert (second["repeats"], [role for role, _ in second["messages"]]) == (2, ["assistant", "user"])


def test_candidates_have_their_own_attempts(kept, scripted):
    scripted(completion(), INVENTED, completion(tag="fantasy", draft="fantasy"), completion())
    _, transcript = kept(program(candidates=3))
    assert {(call["candidate"], call["attempt"]) for call in transcript["calls"]} >= {(1, 1), (2, 1), (3, 1)}
    assert sum(candidate["chosen"] for candidate in transcript["candidates"]) == 1 and transcript["decision"]
    prompts, before = [], []
    for call in transcript["calls"]:
        before = [*before[: call["repeats"]], *call["messages"]]
        prompts.append([role for role, _ in before])
    assert prompts.count(["system", "user"]) == 3, "each candidate's first prompt"


@pytest.mark.parametrize("module", [dspy.Predict, dspy.ChainOfThought])
def test_modules_of_dspy(kept, scripted, module):
    scripted(written(reasoning="as item 1", tag="fantasy"))
    row, transcript = kept(module(Film))
    assert (row["score"], row["right"]) == (0.0, False)
    assert transcript["outputs"]["tag"] == "fantasy" and transcript["items"] == transcript["cited"] == []
    (call,) = transcript["calls"]
    assert call["text"].startswith("[[ ## reasoning ## ]]") and call["attempt"] is None


def test_unreadable_and_failed_answers(kept, scripted):
    scripted("no field")
    row, transcript = kept(program(max_backtracks=0))
    assert (row["parse_failure"], row["score"], row["right"]) == ("malformed", 0.0, False)
    assert transcript["calls"][0]["text"] == "no field" and transcript["unmet"]


def test_calls_that_fail_leave_their_kind(scripted, tmp_path):
    scripted(LMInvalidRequestError("the key sk-secret is wrong"))
    rows, transcripts = (Rows(tmp_path / f"{name}.jsonl") for name in ("rows", "transcripts"))
    with pytest.raises(RunError, match="1 of 1 rows"):
        measure(program(), [EXAMPLE], TASK, rows, 1, lambda: None, transcripts=transcripts)
    ((call,),) = [transcript["calls"] for transcript in transcripts]
    assert (call["text"], call["error"]) == ("", "LMInvalidRequestError")
    assert "sk-secret" not in (tmp_path / "transcripts.jsonl").read_text()


def test_thought_and_text(kept, scripted):
    scripted((thought(), ANSWER), supports_reasoning=True)
    _, transcript = kept(program(carrier="thinking"))
    (call,) = transcript["calls"]
    assert (call["thought"], call["text"], call["accepted"]) == (thought(), ANSWER, True)


def test_redacted_rows(kept, scripted, tmp_path):
    scripted("no field")
    rows = Rows(tmp_path / "rows.jsonl")
    (row,) = measure(program(max_backtracks=0), [EXAMPLE], TASK, rows, 1, lambda: None, redact=True)
    assert row["completion"] is None and row["parse_failure"] == "malformed"
    assert not (tmp_path / "transcripts.jsonl").exists()


def test_the_latest_of_an_example_is_read_back(tmp_path):
    file = tmp_path / "r2p.jsonl"
    lines = [{"id": id_, "question": {"film": film}} for id_, film in (("7", "old"), ("8", "雨"), ("7", "new" * 99))]
    file.write_bytes(
        b"\n".join(json.dumps(line, ensure_ascii=False).encode() for line in lines) + b'\n{"id": "9", "que'
    )
    transcripts = Transcripts(file)
    assert len(transcripts) == 2 and transcripts.get("9") is None
    assert (transcripts.get("7"), transcripts.get("8")) == (lines[2], lines[1])
    assert transcripts.titles["8"] == "雨" and len(transcripts.titles["7"]) == 91
    assert len(Transcripts(tmp_path / "none.jsonl")) == 0


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_intervention_stands_where_it_came(carrier):
    """The place is counted in what the model wrote, where the tags of a thought are not shown."""
    if carrier == "fields":
        whole = "[[ ## requirements ## ]]\n雨 😀\n\n[[ ## evidence ## ]]\n[]"
        call, at, stage = Call([], whole), whole.index("\n\n[[ ## evidence"), "[[ ## evidence"
    else:
        inner = "\n<analyse>\n雨 😀\n</analyse>\n<evidence>[]</evidence>"
        call, at, stage = Call([], "x", inner), len("<think>") + inner.index("\n<evidence"), "<evidence"
    fix = Intervention(stage="evidence", check="quoted", message="Copy it.", at=at, replaced="other")
    verdict = Verdict(check="quoted", kind="assert", ok=True)
    attempts = [
        Attempt(verdicts=[verdict], interventions=[fix]),
        Attempt(verdicts=[verdict], accepted=True, completion=call.text),
    ]
    answer = R2PPrediction({"tag": "x"}, details=Details(attempts=attempts))
    (logged,) = transcript_of(EXAMPLE, TASK, answer, [call], attempts)["calls"]
    ((placed,),) = [logged["interventions"]]
    text = (logged["thought"] + logged["text"]).encode("utf-16-le")[2 * placed["at"] :].decode("utf-16-le")
    assert text.lstrip().startswith(stage) and placed["replaced"] == "other"
