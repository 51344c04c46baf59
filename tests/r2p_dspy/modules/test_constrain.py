"""R2P under a grammar: who is constrained, and what the answer says of it."""

from typing import Annotated, Literal

import dspy
import pytest
from pydantic import AfterValidator

from r2p_dspy import R2P, All, connect, optimizing
from tests.film import FILM, HISTORY, Film, chat_completion, program

Tag = Literal["romance", "fantasy"]


def labelled(annotation=Tag):
    return Film.delete("tag").append("tag", dspy.OutputField(), annotation)


def ask(signature, lm, *, history=HISTORY, **options):
    module = R2P(signature, retriever=All(), max_interventions=0, max_backtracks=0, on_unmet="return", **options)
    with dspy.context(lm=lm), optimizing():
        return module(film=FILM, profile=history)


@pytest.fixture(scope="module")
def pocket():
    return connect("pocket", max_tokens=300, temperature=0.0, cache=False)


@pytest.fixture(scope="module")
def wandering():
    """The pocket model at a temperature at which it knows nothing: all that it gets right, the grammar does."""
    return connect("pocket", max_tokens=500, temperature=2.0, cache=False)


@pytest.mark.parametrize("constrain, mode", [("on", "constrained"), ("auto", "retry"), ("off", "retry")])
def test_pocket_model_is_constrained_where_that_is_asked(pocket, constrain, mode):
    answer = ask(labelled(), pocket, constrain=constrain)
    assert (answer.correction_mode, answer.warnings) == (mode, [])


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_a_model_that_wanders_answers_in_form(wandering, carrier):
    with dspy.context(adapter=dspy.ChatAdapter()):
        answer = ask(labelled(), wandering, carrier=carrier, constrain="on")
    assert answer.correction_mode == "constrained"
    assert answer.tag in ("romance", "fantasy")
    assert {v.check for v in answer.violations} <= {"backed", "labelled", "approved"}


def test_a_model_that_cannot_be_constrained_says_so_where_it_was_asked(scripted):
    for constrain, said in (("on", True), ("auto", False), ("off", False)):
        scripted(chat_completion())
        with dspy.context(adapter=dspy.ChatAdapter()):
            answer = program(constrain=constrain)(film=FILM, profile=HISTORY)
        assert any("cannot be constrained" in warning for warning in answer.warnings) == said


def test_warning_names_the_field_that_asks_for_more(wandering):
    even = Annotated[int, AfterValidator(lambda number: number)]
    answer = ask(labelled(even), wandering, constrain="on")
    assert any("leaves the form of tag" in warning for warning in answer.warnings)


def test_warning_names_items_that_cannot_be_quoted(wandering):
    history = [{"text": f"film {place}", "label": "romance"} for place in range(101)]
    answer = ask(labelled(), wandering, history=history, constrain="on")
    assert any("item 101, or nothing of it; lower k" in warning for warning in answer.warnings)
