"""R2P with its template inside a model's native thinking."""

import dspy
import pytest

from r2p_dspy import (
    R2P,
    TEMPLATE,
    All,
    AssertionFailed,
    Evidence,
    Preference,
    Stage,
    Template,
    Verification,
    optimizing,
)
from r2p_dspy.prompting.tags import render
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import opening, written

STAGES = {
    "requirements": "a tag for the lighthouse film",
    "evidence": [Evidence(item="1", quote="a lighthouse")],
    "preferences": [Preference(statement="lighthouses are sad", items=["1"], label="romance")],
    "draft": "romance",
    "verification": Verification(approved=True, reason="item 1"),
}
ANSWER = written(tag="romance")


def thought(**changes):
    return render(TEMPLATE, {**STAGES, **changes})


@pytest.fixture
def thinking(scripted):
    """As `scripted`, a reasoning model."""
    return lambda *texts, **attributes: scripted(*texts, **{"supports_reasoning": True, **attributes})


def module(**options):
    return program(carrier="thinking", **options)


def test_stages_equal_those_of_fields(thinking):
    thinking((thought(), ANSWER))
    answer = ask(module())
    assert (answer.tag, answer.violations) == ("romance", [])
    assert answer.reasoning.stages == STAGES
    assert [item.id for item in answer.reasoning.cited] == ["m7"]


@pytest.mark.parametrize(
    ("why", "reply"),
    [
        ("the answer repeats the thought in its own tags", f"<think>\n{thought()}\n</think>\n\n{ANSWER}"),
        ("the first tag stands in the prompt", f"{thought()}\n</think>\n\n{ANSWER}"),
        pytest.param("no think tags at all", f"{thought()}\n\n{ANSWER}", marks=pytest.mark.not_json),
    ],
)
def test_thinking_in_the_text(thinking, why, reply):
    thinking(reply)
    answer = ask(module())
    assert (answer.tag, answer.reasoning.stages, answer.violations) == ("romance", STAGES, [])


def test_thinking_as_a_field(thinking):
    engine = thinking(written(reasoning=thought(), tag="romance"), supports_reasoning=False)
    assert ask(module()).reasoning.stages == STAGES
    assert opening("reasoning") in engine.requests[0].system


def test_native_thinking_instead_of_a_field(thinking):
    engine = thinking(f"<think>\n{thought()}\n</think>\n\n{ANSWER}", supports_reasoning=False)
    answer = ask(module())
    assert (answer.tag, answer.reasoning.stages, answer.violations) == ("romance", STAGES, [])
    assert len(engine.requests) == 1


def test_field_wins_over_thinking(thinking):
    wrong = thought(draft="comedy", verification=Verification(approved=False, reason="no"))
    thinking(f"<think>\n{wrong}\n</think>\n\n{written(reasoning=thought(), tag='romance')}", supports_reasoning=False)
    assert ask(module()).reasoning.stages == STAGES


def test_prompt_always_shows_the_template(thinking):
    engine = thinking((thought(), ANSWER))
    program = module()
    program.reason.signature = program.reason.signature.with_instructions("Be quick.")
    ask(program)
    system = engine.requests[0].system
    assert "Be quick." in system and "<synthesise>\n<evidence>\nThe items of the history" in system
    assert "`evidence`" not in system and opening("reasoning") not in system


@pytest.mark.parametrize(
    ("why", "thinking_text", "feedback"),
    [
        ("a stage is missing", thought().replace("draft>", "plan>"), "Fill the stage draft."),
        ("a stage is empty", thought(draft=" "), "Fill the stage draft."),
        ("a stage stands twice", thought() + "<evidence>[]</evidence>", "Write the stages in this order"),
        ("JSON that is none", thought(verification="yes, it is"), "the stage verification is not of its type."),
        ("an item that is not there", thought(evidence=[Evidence(item="7", quote="a")]), "There is no item 7"),
        ("nothing was thought", "Hm.", "Fill the stage requirements."),
    ],
)
def test_feedback_about_the_thought(thinking, why, thinking_text, feedback):
    engine = thinking((thinking_text, ANSWER), (thought(), ANSWER))
    answer = ask(module())
    assert answer.violations == [] and len(answer.attempts) == 2
    assert feedback in engine.requests[1].messages[-1].text


def test_thought_without_an_answer(thinking):
    thinking((thought(), ""))
    with pytest.raises(AssertionFailed, match="it is empty after the thought; it ends: "):
        ask(module())


@pytest.mark.not_json
def test_answer_with_the_word_reasoning_content(thinking):
    thinking(f"{thought(requirements='reasoning_content')}\n\n{ANSWER}")
    assert ask(module()).tag == "romance"


def test_users_reasoning_field_keeps_its_name(thinking):
    class Explained(Film):
        reasoning: str = dspy.OutputField()

    engine = thinking((thought(), written(reasoning="because", tag="romance")))
    answer = ask(R2P(Explained, retriever=All(), carrier="thinking"))
    assert answer.reasoning == "because"
    assert answer.outcome.stages == STAGES
    assert "<evidence>" in engine.requests[0].system


def test_custom_template(thinking):
    steps = Template((Stage("look", "Look.", stages=(Stage("seen", "What is seen.", list[str]),)),))
    thinking(("<look><seen>['sea']</seen></look>", ANSWER))
    assert ask(module(template=steps)).reasoning.seen == ["sea"]


def test_no_demos_and_thought_in_trace(thinking):
    engine = thinking((thought(), ANSWER))
    program = module()
    program.reason.demos = [dspy.Example(film="x", profile=HISTORY, tag="romance", reasoning=thought())]
    with dspy.context(trace=[]), optimizing():
        ask(program)
        ((_, inputs, prediction),) = dspy.settings.trace
    assert len(engine.requests[0].messages) == 1
    assert inputs["film"] == FILM and str(prediction.reasoning) == thought()


def test_unknown_carrier():
    with pytest.raises(ValueError, match="unknown carrier 'pigeon'; the carriers are fields, thinking"):
        program(carrier="pigeon")
