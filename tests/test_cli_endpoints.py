"""The commands against an endpoint that behaves as real ones do."""

import json
from pathlib import Path

import pytest

from programs.runs.directory import Rows
from tests.endpoint import Endpoint, Reply
from tests.scripted import STAGES
from tests.test_cli import report_of, run

ROWS = 3


@pytest.fixture(autouse=True)
def _key(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)


def values(body):
    """Every field of every program's answer, with the prompt's first item as evidence."""
    lines = [line for message in body["messages"] for line in message["content"].splitlines()]
    quote = json.loads(next(line for line in reversed(lines) if line.startswith('{"item": "1"')))["description"]
    evidence, preferences = [{"item": "1", "quote": quote}], [{"statement": "so", "items": ["1"], "label": None}]
    typed = {"evidence": evidence, "preferences": preferences, "verification": {"approved": True, "reason": "so"}}
    return {"reasoning": "so", **STAGES, **typed, "draft": "comedy", "tag": "comedy"}


def chat(body):
    fields = values(body).items()
    return "\n".join(f"[[ ## {name} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for name, v in fields)


def evaluated(endpoint, *options):
    """The programs of the report of a small evaluation."""
    arguments = ["--model", "openai/test", "--api-base", endpoint.api_base, "--limit", ROWS, "--output", "run"]
    result = run("evaluate", *arguments, "--num-threads", 2, *options)
    assert result.exit_code == 0, result.output + result.stderr
    return report_of("run")["programs"]


@pytest.mark.parametrize(
    ("reply", "calls", "compliance"),
    [
        (chat, {"predict": 1, "cot": 1, "r2p": 1}, 1),
        # Stock DSPy asks a second time, in JSON; R2P reads the first answer.
        (lambda body: Reply.json(values(body)), {"predict": 2, "cot": 2, "r2p": 1}, 0),
        (lambda body: Reply.json(values(body), fenced=True), {"predict": 2, "cot": 2, "r2p": 1}, 0),
        (lambda body: Reply.text(chat(body), "hm"), {"predict": 1, "cot": 1, "r2p": 1}, 1),
        (lambda body: Reply.text(chat(body)).without_usage(), {"predict": 1, "cot": 1, "r2p": 1}, 1),
    ],
)
def test_no_right_answer_is_lost(reply, calls, compliance):
    with Endpoint(reply) as endpoint:
        programs = evaluated(endpoint)
        assert endpoint.asked == ROWS * sum(calls.values())
    for name, program in programs.items():
        assert program["parse_failures"] == {} and program["calls"] == ROWS * calls[name]
        assert [row["answer"] for row in Rows(Path(f"run/results/{name}.jsonl"))] == ["comedy"] * ROWS
    assert programs["r2p"]["compliance_first"] == compliance and programs["r2p"]["evidence_validity"] == 1


@pytest.mark.parametrize(
    ("reply", "cause", "calls", "kept"),
    [
        (Reply.refusal("I can't."), "refused", 1, "I can't."),
        (Reply.filtered(), "filtered", 1, ""),
        (Reply.filtered_prompt(), "filtered", 1, ""),
        (Reply.no_room(), "no_room", 1, ""),
        (Reply.cut("[[ ## requirements"), "cut_off", 2, "[[ ## requirements"),
        (Reply.null(), "empty", 3, ""),
        (Reply.text("Comedy, I'd say."), "malformed", 3, "Comedy, I'd say."),
        (Reply.tool_call("search"), "malformed", 3, ""),
    ],
)
def test_unreadable_answers_are_counted_by_cause(reply, cause, calls, kept):
    with Endpoint(reply) as endpoint:
        programs = evaluated(endpoint)
    for name, program in programs.items():
        assert program["parse_failures"] == {cause: ROWS}, name
        rows = Rows(Path(f"run/results/{name}.jsonl"))
        assert {(row["parse_failure"], row["completion"]) for row in rows} == {(cause, kept)}
    assert programs["r2p"]["calls"] == (0 if reply.status != 200 else ROWS * calls)


def test_predict_keeps_cause_and_completion():
    row = {"description": "a film", "profile": [{"id": "m1", "description": "a dog", "tag": "comedy"}]}
    Path("rows.jsonl").write_text("\n".join(json.dumps({"id": str(n), **row}) for n in range(3)))
    replies = [lambda body: Reply.json(values(body)), Reply.refusal("I can't."), chat]
    with Endpoint(*replies) as endpoint:
        options = ["--model", "openai/test", "--api-base", endpoint.api_base, "--num-threads", 1]
        result = run("predict", "--input", "rows.jsonl", "--output", "answers.jsonl", *options)
        assert (result.exit_code, endpoint.asked) == (3, 3), result.output + result.stderr
    assert [(answer["id"], answer["tag"]) for answer in Rows(Path("answers.jsonl"))] == [
        ("0", "comedy"),
        ("2", "comedy"),
    ]
    (failure,) = Rows(Path("answers.failed.jsonl"))
    assert (failure["id"], failure["cause"], failure["completion"]) == ("1", "refused", "I can't.")
    assert failure["error"].startswith('the answer cannot be read: the model refuses to answer; it ends: "I can\'t." (')
