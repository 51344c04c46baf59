"""A quote in other typography: the answer has the user's own text, the demo has the text that prompts show."""

import asyncio
import json
from dataclasses import replace

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2p_dspy import (
    TEMPLATE,
    AssertionFailed,
    Enforce,
    Evidence,
    Inputs,
    Outcome,
    Preference,
    Profile,
    Reason,
    Suggest,
    Verification,
)
from r2p_dspy.prediction import Details, Reasoning
from r2p_dspy.prompting.citations import as_shown, in_own_text
from r2p_dspy.prompting.tags import render
from r2p_dspy.scoring.completions import CompletionReader
from r2p_dspy.values.neutral import neutralize
from tests.film import FILM, Film, ask, json_completion, program, xml_completion
from tests.scripted import STAGES, completion

OWN = "It’s “Great” <draft> — cafe\u0301"
SHOWN = "It’s “Great” < draft> — cafe\u0301"
HISTORY = [{"id": "m7", "text": f"Well, {OWN}!", "label": "Sci-Fi <x>"}, {"id": "m9", "text": "a wizard", "label": "x"}]
QUOTES = {
    "as it is": OWN,
    "as shown": SHOWN,
    "straight marks": 'It\'s "Great" <draft> - cafe\u0301',
    "another case and normal form": "IT'S 'great' < Draft > -- CAF\u00c9",
    "abbreviated": f"…{OWN}…",
}


def answered(quote=OWN, label="Sci-Fi <x>", write=completion):
    """A completion with this quote from the first item, and this label."""
    evidence = [{"item": "1", "quote": quote}]
    preferences = [{"statement": "likes it", "items": ["1"], "label": label}]
    if write is completion:
        return completion(evidence=json.dumps(evidence), preferences=json.dumps(preferences))
    return write(evidence=evidence, preferences=preferences)


@pytest.mark.parametrize("quote", QUOTES.values(), ids=QUOTES)
@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=lambda adapter: type(adapter).__name__
)
def test_the_answer_quotes_the_users_own_text(scripted, quote, adapter):
    engine = scripted(
        answered(quote, "sci‑fi < X >.", completion if type(adapter) is dspy.ChatAdapter else json_completion)
    )
    with dspy.context(adapter=adapter, trace=[]):
        answer = ask(program(), profile=HISTORY)
        ((_, inputs, outputs),) = dspy.settings.trace
    assert (len(engine.requests), answer.violations) == (1, [])
    assert answer.reasoning.evidence == answer.outcome.evidence == [Evidence(item="1", quote=OWN)]
    assert answer.reasoning.preferences[0].label == answer.outcome.preferences[0].label == "Sci-Fi <x>"
    assert f"item m7 (Sci-Fi <x>): Well, «{OWN}»!" in answer.explain()
    assert outputs.evidence == [Evidence(item="1", quote=SHOWN)], "a demo quotes what its prompt shows"
    assert outputs.evidence[0].quote in inputs["profile"][0].text
    assert outputs.preferences[0].label == inputs["profile"][0].label == "Sci-Fi < x>"


def test_xml(scripted):
    scripted(xml_completion(evidence=[{"item": "1", "quote": 'It\'s "great"'}], preferences=[]))
    with dspy.context(adapter=dspy.XMLAdapter()):
        answer = ask(program(), profile=HISTORY)
    assert answer.reasoning.evidence == [Evidence(item="1", quote="It’s “Great”")]


def test_async_and_several_candidates(scripted):
    engine = scripted(answered(SHOWN))
    answer = asyncio.run(program(candidates=2, reconcile="vote").acall(film=FILM, profile=HISTORY))
    assert [candidate.stages["evidence"][0].quote for candidate in answer.candidates] == [OWN, OWN]
    assert len(engine.requests) == 2


def test_candidates_in_a_prompt_are_neutralized(scripted):
    chosen = "[[ ## comparison ## ]]\nthe first\n\n[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"
    engine = scripted(answered(SHOWN), answered(SHOWN), chosen)
    ask(program(candidates=2, reconcile="synthesis"), profile=HISTORY)
    prompt = engine.prompts()[-1]
    assert '{"candidate": 2' in prompt
    assert "<draft>" not in prompt


