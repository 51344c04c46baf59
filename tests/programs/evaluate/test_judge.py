"""A judge's part of an evaluation: each program by the rubric, R2P against the chain of thought, its cost apart."""

import json

import dspy
import pytest
from click.testing import CliRunner
from dspy.utils import exceptions as errors

import cli
from programs.evaluate import judge as judging
from programs.runs.directory import Run
from programs.tasks import lamp4
from r2p_dspy import Profile
from r2p_dspy.errors import RunError
from tests.metrics.test_judge import likes, ratings
from tests.scripted import ScriptedEngine
from tests.served import ScriptedServer

GOLDS = ["Rain On Monday", "Dry Tuesday", "Wednesday Off"]
HISTORY = Profile.of([{"id": "a", "title": "Rain Again", "text": "It rained."}])


EXAMPLES = [
    dspy.Example(id=str(n), article=f"article {n}", headline=gold, profile=HISTORY).with_inputs("article", "profile")
    for n, gold in enumerate(GOLDS)
]


def rows(*answers):
    return [{"id": str(n), "answer": answer} for n, answer in enumerate(answers)]


def judge_of(*texts):
    return dspy.LM("scripted/judge", engine=ScriptedEngine(*texts), cache=False, num_retries=0)


def either(pair, rubric):
    """A judge that can do both."""
    return lambda request: pair(request) if "`preferred`" in request.system else rubric


START = lambda *started: lambda: None  # noqa: E731


def judged(answers, lm, run, threads=2, start=START):
    report, _ = judging.judge(lamp4.TASK, EXAMPLES, answers, lm, run, threads, start)
    return report


ANSWERS = {
    "cot": rows("Rain On Monday", "Wet", "Off"),  # the user's own text once
    "r2p": rows("Rain On Monday", "Dry", None),  # as good, better, and nothing
}


def test_rates_programs_and_compares_r2p_with_cot(tmp_path):
    lm, started = judge_of(either(likes("Dry"), ratings(4, 2))), []
    start = lambda *args: started.append(args) or (lambda: None)  # noqa: E731
    report = judged(ANSWERS, lm, Run(tmp_path / "run", {}), start=start)
    assert {name: result["value"] for name, result in report["programs"].items()} == {
        "cot": pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-4),
        "r2p": pytest.approx((1 + 0.5 + 0) / 3, abs=1e-4),
    }
    pair = report["pairwise"]["r2p against cot"]
    assert (pair["value"], pair["ties"], pair["first_place"]) == (0.5, 0.3333, 0.5)
    assert all(result["low"] <= result["value"] <= result["high"] for result in (pair, *report["programs"].values()))
    # Two of cot's headlines and one of r2p's are rated, and one pair is asked for in both orders.
    assert report["calls"] == 3 + 2 == len(lm.engine.requests)
    assert report["tokens"] == {"prompt": 50, "completion": 25}
    assert (report["lm"], report["cost_usd"]) == ("scripted/judge", None)
    assert started == [("judge:cot", 3, 0), ("judge:r2p", 3, 0), ("judge:r2p:cot", 3, 0)]


def test_redacted_judgements_have_no_words_of_the_judge(tmp_path):
    lm = judge_of(either(likes("Dry"), ratings(4, 2)))
    report = [
        judging.judge(lamp4.TASK, EXAMPLES, ANSWERS, lm, Run(tmp_path / f"{redact}", {}), 1, START, redact=redact)
        for redact in (False, True)
    ]
    assert report[0][0]["programs"] == report[1][0]["programs"]
    for name, rows in report[1][1].items():
        for row, whole in zip(rows, report[0][1][name], strict=True):
            assert "reasons" not in row and row["score"] == whole["score"]
            assert all(rating["reason"] == "" for rating in row.get("ratings", {}).values())
            assert {key: rating["score"] for key, rating in row.get("ratings", {}).items()} == {
                key: rating["score"] for key, rating in whole.get("ratings", {}).items()
            }
    whole, kept = (
        "".join(path.read_text() for path in (tmp_path / name / "results").iterdir()) for name in ("False", "True")
    )
    for words in ("content so so", "the user is terse"):
        assert words in whole and words not in kept


def test_kept_judgement_is_not_asked_again(tmp_path):
    lm, run = judge_of(either(likes("Dry"), ratings())), Run(tmp_path / "run", {})
    before = judged(ANSWERS, lm, run)
    kept = {path.stem: [json.loads(line) for line in path.open()] for path in (tmp_path / "run/results").iterdir()}
    assert sorted(kept) == ["judge-cot", "judge-r2p", "judge-r2p-cot"]
    assert kept["judge-cot"][1]["ratings"]["style"] == {"reason": "style so so", "score": 2}
    assert [row["firsts"] for row in sorted(kept["judge-r2p-cot"], key=lambda row: row["id"])] == [
        [],
        [True, False],
        [],
    ]
    calls = len(lm.engine.requests)
    assert judged(ANSWERS, lm, run) == before
    assert len(lm.engine.requests) == calls


def test_judge_that_always_fails_stops_resumable_run(tmp_path):
    run = Run(tmp_path / "run", {})
    with pytest.raises(RunError, match=r"2 of 3 rows of judge-cot failed \(2 malformed; the last: 2.*--resume"):
        judged(ANSWERS, judge_of("I like it."), run, threads=1)
    good = judge_of(either(likes("Dry"), ratings()))
    assert judged(ANSWERS, good, run)["programs"]["cot"]["value"] == pytest.approx(2 / 3, abs=1e-4)


