"""The commands against an endpoint that behaves as real ones do."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from programs.runs.directory import Rows
from tests.endpoint import Endpoint, Reply
from tests.scripted import STAGES
from tests.test_cli import report_of, run

ROWS = 2


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


@dataclass(frozen=True)
class Kind:
    """A kind of replies, and what becomes of it.

    Args:
        words: what the server replies, in words.
        reply: the reply to a request.
        calls: how many calls R2P makes for a row.
        baseline_calls: how many calls plain prediction and chain of thought make, each.
        cause: why R2P cannot read it; "" for a right answer.
        baseline_cause: the same of the baselines, which are stock DSPy's; the same cause by default.
        compliant: whether R2P counts it as being in the format that was asked for.
        kept: what the row of an unreadable answer keeps of it.
    """

    words: str
    reply: Reply | Callable[[dict], Reply | str]
    calls: int
    baseline_calls: int
    cause: str = ""
    baseline_cause: str | None = None
    compliant: bool = True
    kept: str = ""


# Stock DSPy asks a second time, in JSON, whatever was wrong with the answer; it reads no XML under the chat adapter.
READABLE = (
    Kind("the format that was asked for", chat, 1, 1),
    Kind("JSON", lambda body: Reply.json(values(body)), 1, 2, compliant=False),
    Kind(
        "JSON in a fence, after a sentence", lambda body: Reply.json(values(body), fenced=True), 1, 2, compliant=False
    ),
    Kind("XML", lambda body: Reply.xml(values(body)), 1, 2, baseline_cause="malformed", compliant=False),
    Kind("prose before the answer", lambda body: f"Sure, here you go:\n\n{chat(body)}", 1, 1),
    Kind("prose after it", lambda body: f"{chat(body)}\n\nAnything else?", 1, 2, baseline_cause="malformed"),
    Kind("a thought as `reasoning_content`", lambda body: Reply.text(chat(body), "hm"), 1, 1),
    Kind("a thought as `reasoning`", lambda body: Reply.text(chat(body), "hm", "reasoning"), 1, 1),
    Kind("a thought between `<think>` tags", lambda body: f"<think>\nhm\n</think>\n\n{chat(body)}", 1, 1),
    Kind("no usage", lambda body: Reply.text(chat(body)).without_usage(), 1, 1),
    Kind("cut off after the answer", lambda body: Reply.cut(chat(body)), 1, 1),
)
UNREADABLE = (
    Kind("a refusal beside the text", Reply.refusal("I can't."), 1, 2, "refused", kept="I can't."),
    Kind("nothing: filtered", Reply.filtered(), 1, 2, "filtered"),
    Kind("status 400: the prompt was filtered", Reply.filtered_prompt(), 1, 1, "filtered"),
    Kind("nothing: the thought took all tokens", Reply.no_room(), 1, 2, "no_room"),
    Kind("cut off before the answer", Reply.cut("[[ ## require"), 2, 2, "cut_off", kept="[[ ## require"),
    Kind("an empty text", Reply.text(""), 3, 2, "empty"),
    Kind("an empty text beside a thought", Reply.text("", "hm"), 3, 2, "empty", kept="hm"),
    Kind("`null`", Reply.null(), 3, 2, "empty"),
    Kind(
        "prose alone, or a refusal in prose", Reply.text("I'd say comedy."), 3, 2, "malformed", kept="I'd say comedy."
    ),
    Kind("a tool call", Reply.tool_call("search"), 3, 2, "malformed"),
)
each_kind = pytest.mark.parametrize("kind", READABLE + UNREADABLE, ids=lambda kind: kind.words)


def asking(endpoint):
    return ["--model", "openai/test", "--api-base", endpoint.api_base, "--num-threads", 2]


@each_kind
def test_evaluate(kind):
    with Endpoint(kind.reply) as endpoint:
        result = run("evaluate", *asking(endpoint), "--limit", ROWS, "--output", "run")
        assert result.exit_code == 0, result.output + result.stderr
        assert endpoint.asked == ROWS * (kind.calls + 2 * kind.baseline_calls)
    baseline_cause = kind.cause if kind.baseline_cause is None else kind.baseline_cause
    programs = report_of("run")["programs"]
    for name, program in programs.items():
        cause, calls = (kind.cause, kind.calls) if name == "r2p" else (baseline_cause, kind.baseline_calls)
        rows = [*Rows(Path(f"run/results/{name}.jsonl"))]
        assert program["parse_failures"] == ({cause: ROWS} if cause else {}), name
        assert [row["answer"] for row in rows] == [None if cause else "comedy"] * ROWS, name
        assert {row["parse_failure"] for row in rows} == {cause or None}
        if kind.cause:
            assert {row["completion"] for row in rows} == {kind.kept}
        answered = not isinstance(kind.reply, Reply) or kind.reply.status == 200
        assert program["calls"] == (ROWS * calls if answered else 0), "an error is no answered call"
    if not kind.cause:
        assert programs["r2p"]["compliance_first"] == kind.compliant
        assert programs["r2p"]["evidence_validity"] == 1


@each_kind
def test_predict(kind):
    row = {"description": "a film", "profile": [{"id": "m1", "description": "a dog", "tag": "comedy"}]}
    Path("rows.jsonl").write_text("\n".join(json.dumps({"id": str(n), **row}) for n in range(ROWS)))
    with Endpoint(kind.reply) as endpoint:
        result = run("predict", *asking(endpoint), "--input", "rows.jsonl", "--output", "answers.jsonl")
        assert result.exit_code == (3 if kind.cause else 0), result.output + result.stderr
        assert endpoint.asked == ROWS * kind.calls
    answers, failures = (Path(name) for name in ("answers.jsonl", "answers.failed.jsonl"))
    if kind.cause:
        assert not [*Rows(answers)]
        assert [(row["cause"], row["completion"]) for row in Rows(failures)] == [(kind.cause, kind.kept)] * ROWS
    else:
        assert [row["tag"] for row in Rows(answers)] == ["comedy"] * ROWS
        assert [row["violations"] for row in Rows(answers)] == [[]] * ROWS and not failures.exists()


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (400, ROWS), (404, ROWS)])
def test_request_that_must_fail_is_made_once(status, requests):
    """A wrong key stops the command at once; a request that the server refuses fails its row."""
    with Endpoint(Reply.http_error(status, "No.")) as endpoint:
        result = run("evaluate", *asking(endpoint), "--num-threads", 1, "--limit", ROWS, "--output", "run")
        assert (result.exit_code, endpoint.asked) == (2, requests)
    # The server's words may quote a user: the line names the file of the run that has them.
    words = Path("run/results/predict.jsonl").read_text() if requests > 1 else result.stderr.splitlines()[-1]
    assert "No." in words and ("run/results/predict.jsonl" in result.stderr or requests == 1)


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
