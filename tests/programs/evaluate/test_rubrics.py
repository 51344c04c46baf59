"""A task with rubrics from end to end: judged by one model and by two, its response files, its official questions."""

import json

import dspy
import pytest
from click.testing import CliRunner
from dspy.utils import exceptions as errors

import cli
from metrics.rubric import Rubric, coverage
from programs.evaluate import judge as judging
from programs.evaluate.submission import SubmissionError, score, submission
from programs.predict.input_rows import is_official, read, survey
from programs.runs.directory import Run
from r2p_dspy import Profile
from tests.metrics.test_rubric import points
from tests.rubrics import ASPECTS, TASK, question, write
from tests.scripted import ScriptedEngine
from tests.served import ScriptedServer

RUBRIC = Rubric.model_validate({"narrative": "I write with my left hand.", "aspects": ASPECTS})
HISTORY = Profile.of([{"id": "a", "text": "How do I clean a nib?"}])
EXAMPLES = [
    dspy.Example(id=key, question=f"Pen {key}?", profile=HISTORY, rubric=RUBRIC).with_inputs("question", "profile")
    for key in "123"
]
ANSWERS = {
    "cot": [{"id": key, "answer": text} for key, text in zip("123", ("good", "bad", None), strict=True)],
    "r2p": [{"id": key, "answer": text} for key, text in zip("123", ("good", "good", "bad"), strict=True)],
}


def likes(text):
    """A judge that gives both points of an aspect where the response has a text, else none."""

    def answer(request):
        response = request.messages[-1].text.partition("[[ ## response ## ]]")[2].split("\n")[1]
        return points(2 if text in response else 0)

    return answer


def judge_of(*texts):
    return dspy.LM("scripted/judge", engine=ScriptedEngine(*texts), cache=False, num_retries=0)


def judged(run, lm, second=None, answers=ANSWERS):
    return judging.judge(TASK, EXAMPLES, answers, lm, run, 1, lambda *_: lambda: None, second=second)


def test_each_program_and_the_floors_are_judged(tmp_path):
    lm = judge_of(likes("good"))
    report, judgements = judged(Run(tmp_path / "run", {}), lm)
    assert {name: result["value"] for name, result in report["programs"].items()} == {"cot": 0.3333, "r2p": 0.6667}
    assert report["baselines"] == {"most_similar": 0.0, "input": 0.0} and report["pairwise"] == {}
    # Two aspects an answer; nothing is asked of an answer that is none.
    assert report["calls"] == len(lm.engine.requests) == 2 * (2 + 3 + 3 + 3)
    assert [row["points"] for row in judgements["judge:r2p"]] == [[2, 2], [2, 2], [0, 0]]


@pytest.mark.parametrize(
    ("fault", "cause"), [("I like it.", "malformed"), (errors.LMTimeoutError("no answer"), "timeout")]
)
def test_judgement_that_failed_is_counted_apart(tmp_path, fault, cause):
    def faulty(request):
        return fault if "bad" in request.messages[0].text else points(1)

    report, judgements = judged(Run(tmp_path / "run", {}), judge_of(faulty), answers={"r2p": ANSWERS["r2p"]})
    assert report["programs"]["r2p"]["value"] == 0.5, "of the answers that were judged"
    assert report["failed_rows"] == {cause: 1}
    failed = judgements["judge:r2p"][2]
    assert failed["failed"] == cause and "score" not in failed and failed["error"]
    if cause == "malformed":
        assert 'it ends: "I like it."' in failed["error"], "the reply is there to be read"


def test_second_judge_and_their_agreement(tmp_path):
    report, judgements = judged(Run(tmp_path / "run", {}), judge_of(likes("good")), judge_of(points(1)))
    assert report["second"]["programs"]["r2p"]["value"] == 0.5 and "baselines" not in report["second"]
    both = report["agreement"]
    # The second gives one point for whatever is there, and none, as the first, for what is not.
    assert both["verdicts"] == 12 and both["exact"]["value"] == round(2 / 12, 4)
    assert both["difference"]["value"] == round((6 * 2 - 10) / 12, 4) and -1 <= both["kappa"] <= 1
    assert {*judgements} >= {"judge:r2p", "judge2:r2p"}
    assert judged(Run(tmp_path / "same", {}), judge_of(points(1)), judge_of(points(1)))[0]["agreement"]["exact"] == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
    }


def test_agreement_leaves_out_what_one_judge_could_not_judge(tmp_path):
    def faulty(request):
        return "I like it." if "bad" in request.messages[0].text else points(2)

    report, _ = judged(
        Run(tmp_path / "run", {}), judge_of(points(2)), judge_of(faulty), answers={"r2p": ANSWERS["r2p"]}
    )
    assert report["agreement"]["verdicts"] == 4 and report["second"]["failed_rows"] == {"malformed": 1}


# Response files