@pytest.mark.parametrize(
    "fault, cause",
    [
        ("I like it.", "malformed"),
        (errors.LMTimeoutError("no answer"), "timeout"),
        (errors.LMInvalidRequestError("no", provider_code="content_filter"), "filtered"),
    ],
)
def test_failed_judgement_is_no_score(tmp_path, fault, cause):
    def faulty(request):
        return fault if "Dry" in request.messages[0].text else ratings(4, 2)

    answers = {"r2p": rows("Rain On Monday", "Dry", "Off")}
    report, judgements = judging.judge(
        lamp4.TASK, EXAMPLES, answers, judge_of(faulty), Run(tmp_path / "run", {}), 2, lambda *started: lambda: None
    )
    assert report["programs"]["r2p"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert report["failed_rows"] == {cause: 1}
    assert [row.get("failed") for row in judgements["judge:r2p"]] == [None, cause, None]


def test_text_that_failed_is_not_judged(tmp_path):
    failed = {"id": "1", "answer": None, "failed": "timeout"}
    answers = {"cot": [ANSWERS["cot"][0], failed, ANSWERS["cot"][2]], "r2p": ANSWERS["r2p"]}
    report = judged(answers, judge_of(either(likes("Dry"), ratings(4, 2))), Run(tmp_path / "run", {}))
    assert report["programs"]["cot"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert report["pairwise"]["r2p against cot"]["value"] == pytest.approx((0.5 + 0) / 2)


def test_no_pairs_without_cot(tmp_path):
    report = judged({"r2p:template": ANSWERS["r2p"]}, judge_of(ratings()), Run(tmp_path / "run", {}))
    assert list(report["programs"]) == ["r2p:template"] and report["pairwise"] == {}


@pytest.fixture
def headlines(tmp_path):
    """A folder in LaMP's format with articles of two users, two of them with a user's name."""
    items = [{"id": "a", "title": "Rain Again", "text": "It rained all day."}]
    texts = ["It rained on Monday.", "Nothing fell on Tuesday.", "On Wednesday we rested."]
    questions = [
        {"id": str(n), "input": lamp4.TASK.wording(text), "profile": items, "user_id": "ann" if n < 2 else "bob"}
        for n, text in enumerate(texts)
    ]
    golds = [{"id": str(n), "output": gold} for n, gold in enumerate(GOLDS)]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dev_questions.json").write_text(json.dumps(questions))
    (folder / "dev_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))
    return folder


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def chat(body):
    """Programs and judge, told apart by what they are asked for."""
    system = body["messages"][0]["content"]
    if "`headline`" in system:
        return "[[ ## reasoning ## ]]\nwet\n\n[[ ## headline ## ]]\nMonday Wet\n\n[[ ## completed ## ]]"
    if "`preferred`" in system:
        return "[[ ## reason ## ]]\nnone\n\n[[ ## preferred ## ]]\nfirst\n\n[[ ## completed ## ]]"
    return ratings(5, 4)


@pytest.fixture
def served(monkeypatch):
    """Options for programs and a judge behind HTTP."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = ScriptedServer(chat, vllm=False)
    judge = ["--judge", "openai/judge", "--judge-api-base", server.api_base]
    yield ["--model", "openai/writer", "--api-base", server.api_base, *judge]
    server.stop()


def test_evaluate_with_a_judge(tmp_path, headlines, served):
    out = tmp_path / "run"
    result = run("evaluate", "--task", "lamp4", "--data", headlines, *served, "--output", out)
    assert result.exit_code == 0, result.stderr
    report = json.loads((out / "report.json").read_text())
    judged = report["judge"]
    assert judged["lm"] == "openai/judge" and list(judged["programs"]) == ["predict", "cot", "r2p"]
    assert judged["calls"] > 0 and judged["tokens"]["prompt"] == 3 * judged["calls"]
    assert report["programs"]["predict"]["calls"] == 3, "the judge's calls are not the program's"
    assert report["programs"]["r2p"]["users"] == 2 and set(report["programs"]["r2p"]["per_user"]) == {
        "rouge1",
        "rougeL",
    }
    for word in ("judge (95 %)", "judge, r2p against cot", "mean of the means of 2 users", "judge openai/judge"):
        assert word in result.stdout
    scored = run("score", out / "submissions" / "r2p.json", headlines / "dev_outputs.json")
    value = report["programs"]["r2p"]["metrics"]["rouge1"]["value"]
    assert scored.exit_code == 0 and f"{value:.3f}" in scored.stdout and "LaMP_4" in scored.stdout


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("a task with labels", ["--judge", "pocket"], "--judge is for free text"),
        ("no such model", ["--task", "lamp4", "--data", "DATA", "--judge", "nonesuch"], "nonesuch"),
        (
            "no such address",
            ["--task", "lamp4", "--data", "DATA", "--judge", "pocket", "--judge-api-base", "x"],
            "pocket",
        ),
    ],
)
def test_unusable_judge_is_one_line(why, arguments, said, tmp_path, headlines):
    arguments = [headlines if argument == "DATA" else argument for argument in arguments]
    result = run("evaluate", *arguments, "--output", tmp_path / "run")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1, why
    assert not (tmp_path / "run").exists()


def test_unparsable_judgement_is_one_line(tmp_path, headlines, served):
    """The pocket model knows no such format."""
    options = ["--task", "lamp4", "--data", headlines, *served[:4], "--judge", "pocket", "--num-threads", 1]
    result = run("evaluate", *options, "--output", tmp_path / "run")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert "rows of judge-predict failed (2 malformed" in line and "--resume" in line
    assert not (tmp_path / "run" / "report.json").exists()


def test_score_with_other_ids_is_one_line(tmp_path, headlines):
    golds = headlines / "dev_outputs.json"
    data = json.loads(golds.read_text())
    data["golds"].pop()
    (tmp_path / "predictions.json").write_text(json.dumps(data))
    result = run("score", tmp_path / "predictions.json", golds)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "1 missing (the first is '2')" in result.stderr
