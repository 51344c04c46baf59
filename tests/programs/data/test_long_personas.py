"""The persona world's long answers and rubrics: what is right follows from the history, and floors stay below it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs.data.dataset import PERSONA_WORLD, personas
from programs.data.personas import LONG_MAKERS, advice, reviews
from programs.data.personas.world import case, draw, example, support
from programs.evaluate.baselines import floors
from programs.runs.cautions import cautions
from programs.tasks import TASKS
from r2p_dspy.files import digest
from tests.test_cli import run

EACH = pytest.mark.parametrize("name", LONG_MAKERS)
NUMBERS = st.integers(0, 999_999)
QUICK = settings(max_examples=50)


def sentences(text):
    return [sentence.strip() for sentence in text.split(".") if sentence.strip()]


@EACH
@QUICK
@given(number=NUMBERS)
def test_three_items_decide_and_answers_have_60_to_120_words(name, number):
    drawn = case(LONG_MAKERS[name], number)
    assert 60 <= len(drawn.answer.split()) <= 120
    assert 60 <= len(drawn.blind.split()) <= 120
    for cue in drawn.cues:
        assert f" {cue.word} " in f" {drawn.question} " and cue.value not in drawn.question.split()
        texts = [json.dumps(item) for item in drawn.items]
        assert sum(f" {cue.word} " in text for text in texts) == 1, "one item speaks of a part"
    assert len(support(drawn)) == 3 < len(drawn.items)


@QUICK
@given(NUMBERS)
def test_review_is_put_together_from_the_history(number):
    drawn = case(reviews.case, number)
    opening, *remarks, closing = sentences(drawn.answer)
    deciding = [item for item in drawn.items if item["id"] in support(drawn)]
    known = {sentence for item in deciding for sentence in sentences(item["reviewText"])}
    assert {*remarks} < known and closing in known, "word for word"
    product = drawn.question.split('"')[3].split()[0]
    assert {opening.replace(product, "_")} == {
        sentences(item["reviewText"])[0].replace(item["description"].split()[0], "_") for item in drawn.items
    }


@QUICK
@given(NUMBERS)
def test_rubric_is_what_the_history_says(number):
    drawn = case(advice.case, number)
    rubric = example(TASKS["lampqa-lifestyle"], drawn).rubric
    texts = [item["text"] for item in drawn.items if item["id"] in support(drawn)]
    assert len(rubric.aspects) == 3 and len(sentences(rubric.narrative)) == 3
    for aspect, cue in zip(rubric.aspects, drawn.cues, strict=True):
        assert aspect.evidence in rubric.narrative and sum(aspect.evidence in text for text in texts) == 1
        assert aspect.aspect == f"{cue.value} {cue.word}"


@EACH
def test_gold_gets_full_marks_and_floors_do_not(name):
    task, data = TASKS[name], personas(TASKS[name], seed=0, limit=40)
    truth = {str(drawn.persona): drawn.answer for drawn in draw(LONG_MAKERS[name], "test", 40)}
    answers, golds = [truth[row.id] for row in data.test], [row[task.gold] for row in data.test]
    first = task.metrics[0]
    for metric in task.metrics:
        assert task.metric(metric).corpus(answers, golds, ()) > 0.999, metric
    lowest = floors(task, data.test, data.train)[first]
    assert {*lowest} == {"most_similar", "input", "blind_oracle"}
    assert max(lowest.values()) < 0.75, lowest
    assert data.source == PERSONA_WORLD and task.by_rubric == (name == "lampqa-lifestyle")


@EACH
def test_nothing_of_the_answer_is_an_input(name):
    row = personas(TASKS[name], seed=0, limit=1).test[0]
    assert {*row.inputs().keys()} == {TASKS[name].question, TASKS[name].profile}
    assert row.supporting_items and "rubric" not in row.inputs()


@pytest.mark.parametrize(
    ("name", "expected"), [("longlamp-review", "99fa39587e23256b"), ("lampqa-lifestyle", "78dd28c2bd0744f1")]
)
def test_world_stays_as_it_is(name, expected):
    drawn = [[each.question, each.items, each.answer] for each in draw(LONG_MAKERS[name], "test", 20)]
    assert digest(json.dumps(drawn)) == expected


def test_pocket_model_is_said_not_to_know_them():
    for model, source, lines in (("pocket", PERSONA_WORLD, 1), ("openai/m", PERSONA_WORLD, 0)):
        told = cautions(TASKS["longlamp-review"], ["a b"] * 20, model, source)
        assert sum("was not trained on longlamp-review" in line for line in told) == lines
    assert not any("not trained on" in line for line in cautions(TASKS["lamp4"], ["a"] * 20, "pocket", PERSONA_WORLD))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("longlamp-review", "request: Generate the review text"), ("lampqa-lifestyle", "question: which kind of ")],
)
def test_data_show(name, shown):
    result = run("data", "show", name)
    assert result.exit_code == 0 and shown in result.output
