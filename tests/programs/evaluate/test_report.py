"""What a report makes of rows: intervals over users, means of users' means, floors that a task can have."""

import dspy
import pytest

from programs.evaluate.baselines import baselines
from programs.evaluate.report import differences, entry, floors
from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks import TASKS, lamp4
from programs.tasks.retrievers import default_retriever
from r2p_dspy import Profile
from tests.scripted import ScriptedEngine, completion

GOLDS = ["Rain On Monday", "Dry Tuesday", "Wednesday Off"]
INPUTS = ("article", "profile")


class Writes(dspy.Module):
    """A program that is right in the first two examples."""

    def forward(self, article, profile):
        return dspy.Prediction(headline="Nothing" if article == "2" else GOLDS[int(article)])


def rows_of(tmp_path, users):
    made = [{"id": str(n), "article": str(n), "headline": gold, "profile": Profile()} for n, gold in enumerate(GOLDS)]
    named = [{**one, **({"user": users[n]} if users else {})} for n, one in enumerate(made)]
    examples = [dspy.Example(**one).with_inputs(*INPUTS) for one in named]
    return measure(Writes(), examples, lamp4.TASK, Rows(tmp_path / "rows.jsonl"), 1, lambda: None)


@pytest.mark.parametrize(
    ("why", "users", "count"),
    [
        ("users are not known", (), None),
        ("each has one example, so there is nothing to weigh", ("ann", "bob", "cid"), None),
        ("one is not known", ("ann", "ann", None), None),
        ("one has two", ("ann", "ann", "bob"), 2),
    ],
)
def test_users_with_several_examples_count_the_same(tmp_path, why, users, count):
    rows = rows_of(tmp_path, users)
    made = entry(lamp4.TASK, rows, {}, dspy.LM("local/none"))
    assert made["metrics"]["rouge1"]["value"] == pytest.approx(2 / 3, abs=1e-4), why
    assert made.get("users") == count, why
    if count:
        assert made["per_user"]["rouge1"] == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_users_are_drawn_with_all_their_examples(tmp_path):
    """Of the draws of two users one in four has the first alone, and one in four the second."""
    rows = rows_of(tmp_path, ("ann", "ann", "bob"))
    found = entry(lamp4.TASK, rows, {}, dspy.LM("local/none"))["metrics"]["rouge1"]
    assert (found["low"], found["high"]) == (0, 1)
    nothing = [{**row, "answer": ""} for row in rows]
    found = differences(lamp4.TASK, {"cot": nothing, "r2p": rows}, "cot")["r2p"]
    assert (found["low"], found["high"]) == (0, 1)


@pytest.mark.parametrize("program", ["predict", "cot"])
def test_a_model_that_repeats_a_bracket_gives_an_unreadable_answer(tmp_path, program):
    made = dspy.Example(id="1", description="a storm", profile=Profile(), tag="comedy").with_inputs(
        "description", "profile"
    )
    lm = dspy.LM("scripted/x", engine=ScriptedEngine(completion(reasoning="hm", tag="[" * 5000)), cache=False)
    with dspy.context(lm=lm):
        (row,) = measure(
            baselines(TASKS["lamp2"])[program], [made], TASKS["lamp2"], Rows(tmp_path / "x"), 1, lambda: None
        )
    assert row["parse_failure"] and row["answer"] is None and row["calls"] == 1


def test_f1_and_rmse_are_no_means_so_users_have_none():
    row = {"gold": "4", "answer": "5", "user": "ann", "violations": [], "violations_first": []}
    row |= dict.fromkeys(
        ("prompt_tokens", "completion_tokens", "parse_failure", "interventions", "calls", "seconds"), 0
    )
    row |= dict.fromkeys(("compliant", "compliant_first", "evidence", "evidence_first"))
    made = entry(TASKS["lamp3"], [row, row], {}, dspy.LM("local/none"))
    assert set(made["metrics"]) == {"mae", "rmse"} and set(made["per_user"]) == {"mae"}


def test_floors_of_labels_are_labels_though_the_items_bear_none():
    """LaMP-1's items are papers; the most similar one's title is no answer."""
    history = Profile.of([{"id": "a", "title": "Parsing", "abstract": "We parse."}])
    made = {"id": "1", "paper": "Parsing\n[1] A\n[2] B", "profile": history, "reference": "[1]"}
    examples = [dspy.Example(**made).with_inputs("paper", "profile")]
    assert floors(TASKS["lamp1"], examples, [])["most_similar"] == 1.0


@pytest.mark.parametrize("name", TASKS)
def test_the_most_similar_item_is_the_one_that_the_retriever_finds_first(name, monkeypatch):
    """LaMP-1's retrieval leaves the paper's own title out."""
    task = TASKS[name]
    asked = "rain rain\n[1] storm\n[2] sea" if name == "lamp1" else "storm"
    items = [
        {"id": text, **dict.fromkeys(task.fields, f"{text} of {n}")} for n, text in enumerate(("rain", "storm", "x"))
    ]
    example = dspy.Example(id="1", **{task.question: asked, task.profile: Profile.of(items), task.answer: "?"})
    found = []
    ranked = lambda self, *given: found.append(self.rank(*given)) or []  # noqa: E731
    monkeypatch.setattr("metrics.trivial_baselines.BM25.__call__", ranked)
    golds = task.labels[:1] or ("?",)
    floors(task, [example.copy(**{task.answer: golds[0]})], [])
    first = default_retriever(task).rank(task.query_text(example), example[task.profile])[0]
    assert first.id == "storm" and found[0][0] == first