def test_scores_of_a_response_file(tmp_path):
    path = write(tmp_path, [question("1"), question("2")])
    responses = submission(TASK, [{"id": "1", "answer": "Quick ink at a low price."}, {"id": "2", "answer": None}])
    assert responses == {"1": [{"output": "Quick ink at a low price."}], "2": [{"output": ""}]}
    file = tmp_path / "responses.json"
    file.write_text(json.dumps(responses))
    task, examples, scores = score(file, path)
    wanted = coverage("Quick ink at a low price.", {"narrative": "", "aspects": ASPECTS}) / 2
    assert (task, examples) == (TASK, 2) and scores["coverage"].value == pytest.approx(wanted)
    assert "Art_and_Entertainment" in run("score", file, path).stdout


@pytest.mark.parametrize(
    ("why", "responses", "said"),
    [
        ("one missing", {"1": [{"output": "x"}]}, "1 missing (the first is '2')"),
        ("one too many", {key: [{"output": "x"}] for key in "123"}, "1 unknown (the first is '3')"),
        ("a list of none", {"1": [], "2": []}, "question 1 has [], and no list with a response"),
    ],
)
def test_response_files_are_checked_as_officially(tmp_path, why, responses, said):
    path, file = write(tmp_path, [question("1"), question("2")]), tmp_path / "responses.json"
    file.write_text(json.dumps(responses))
    with pytest.raises(SubmissionError) as caught:
        score(file, path)
    assert said in str(caught.value) and str(caught.value).startswith(str(file)), why


# The command line


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def chat(body):
    """Programs, plain, with a thought and with a plan, and a judge, told apart by what they are asked for."""
    system, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
    if "`points`" in system:
        return points(1)
    fields = {"reasoning": "hm", "evidence": '[{"item": "1", "quote": "left hand"}]'}
    fields |= {"preferences": '[{"statement": "quick ink", "items": ["1"]}]', "answer": "Quick ink."}
    wanted = [name for name in fields if f"[[ ## {name} ## ]]" in system + asked]
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{fields[name]}" for name in wanted), "[[ ## completed ## ]]"])


@pytest.fixture
def served(monkeypatch):
    """Options for a model behind HTTP, and for judges."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = ScriptedServer(chat, vllm=False)
    judges = [f"--{name}{end}" for name in ("judge", "second-judge") for end in ("", "-api-base")]
    values = ["openai/judge", server.api_base, "openai/other", server.api_base]
    pairs = [text for pair in zip(judges, values, strict=True) for text in pair]
    yield ["--model", "openai/writer", "--api-base", server.api_base], pairs
    server.stop()


def test_evaluate_with_rubrics(tmp_path, served):
    model, judges = served
    write(tmp_path / "data", [question(key) for key in "123"])
    out, task = tmp_path / "run", ["--task", TASK.name, "--data", tmp_path / "data"]
    result = run("evaluate", *task, *model, *judges, "--template", "aspects", "--output", out)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["judge"]["programs"]["r2p"]["value"] == 0.5 and report["judge"]["agreement"]["exact"]["value"] == 1
    assert {*report["programs"]["r2p"]["metrics"]} == {"coverage"}
    assert {*report["programs"]["r2p"]["baselines"]} == {"most_similar", "input"}
    for words in (
        "judge (95 %)",
        "judge, trivial baselines: most_similar 0.500",
        "judges agree on 1.000",
        "second judge",
    ):
        assert words in " ".join(result.stdout.split()), words
    assert json.loads((out / "submissions" / "r2p.json").read_text()) == {
        key: [{"output": "Quick ink."}] for key in "123"
    }


def test_predict_answers_official_questions(tmp_path, served):
    model, _ = served
    source = write(tmp_path / "data", [question("1"), question("2", profile=None), question("3")], "test")
    target = tmp_path / "answers.jsonl"
    command = ["predict", "--task", TASK.name, *model, "--template", "aspects", "--input", source, "--output", target]
    result = run(*command)
    assert result.exit_code == 3, result.output
    assert [json.loads(line)["id"] for line in target.open()] == ["1", "3"]
    responses = json.loads((tmp_path / "answers.submission.json").read_text())
    assert responses == {"1": [{"output": "Quick ink."}], "3": [{"output": "Quick ink."}], "2": [{"output": ""}]}
    assert "the official file is" in result.stderr
    whole = write(tmp_path / "whole", [question(key) for key in "123"], "test")
    assert score(tmp_path / "answers.submission.json", whole)[1] == 3


def test_rows_on_lines_are_no_official_file_whatever_their_name(tmp_path):
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(question("1")) + "\n" + json.dumps(question("2")) + "\n")
    assert not is_official(TASK, source) and [row.id for row in read(TASK, source)] == ["1", "2"]
    source.write_text(f"\ufeff {json.dumps([question('1'), question('2')])}")
    assert is_official(TASK, source) and [row.id for row in read(TASK, source)] == ["1", "2"]
    assert survey(TASK, source)[0] == 2


def test_second_judge_needs_a_first():
    result = run("evaluate", "--task", "lamp4", "--second-judge", "openai/other")
    assert result.exit_code == 2 and "--second-judge is compared with --judge" in result.stderr
