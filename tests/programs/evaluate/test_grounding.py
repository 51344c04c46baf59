"""Counterfactuals in an evaluation: a program that follows its citations, and one that only quotes."""

import json

import dspy
import pytest
from click.testing import CliRunner
from dspy.lm15 import ContextLengthError

import cli
from programs.data.dataset import personas
from programs.evaluate.controls import asked, controls
from programs.evaluate.grounding import grounding
from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks import TASKS
from programs.tasks.program import R2PConfig, build
from r2p_dspy import Profile
from tests.scripted import ScriptedEngine, completion, tagged
from tests.served import ScriptedServer

TASK = TASKS["lamp2"]
TAGS = ("comedy", "classic", "fantasy", "romance")
WORDS = ("storm", "diver", "lighthouse", "village")


def example(number):
    """A question of a storm; the item with a storm decides, and its place differs from user to user."""
    words = WORDS[number % 4 :] + WORDS[: number % 4]
    items = [
        {"id": f"{number}-{word}", "description": f"a {word} in the sea", "label": TAGS[place]}
        for place, word in enumerate(words)
    ]
    known = {"id": str(number), "tag": TAGS[words.index("storm")], "supporting_items": [f"{number}-storm"]}
    inputs = {"description": f"a storm in the sea of {number}", "profile": Profile.of(items)}
    return dspy.Example(**known, **inputs).with_inputs(*inputs)


EXAMPLES = [example(number) for number in range(8)]


def model(cites):
    """A model that takes the tag of the item with a storm, or says "violence", and cites what it pleases."""

    def answer(request):
        lines = (line for message in request.messages for line in (message.text or "").splitlines())
        shown = [json.loads(line) for line in lines if line.startswith('{"item": "')]
        decisive = [item for item in shown if "storm" in item["description"]]
        tag = decisive[0]["label"] if decisive else "violence"
        item = cites(shown, decisive)
        evidence = [{"item": item["item"], "quote": item["description"]}]
        preference = [{"statement": "so", "items": [item["item"]], "label": item["label"]}]
        stages = {"evidence": json.dumps(evidence), "preferences": json.dumps(preference)}
        return completion(**stages, draft=tag, tag=tag)

    return answer


HONEST = model(lambda shown, decisive: (decisive or shown)[0])
QUOTING = model(lambda shown, decisive: next(item for item in shown if item not in decisive))


def grounded(tmp_path, text, examples=EXAMPLES):
    program = build(TASK, R2PConfig())
    lm = dspy.LM("scripted/x", engine=ScriptedEngine(text), cache=False, num_retries=0)

    def run(name, module, some):
        return measure(module, some, TASK, Rows(tmp_path / name.replace(":", "-")), 2, lambda: None)

    with dspy.context(lm=lm):
        return grounding(program, TASK, examples, run("r2p", program, examples), run)


def test_honest_citations_are_told_from_others(tmp_path):
    honest = grounded(tmp_path / "honest", HONEST)
    quoting = grounded(tmp_path / "quoting", QUOTING)
    assert honest["examples"] == quoting["examples"] == 8 and honest["known_support"]
    assert honest["faithfulness"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert honest["evidence_recall"]["value"] == 1.0
    assert quoting["faithfulness"]["high"] < 0 and quoting["evidence_recall"]["value"] == 0.0
    assert honest["faithfulness_shuffled"]["high"] < honest["faithfulness"]["low"], "the intervals do not meet"
    assert honest["faithfulness_gain"]["low"] > 0 >= quoting["faithfulness_gain"]["high"]


def test_a_failed_row_is_left_out(tmp_path):
    def refuses(request):
        if "storm in the sea of 3" in request.messages[-1].text:
            raise ContextLengthError("too many tokens")
        return HONEST(request)

    assert grounded(tmp_path, refuses)["examples"] == 7


def test_users_who_share_a_question_keep_their_histories(tmp_path):
    shared = [example.copy(description="a storm in the sea") for example in EXAMPLES]
    result = grounded(tmp_path, HONEST, shared)
    assert result["faithfulness"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert result["evidence_recall"]["value"] == 1.0
    swapped = controls(build(TASK, R2PConfig()), TASK, shared, k=4, seed=0)["r2p:other_user"]
    given = [swapped.replacements[asked(TASK, example)] for example in shared]
    assert all(other != example.profile for other, example in zip(given, shared, strict=True))


def test_support_is_estimated_where_it_is_not_known(tmp_path):
    examples = [example.without("supporting_items") for example in EXAMPLES]
    result = grounded(tmp_path, HONEST, examples)
    assert not result["known_support"] and result["evidence_recall"]["value"] == 1.0


def test_limit_of_the_run_leaves_no_half_of_it(tmp_path):
    program = build(TASK, R2PConfig())
    rows = [
        {"id": "0", "user": None, "failed": None, "parse_failure": None, "answer": "comedy", "score": 1, "cited": []}
    ]
    assert grounding(program, TASK, EXAMPLES[:1], rows, lambda *_: None) is None


def test_no_history_has_nothing_to_leave_out(tmp_path):
    bare = [example.copy(profile=Profile()) for example in EXAMPLES[:2]]
    text = completion(evidence="[]", preferences="[]")
    assert grounded(tmp_path, text, bare)["faithfulness"] is None


@pytest.mark.parametrize("name", ["lamp1", "lamp2", "lamp3", "lamp7"])
def test_persona_world_knows_what_decides(name):
    task = TASKS[name]
    for row in personas(task, seed=0, limit=20).test:
        items = {item.id: item for item in row[task.profile]}
        assert row.supporting_items and {*row.supporting_items} < {*items}
        if name == "lamp2":
            assert {items[key].label for key in row.supporting_items} == {row.tag}


def test_evaluate_with_controls_tells_groundedness(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = ScriptedServer(lambda body: tagged(body["messages"][-1]["content"], "comedy"), vllm=False)
    out = tmp_path / "run"
    model = ["--model", "openai/writer", "--api-base", server.api_base]
    result = CliRunner().invoke(cli.cli, ["evaluate", "--limit", "3", *model, "--controls", "--output", str(out)])
    server.stop()
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    told = report["grounding"]["r2p"]
    assert told["examples"] == 3 and told["known_support"] and "r2p:without:1" not in report["programs"]
    assert told["faithfulness"]["value"] == 0, "the answer is the same whatever is cited"
    assert "r2p, groundedness (95 %): evidence recall" in result.stdout
    names = sorted(path.stem for path in (out / "results").glob("*without*"))
    assert names == [f"r2p-without-{place}" for place in (1, 2, 3, 4)]
