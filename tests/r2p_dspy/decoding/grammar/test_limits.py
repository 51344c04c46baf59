"""How long the parts of a constrained answer may be, and that the whole fits in a call."""

import random

import dspy
import pytest

from r2p_dspy.decoding.grammar.limits import LIMITS, Limits
from r2p_dspy.modules.reason import Reason
from r2p_dspy.profile import Profile
from r2p_dspy.template import TEMPLATE, Evidence
from tests.film import Film
from tests.r2p_dspy.decoding.grammar.walks import constraint_of, written

KINDS = [leaf.type for leaf in TEMPLATE.leaves()]


@pytest.mark.parametrize("tokens", [50, 200, 400, 1000, 4000])
def test_fewer_tokens_never_allow_more(tokens):
    lower, higher = (LIMITS.within(each, KINDS, answers=1) for each in (tokens, 2 * tokens))
    for name in ("citations", "preferences", "statement_tokens", "stage_tokens", "answer_tokens", "words"):
        assert getattr(lower, name) <= getattr(higher, name) <= getattr(LIMITS, name)


def test_long_calls_keep_the_limits():
    assert LIMITS.within(100_000, KINDS, answers=1) == LIMITS


def test_small_limits_of_the_user_stay():
    own = Limits(words=(3, 4), citations=1, preferences=1, statement_tokens=5, stage_tokens=6, answer_tokens=7)
    assert own.within(10, KINDS, answers=1) == own


def test_a_template_of_evidence_alone_leaves_more_to_it():
    assert LIMITS.within(400, [list[Evidence]], answers=1).citations > LIMITS.within(400, KINDS, answers=1).citations


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
@pytest.mark.parametrize("tokens", [400, 800])
def test_any_answer_fits_in_its_call(adapter, tokens):
    """At four characters a token, which the limits count on."""
    texts = [" ".join(["word"] * 60)] * 12
    items = Profile.of([{"text": f"{place} {text}", "label": "x"} for place, text in enumerate(texts)]).local()
    constraint = constraint_of(Reason(Film), items, adapter(), tokens=tokens, opened=False)
    longest = max((written(constraint, random.Random(seed)) for seed in range(10)), key=len)
    assert len(longest) <= 4 * tokens