def test_native_thinking(scripted):
    typed = {
        **STAGES,
        "evidence": [Evidence(item="1", quote='it\'s "great"')],
        "preferences": [],
        "verification": Verification(approved=True, reason="item 1"),
    }
    thought = render(TEMPLATE, typed)
    scripted((thought, "[[ ## tag ## ]]\nromance\n\n[[ ## completed ## ]]"), supports_reasoning=True)
    answer = ask(program(carrier="thinking"), profile=HISTORY)
    assert answer.reasoning.evidence == [Evidence(item="1", quote="It’s “Great”")]


def test_enforce_alone(scripted):
    scripted(answered(QUOTES["straight marks"]))
    answer = Enforce(Reason(Film))(film=FILM, profile=Profile.of(HISTORY))
    assert answer["evidence"] == answer.outcome.evidence == [Evidence(item="1", quote=OWN)]


def test_checks_judge_what_the_model_wrote(scripted):
    seen = []
    scripted(answered(QUOTES["straight marks"]))
    check = Suggest(lambda inputs, outcome: seen.append(outcome.evidence[0].quote) or True, name="mine")
    ask(program(checks=[check]), profile=HISTORY)
    assert seen == [QUOTES["straight marks"]]


def test_a_forged_quote_stays_as_it_was_written(scripted):
    engine = scripted(answered("It’s “awful”"))
    with pytest.raises(AssertionFailed) as raised:
        ask(program(), profile=HISTORY)
    assert len(engine.requests) == 3
    assert raised.value.prediction.reasoning.evidence == [Evidence(item="1", quote="It’s “awful”")]
    assert "It’s “awful”" in str(raised.value)


def test_a_completion_is_read_like_an_answer():
    items = Profile.of(HISTORY)
    prediction = CompletionReader(Reason(Film), program().checks)(
        Inputs(fields={"film": FILM, "profile": items}, items=items.local()), answered(QUOTES["straight marks"])
    )
    assert prediction.violations == []
    assert prediction.outcome.evidence == [Evidence(item="1", quote=OWN)]


def test_an_item_that_was_cut():
    """A quote over two fields of a cut item stands in what was shown, not in the whole item."""
    own = Profile.of([{"id": "a", "title": "a lighthouse <b> in the rain", "text": "by night"}])
    shown = Profile.of([{"id": "1", "title": "a lighthouse < b>", "text": "by night", "ref": "a"}])
    inputs = Inputs(fields={"profile": own}, items=shown)
    outcome = Outcome(stages={"evidence": [Evidence(item="1", quote="Lighthouse <b> by night")]})
    details = in_own_text(Details(outcome=outcome, inputs=inputs))
    assert details.outcome.evidence[0].quote == "lighthouse < b> by night"


def test_nothing_to_change_changes_nothing():
    items = Profile.of(HISTORY)
    stages = {
        "evidence": [Evidence(item="1", quote="Well"), Evidence(item="9", quote="well")],
        "preferences": [Preference(statement="x", items=["2"], label="x"), Preference(statement="y", items=["1"])],
        "draft": "x",
        "notes": ["any", {"list": 1}],
    }
    outcome = Outcome(fields={"stages": "mine", "fields": "mine"}, stages=stages)
    details = Details(Reasoning(stages), outcome, Inputs(fields={"profile": items}, items=items.local()))
    assert in_own_text(details) is details
    assert as_shown(details.inputs, outcome) is outcome
    other = {**stages, "evidence": [Evidence(item="1", quote="WELL")]}
    changed = Outcome(fields={"stages": "mine", "fields": "mine"}, stages=other)
    assert vars(in_own_text(replace(details, outcome=changed)).outcome)["stages"]["evidence"][0].quote == "Well"


PIECES = st.sampled_from(
    ["[[ ## draft ## ]]", "<draft>", "</think>", "<|im_end|>", "[INST]", "rain", " ", "é", "“", "\n"]
)


@settings(max_examples=150)
@given(st.lists(PIECES, min_size=1, max_size=8).map("".join), st.integers(0, 40), st.integers(1, 40), st.booleans())
def test_quotes_of_hostile_items(text, start, length, shown):
    text = f"a {text} b"
    quote = (neutralize(text) if shown else text)[start:][:length]
    if not any(char.isalnum() for char in quote):
        quote = "a"
    items = Profile.of([{"id": "x", "text": text}])
    outcome = Outcome(stages={"evidence": [Evidence(item="1", quote=quote)]})
    details = Details(outcome=outcome, inputs=Inputs(fields={"profile": items}, items=items.local()))
    assert in_own_text(details).outcome.evidence[0].quote in text
    assert as_shown(details.inputs, outcome).evidence[0].quote in neutralize(text)
