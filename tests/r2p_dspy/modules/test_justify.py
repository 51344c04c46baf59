"""Reasoning towards known answers: the request stays in the prompt, and the reasoning keeps the answer to itself."""

from typing import Literal

import dspy
import pytest

from r2p_dspy import R2P, All, connect, justifying, optimizing
from r2p_dspy.template import BRIEF
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import completion

KNOWN = "The right answer is known: romance"


def test_the_request_is_in_the_prompt_alone(scripted):
    engine = scripted(completion())
    with justifying({"tag": "romance"}), dspy.context(trace=[]):
        answer = ask(program())
        (_, inputs, outputs), *rest = dspy.settings.trace
    ask(program())
    told, untold = engine.prompts()
    assert told.rstrip().endswith("write it as it stands above.") and KNOWN in told
    assert told.removesuffix(told[told.index("\n\n" + KNOWN) :]) == untold
    assert not rest and answer.tag == "romance"
    for kept in (inputs, outputs, answer.details):
        assert "is known" not in str(kept)


@pytest.mark.parametrize(
    ("changes", "unmet"),
    [
        ({}, []),
        ({"requirements": "a tag: romance"}, ["untold_requirements"]),
        ({"requirements": "ROMANCE is asked"}, ["untold_requirements"]),
        ({"preferences": '[{"statement": "likes romance", "items": ["1"], "label": "romance"}]'}, []),
    ],
)
def test_reasoning_does_not_tell_a_label(scripted, changes, unmet):
    scripted(completion(**changes))
    with justifying({"tag": "romance"}), optimizing():
        answer = ask(program(max_backtracks=0))
    assert [verdict.check for verdict in answer.violations] == unmet


@pytest.mark.parametrize(
    ("changes", "unmet"),
    [
        ({"requirements": "a title for the keeper"}, []),
        ({"requirements": "a title such as: the keeper waits for rain"}, ["untold_requirements"]),
        ({"preferences": '[{"statement": "Keeper waits for rain", "items": ["1"]}]'}, ["untold_preferences"]),
        ({"requirements": "the lighthouse keeper stands in the input"}, []),
    ],
)
def test_reasoning_does_not_tell_a_text(scripted, changes, unmet):
    text = "the lighthouse keeper waits for rain"
    scripted(completion(**{"preferences": "[]", **changes, "draft": text, "tag": text}))
    with justifying({"tag": text}), optimizing():
        answer = ask(program(max_backtracks=0))
    assert [verdict.check for verdict in answer.violations] == unmet


def test_a_retry_is_told_both(scripted):
    engine = scripted(completion(requirements="romance"), completion())
    with justifying({"tag": "romance"}):
        answer = ask(program())
    assert answer.violations == [] and len(answer.attempts) == 2
    assert "gives the answer away" in engine.prompts()[1] and KNOWN in engine.prompts()[1]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Literal["romance", "fantasy"], "fantasy"), (str, 'a "quoted" title: ### (é)'), (int, 7), (bool, False)],
)
@pytest.mark.parametrize("options", [{}, {"carrier": "thinking"}, {"template": BRIEF}], ids=str)
def test_a_grammar_writes_the_known_answer(annotation, value, options):
    """A model at a temperature at which it knows nothing writes the answer and the draft of it."""
    signature = Film.delete("tag").append("tag", dspy.OutputField(), annotation)
    module = R2P(signature, retriever=All(), constrain="on", max_backtracks=0, max_interventions=0, **options)
    lm = connect("pocket", max_tokens=500, temperature=2.0, cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()), optimizing(), justifying({"tag": value}):
        answer = module(film=FILM, profile=HISTORY)
    assert answer.tag == value and type(answer.tag) is type(value)
    if "template" not in options:
        assert answer.reasoning.draft == str(value)


def test_a_grammar_leaves_an_answer_free_that_is_not_known():
    module = R2P(Film, retriever=All(), constrain="on", max_backtracks=0, max_interventions=0)
    with dspy.context(lm=connect("pocket", max_tokens=300, temperature=0.0, cache=False)), optimizing():
        assert module(film=FILM, profile=HISTORY).tag != ""
