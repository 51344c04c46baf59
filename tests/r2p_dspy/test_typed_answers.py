"""Answers of every type go through all that R2P does with answers; None, 0, False and [] are answers like any other."""

import json
from typing import Literal

import dspy
import pytest

from finetune.task_setup import completion_text
from r2p_dspy import AssertionFailed, Composite, load_program, save_program
from r2p_dspy.modules.reason import Reason
from r2p_dspy.outcome import Inputs
from r2p_dspy.scoring.completions import CompletionReader
from r2p_dspy.values.typed import plain, same
from tests.film import FILM, HISTORY, Film, ask, json_completion, xml_completion
from tests.scripted import completion
from tests.typed_answers import TYPES, Mood, typed_program

each_type = pytest.mark.parametrize(("annotation", "value", "text", "other"), TYPES.values(), ids=TYPES)
exact = Composite(lambda example, prediction: float(same(prediction.tag, example.tag)))


def written(text):
    return completion(draft=text, tag=text)


def is_typed(answer, value):
    return answer == value and type(answer) is type(value)


@each_type
def test_right_answer_takes_one_call(scripted, annotation, value, text, other):
    engine = scripted(written(text))
    answer = ask(typed_program(annotation))
    assert is_typed(answer.tag, value)
    assert len(engine.requests) == 1 and answer.violations == []


@each_type
@pytest.mark.parametrize("left", ["[[ ", "[[ ## comp", "[[ ## completed ## ]"])
def test_last_marker_that_the_limit_of_tokens_cut_off(scripted, left, annotation, value, text, other):
    engine = scripted(written(text).removesuffix("[[ ## completed ## ]]") + left)
    answer = ask(typed_program(annotation))
    assert is_typed(answer.tag, value) and len(engine.requests) == 1


@each_type
@pytest.mark.parametrize("prose", ["\n\nAnything else?", "\nThis user likes such films.", "\n\n---\nSo the user says."])
def test_prose_after_the_answer(scripted, prose, annotation, value, text, other):
    """Some models leave out the last marker and go on to talk."""
    if annotation in (str, str | None):
        pytest.skip("nobody knows where a text ends")
    engine = scripted(written(text).removesuffix("\n\n[[ ## completed ## ]]") + prose)
    answer = ask(typed_program(annotation))
    assert is_typed(answer.tag, value) and len(engine.requests) == 1


@pytest.mark.parametrize(
    ("annotation", "text"),
    [(Literal["happy", "sad"], "happy\nsad"), (int, "4\n\n5"), (int | None, "None\n4"), (bool, "I think:\nTrue")],
)
def test_unclear_answer_is_no_answer(scripted, annotation, text):
    scripted(written(text))
    with pytest.raises(AssertionFailed, match="the field tag is not of its type"):
        ask(typed_program(annotation, max_backtracks=0))


@each_type
def test_answer_must_be_the_draft(scripted, annotation, value, text, other):
    engine = scripted(completion(draft=other, tag=text), written(text))
    assert ask(typed_program(annotation)).tag == value
    comparable = annotation not in (int | None, str | None)  # a value alone does not tell that its type allows None
    assert len(engine.requests) == (2 if comparable else 1)


@each_type
@pytest.mark.parametrize("way", ["auto", "vote", "median", "medoid", "synthesis"])
def test_candidates(scripted, way, annotation, value, text, other):
    comparison = f"[[ ## comparison ## ]]\nalike\n\n[[ ## tag ## ]]\n{text}\n\n[[ ## completed ## ]]"
    scripted(*map(written, (text, other, text, text, text)), comparison)
    answer = ask(typed_program(annotation, candidates=5, reconcile=way))
    if way == "median" and value is None:
        assert answer.tag in (None, 1999)
    else:
        assert is_typed(answer.tag, value)
    assert sorted(candidate.support for candidate in answer.candidates) == [1, 4, 4, 4, 4]


@each_type
def test_scored_against_a_gold_of_any_form(scripted, annotation, value, text, other):
    scripted(written(text))
    answer = ask(typed_program(annotation))
    for gold in (value, plain(value)):
        assert exact(dspy.Example(tag=gold), answer).feedback == "Right, and every check holds."
    wrong = Composite(lambda example, prediction: 0.0)(dspy.Example(tag="another"), answer)
    assert f"The tag was {plain(value)!r}; right is 'another'." in wrong.feedback


@each_type
def test_demo_is_saved_and_loaded(scripted, tmp_path, annotation, value, text, other):
    engine = scripted(written(text))
    module, loaded = typed_program(annotation), typed_program(annotation)
    with dspy.context(trace=[]):
        ask(module)
        [(_, inputs, outputs)] = dspy.settings.trace
    module.reason.demos = [dspy.Example(augmented=True, **{**inputs, **outputs})]
    load_program(loaded, save_program(module, tmp_path / "film.json"))
    (demo,) = loaded.reason.demos
    assert is_typed(demo["tag"], value)
    for each in (module, loaded):
        ask(each, film="another film")
    if annotation != set[str]:  # whose order DSPy leaves to chance
        assert engine.prompts()[1] == engine.prompts()[2]
    assert engine.prompts()[1].count("a tag for the lighthouse film") == 1, "the demo is shown"
    assert "not supplied" not in engine.prompts()[1]


