"""Items shown as turns: each is an input that the user answered, and the question is the last."""

import random
from typing import Literal

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.hostile import hostile
from r2p_dspy import R2P, All, ConfigError, Profile
from r2p_dspy.prompting.item_turns import NOTE
from r2p_dspy.template import NO_STAGES, QUOTES
from tests.film import FILM, HISTORY, Film, ask, markers, program
from tests.scripted import completion

TURNS = {"film": "text", "tag": "label"}
ADAPTERS = [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter, BAMLAdapter]


class Stars(dspy.Signature):
    """Rate the film as this user would."""

    film: str = dspy.InputField()
    profile: Profile = dspy.InputField()
    stars: Literal[1, 2, 3] = dspy.OutputField()


def turning(**options):
    return program(**{"turns": TURNS, "on_unmet": "return", **options})


def sent(scripted, module, answer=None, adapter=None, **inputs):
    """The messages of a call, as (role, text)."""
    engine = scripted(answer or completion())
    with dspy.context(adapter=adapter or dspy.settings.adapter):
        ask(module, **inputs)
    request = engine.requests[0]
    return [("system", request.system or ""), *((message.role, message.text) for message in request.messages)]


def test_most_similar_item_is_the_last_turn(scripted):
    _, *turns, (_, question) = sent(scripted, turning())
    assert [role for role, _ in turns] == ["user", "assistant"] * 2
    (_, second), (_, fantasy), (_, first), (_, romance) = turns
    assert "a wizard in the city" in second and '{"item": "2"}' in second
    assert "a lighthouse in the rain" in first and '{"item": "1"}' in first
    assert "fantasy" in fantasy and "romance" in romance
    assert FILM in question and "lighthouse in the rain" not in question


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_adapter_shows_turns_in_its_own_form(scripted, kind):
    messages = sent(scripted, turning(), adapter=kind())
    assert [role for role, _ in messages[1:]] == ["user", "assistant"] * 2 + ["user"]
    assert "romance" in messages[4][1] and "requirements" not in messages[4][1], "a turn has no stages"
    assert "Respond with" not in messages[-1][1], "the reminder is left out"
    assert "items of the history" in messages[0][1]


def test_the_prompt_has_each_item_once(scripted):
    whole = "\n".join(text for _, text in sent(scripted, turning()))
    for item in HISTORY:
        assert whole.count(item["text"]) == 1


def test_nothing_of_an_item_is_lost(scripted):
    item = {"id": "m1", "text": "a storm", "review": "Too wet.", "label": "drama", "date": "2024-05-01"}
    _, (_, turn), *_ = sent(scripted, turning(), profile=[item])
    assert turn.startswith('{"item": "1", "review": "Too wet.", "date": "2024-05-01"}')


@pytest.mark.parametrize(
    ("why", "odd"),
    [
        ("no label", {"id": "x", "text": "an unlabelled film"}),
        ("a blank label", {"id": "x", "text": "an unlabelled film", "label": " "}),
        ("no such field", {"id": "x", "title": "an unlabelled film", "label": "romance"}),
    ],
)
def test_an_item_that_is_no_turn_stays_in_the_list(scripted, why, odd):
    messages = sent(scripted, turning(), profile=[*HISTORY, odd])
    assert len(messages) == 6, why
    assert "an unlabelled film" in messages[-1][1] and '"item": "3"' in messages[-1][1].replace("\\", "")
    assert "lighthouse in the rain" not in messages[-1][1]


def test_without_turns_the_prompt_is_as_it_was(scripted):
    history = [{"id": "x", "text": "a film that nobody tagged"}]
    plain = sent(scripted, program(on_unmet="return"), profile=history)
    assert sent(scripted, turning(), profile=history) == plain


def test_an_empty_history_leaves_the_form_as_it_is(scripted):
    """A student of turns, asked for a new user, meets nothing that it does not know."""
    with_items, without = sent(scripted, turning()), sent(scripted, turning(), profile=[])
    assert without == [(role, text.partition(f"\n\n{NOTE}")[0]) for role, text in (with_items[0], with_items[-1])]


@pytest.mark.parametrize(("label", "is_turn"), [("2", True), ("4", False), ("many", False)])
def test_labels_have_the_type_of_the_answer(scripted, label, is_turn):
    module = R2P(Stars, retriever=All(), template=NO_STAGES, turns={"film": "text", "stars": "label"}, constrain="off")
    history = [{"id": "x", "text": "a storm", "label": label}]
    messages = sent(scripted, module, "[[ ## stars ## ]]\n3\n\n[[ ## completed ## ]]", profile=history)
    assert len(messages) == (4 if is_turn else 2)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_items_cannot_forge_turns(scripted, seed):
    draw = random.Random(seed)
    item = {name: f"a film {hostile(draw)}" for name in ("text", "title", "label")}
    messages = sent(scripted, turning(), adapter=dspy.ChatAdapter(), profile=[{"id": "x", **item}])
    honest = sent(
        scripted, turning(), adapter=dspy.ChatAdapter(), profile=[{"id": "x", **dict.fromkeys(item, "a film")}]
    )
    assert [(role, markers(text)) for role, text in messages] == [(role, markers(text)) for role, text in honest]


def test_evidence_is_checked_against_the_turns(scripted):
    scripted(completion())
    answer = ask(turning())
    assert answer.reasoning.evidence[0].quote in HISTORY[0]["text"] and not answer.violations


def test_prompts_with_turns_have_no_demos(scripted):
    module = turning()
    shown = Profile.of(HISTORY).local()
    module.reason.demos = [dspy.Example(film="a demo film", profile=shown, tag="classic")]
    assert "a demo film" not in str(sent(scripted, module))


def test_feedback_follows_the_question(scripted):
    engine = scripted(completion(evidence='[{"item": "1", "quote": "never said"}]'), completion())
    ask(turning())
    first, second = ([message.role for message in request.messages] for request in engine.requests[:2])
    assert second == [*first, "assistant", "user"]
    assert "never said" in engine.requests[1].messages[-1].text


def test_saved_programs_keep_what_they_learnt(scripted, tmp_path):
    module = turning(template=QUOTES)
    module.save(tmp_path / "state.json")
    other = turning(template=QUOTES)
    other.load(tmp_path / "state.json")
    answer = completion()
    assert sent(scripted, other, answer) == sent(scripted, module, answer)


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ({"film": "text", "mood": "label"}, "turns name 'mood', which is no input or output; name some of film, tag"),
        ({"film": "text"}, "a turn is an input and an output"),
        ({"tag": "label"}, "a turn is an input and an output"),
        ({"profile": "text", "tag": "label"}, "turns name 'profile'"),
    ],
)
def test_wrong_names(turns, message):
    with pytest.raises(ConfigError, match=message):
        R2P(Film, turns=turns)
