"""The tasks: LaMP's wording and back, and what its official retrieval matches."""

from dataclasses import replace

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs import load
from programs.tasks import TASKS
from programs.tasks.program import R2PConfig, build
from programs.tasks.retrievers import default_retriever
from programs.tasks.task import Task, TaskError
from r2p_dspy import ConfigError, Profile
from r2p_dspy.retrieval.retriever import query_text

CITED = (
    'For an author who has written the paper with the title "Parsing With Less", which reference is related? Just '
    'answer with [1] or [2] without explanation. [1]: "A Grammar of News" [2]: "Deep Sea Sensors"'
)
# What LaMP's files hold, what of it is asked, and what the official script matches with.
INPUTS = {
    "lamp1": (
        CITED,
        "Parsing With Less\n[1] A Grammar of News\n[2] Deep Sea Sensors",
        "A Grammar of News Deep Sea Sensors",
    ),
    "lamp2": (TASKS["lamp2"].wording("A diver: lost."), "A diver: lost.", "A diver: lost."),
    "lamp3": (TASKS["lamp3"].wording("It broke."), "It broke.", "It broke."),
    "lamp4": ("Generate a headline for the following article: Rain.", "Rain.", "Rain."),
    "lamp5": (
        "Generate a title for the following abstract of a paper: We parse: so.",
        "We parse: so.",
        "We parse: so.",
    ),
    "lamp6": ("Generate a subject for the following email: Hi all,", "Hi all,", "Hi all,"),
    "lamp7": (
        "Paraphrase the following tweet without any explanation before or after it: late: again",
        "late: again",
        "late: again",
    ),
    "longlamp-abstract": (
        'Generate an abstract for the title "On Rain" using the following items: 1. rain 2. items: wet',
        'Generate an abstract for the title "On Rain" using the following items: 1. rain 2. items: wet',
        "1. rain 2. items: wet",
    ),
    "longlamp-topic": ("Generate the content for a reddit post Rain.",) * 3,
    "longlamp-review": ('Generate the review text … rating of "4.0" for a product with description "A kayak".',) * 3,
    "longlamp-email": ("Generate the email for the subject: Rain",) * 2 + ("Rain",),
    **dict.fromkeys(("lampqa-art", "lampqa-lifestyle", "lampqa-society"), ("Which boots?",) * 3),
    "commits": (
        "Generate a subject for the following commit message: Tabs: they are wide.",
        "Tabs: they are wide.",
        "Tabs: they are wide.",
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_question_and_query_as_officially(name):
    task, (text, question, matched) = TASKS[name], INPUTS[name]
    assert task.query(text) == question and task.wording(question) == text
    assert query_text({task.question: question}, default_retriever(task).query) == matched


def test_quotes_in_titles_are_matched_as_officially():
    # It takes the second and third text in quotes, whatever stands there.
    text = CITED.replace("Parsing With Less", 'On "Less" Data')
    task = TASKS["lamp1"]
    assert task.query(text) == 'On "Less" Data\n[1] A Grammar of News\n[2] Deep Sea Sensors'
    officially = " ".join(text.split('"')[3:6:2])
    assert task.query_text({task.question: task.query(text)}) == officially


@pytest.mark.parametrize("name", [name for name in TASKS if name != "lamp1"])
@given(question=st.text(min_size=1).filter(lambda text: text == text.strip() and text))
def test_question_survives_its_wording(name, question):
    task = TASKS[name]
    assert task.query(task.wording(question)) == question


@given(st.tuples(*[st.text(st.characters(exclude_characters='"\n', codec="utf-8"), min_size=1)] * 3))
def test_three_titles_survive_their_wording(titles):
    paper, first, second = (title.strip() or "x" for title in titles)
    task, question = TASKS["lamp1"], f"{paper}\n[1] {first}\n[2] {second}"
    assert task.query(task.wording(question)) == question


@pytest.mark.parametrize("name", TASKS)
def test_each_task_has_a_program(name, scripted):
    task = TASKS[name]
    program = load(name)
    answer = (task.labels or ("Rain Again",))[0]
    fields = {
        "requirements": "what it says",
        "evidence": "[]",
        "preferences": "[]",
        "draft": answer,
        "verification": '{"approved": true, "reason": "there is no history"}',
        task.answer: answer,
    }
    text = "\n\n".join(f"[[ ## {field} ## ]]\n{value}" for field, value in fields.items())
    scripted(f"{text}\n\n[[ ## completed ## ]]")
    prediction = program(**{task.question: INPUTS[name][1], task.profile: Profile()})
    assert isinstance(prediction, dspy.Prediction)
    assert str(prediction[task.answer]) == answer and prediction.violations == []


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("lamp1", {}),
        ("lamp2", {"description": "description", "tag": "label"}),
        ("lamp3", {"review": "text", "score": "label"}),
        ("lamp4", {"article": "text", "headline": "title"}),
        ("lamp7", {}),
        ("commits", {"body": "text", "subject": "title"}),
        ("longlamp-topic", {"request": "summary", "post": "text"}),
        ("lampqa-art", {}),
    ],
)
def test_items_that_read_as_answered_inputs(name, turns):
    assert TASKS[name].turns == turns
    if not turns:
        with pytest.raises(ConfigError, match=f"an item of {name} is no input that the user answered"):
            build(TASKS[name], R2PConfig(history="turns"))


def test_program_shows_items_as_turns(scripted):
    task = TASKS["lamp2"]
    module = build(task, R2PConfig(history="turns", template="none", constrain="off"))
    engine = scripted("[[ ## tag ## ]]\nfantasy\n\n[[ ## completed ## ]]")
    history = [{"id": "1", "description": "a wizard in the city", "label": "fantasy"}]
    assert module(description="a witch in the woods", profile=history).tag == "fantasy"
    assert [message.role for message in engine.requests[0].messages] == ["user", "assistant", "user"]


ARTICLES = {"fields": ("text", "title"), "matched": (), "quotable": (), "optional": ()}


@pytest.mark.parametrize(
    ("answer", "given", "turns"),
    [
        ("title", {}, {"body": "text", "title": "title"}),
        ("headline", {}, {}),  # which of the two is the headline?
        ("headline", {"asked": "text"}, {"body": "text", "headline": "title"}),
        ("headline", {"asked": "title"}, {"body": "title", "headline": "text"}),
        ("headline", {"written": "title"}, {"body": "text", "headline": "title"}),
    ],
)
def test_turns_of_an_answer_with_a_name_of_its_own(answer, given, turns):
    signature = dspy.Signature(f"body, profile: Profile -> {answer}", custom_types={"Profile": Profile})
    task = Task("mine", signature, "body", answer, ("text", "title"), ("rouge1",), **given)
    assert task.turns == turns


@pytest.mark.parametrize(
    "given",
    [{"fields": ("text",), "asked": "text", "written": ""}, {"asked": "title", "written": "title"}, {"asked": "title"}],
)
def test_an_answer_cannot_belong_to_itself(given):
    with pytest.raises(TaskError, match="is what the user wrote; name the field that it answered"):
        replace(TASKS["commits"], **{**ARTICLES, **given})


def test_unknown_field_that_was_asked():
    with pytest.raises(TaskError, match="unknown field 'bod'; did you mean 'body'"):
        replace(TASKS["commits"], fields=("title", "body"), matched=(), quotable=(), asked="bod")