@each_type
def test_answer_can_be_learned_from(scripted, annotation, value, text, other):
    scripted(written(text))
    module = typed_program(annotation)
    details = ask(module).details
    reread = CompletionReader(module.reason, module.checks)(details.inputs, completion_text(module, details.outcome))
    assert is_typed(reread.tag, value) and reread.violations == []


@each_type
@pytest.mark.parametrize(
    ("adapter", "completion_of"), [(dspy.JSONAdapter(), json_completion), (dspy.XMLAdapter(), xml_completion)]
)
def test_other_adapters(scripted, adapter, completion_of, annotation, value, text, other):
    engine = scripted(completion_of(draft=text, tag=plain(value)))
    with dspy.context(adapter=adapter):
        answer = ask(typed_program(annotation))
    assert is_typed(answer.tag, value)
    assert len(engine.requests) == 1 and answer.violations == []


LENIENT = {
    "a full stop": (Literal["happy", "sad"], "Happy."),
    "quotes": (Mood, '"happy"'),
    "white space in quotes": (Literal["happy", "sad"], '"happy "'),
    "bold": (Mood | None, "**happy**"),
    "as Python writes it": (Mood, "Mood.HAPPY"),
}


@pytest.mark.parametrize(("annotation", "text"), LENIENT.values(), ids=LENIENT)
@pytest.mark.parametrize("candidates", [1, 3])
def test_label_is_read_by_meaning(scripted, annotation, text, candidates):
    engine = scripted(completion(draft=text, tag=text))
    answer = ask(typed_program(annotation, candidates=candidates))
    assert answer.tag == "happy" and answer.violations == []
    assert len(engine.requests) == candidates


@pytest.mark.parametrize(("annotation", "text"), [(bool, "True."), (list[bool], '["true"]'), (Literal[1, 2], "1.")])
def test_other_labels_are_read_by_meaning(scripted, annotation, text):
    engine = scripted(completion(draft=text, tag=text))
    assert same(ask(typed_program(annotation)).tag, [True] if annotation == list[bool] else annotation is bool or 1)
    assert len(engine.requests) == 1


def test_text_that_means_no_label_is_sent_back(scripted):
    engine = scripted(completion(tag="happy or sad"), written("sad"))
    assert ask(typed_program(Mood)).tag is Mood.SAD
    assert len(engine.requests) == 2 and "tag is not of its type" in engine.prompts()[1]


@pytest.mark.parametrize("draft", ["Romance.", "romance, as ever", "I would say it is a sad film"])
def test_draft_that_is_no_label_is_not_asked_for(scripted, draft):
    engine = scripted(completion(draft=draft))
    answer = ask(typed_program(Literal["romance", "sad"]))
    assert (answer.tag, answer.violations, len(engine.requests)) == ("romance", [], 1)


@pytest.mark.parametrize(
    ("answers", "way", "right"),
    [
        (["None"] * 4 + ["1999"], "auto", None),
        (["1999", "None", "2003", "2001"], "auto", 2001),
        (["1999", "None", "2003", "2001"], "median", 2001),
        (["None", "None"], "median", None),
    ],
)
def test_none_votes(scripted, answers, way, right):
    scripted(*map(written, answers))
    assert ask(typed_program(int | None, candidates=len(answers), reconcile=way)).tag == right


def test_median_loses_one_bad_candidate(scripted):
    scripted(*map(written, ("4", "no idea", "2", "5")))
    assert ask(typed_program(str, candidates=4, reconcile="median")).tag == "4"


def test_demo_without_a_field_is_not_shown():
    signature = Film.delete("tag").append("tag", dspy.OutputField(), int | None).append("note", dspy.OutputField(), str)
    reason = Reason(signature)
    whole = {"requirements": "r", "evidence": [], "preferences": [], "draft": "d", "verification": {}, "note": "n"}
    demo = {"film": FILM, "profile": HISTORY, **whole, "tag": None}
    assert len(reason.usable_demos([demo])) == 1
    for name, missing in (("tag", True), ("note", False)):
        flawed = {key: None if key == name else value for key, value in demo.items() if key != name or not missing}
        assert reason.usable_demos([flawed]) == [], name


@each_type
def test_record_is_json(scripted, annotation, value, text, other):
    scripted(written(text))
    module = typed_program(annotation)
    details = ask(module).details
    assert same(json.loads(details.outcome.to_json())["fields"]["tag"], value)
    assert isinstance(Inputs.from_json(details.inputs.to_json()), Inputs)
