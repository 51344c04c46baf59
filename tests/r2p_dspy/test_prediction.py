"""What a program returns: fields, details, copies, the explanation, and what stock DSPy makes of it."""

import copy
import json
import pickle

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy import R2P, All, Enforce, R2PPrediction, Reason, Reasoning
from r2p_dspy.modules.failures import AssertionFailed, UnreadableAnswer
from r2p_dspy.prediction import attempts_of
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import completion, written

INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}
DUPLICATES = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)


@pytest.fixture
def answer(scripted):
    scripted(INVENTED, completion())
    return ask(program())


def test_fields_are_the_outputs_alone(answer):
    assert ([*answer], [*answer.keys()], [*answer.items()]) == (["tag"], ["tag"], [("tag", "romance")])
    assert json.loads(json.dumps(answer.toDict())) == {"tag": "romance"}
    assert str(answer) == "Prediction(\n    tag='romance'\n)"


def test_details_fall_through(answer):
    assert answer.attempts is answer.get("attempts") is answer.details.attempts
    assert (answer.violations, answer.correction_mode, answer.truncated_chars) == ([], "retry", 0)
    assert answer.get("nothing", "default") == "default"
    assert answer.completion == completion()
    with pytest.raises(AttributeError, match="nothing"):
        answer.nothing


@DUPLICATES
def test_copies_keep_details(answer, duplicate):
    twin = duplicate(answer)
    assert type(twin) is R2PPrediction
    assert (twin.tag, twin.details) == (answer.tag, answer.details)
    assert twin.reasoning.evidence == answer.reasoning.evidence


def test_dspys_own_copy_keeps_details(answer):
    assert answer.copy(tag="drama").details is answer.without("tag").details is answer.details


@pytest.mark.parametrize(
    ("old", "new"),
    [("grade", "correction_mode"), ("cut", "truncated_chars"), ("notes", "warnings"), ("reconciled", "decision")],
)
def test_old_names_warn(answer, old, new):
    with pytest.warns(DeprecationWarning, match=f"prediction.{old} is now prediction.{new}"):
        assert getattr(answer, old) == getattr(answer, new)
    with pytest.warns(DeprecationWarning):
        assert answer.get(old) == getattr(answer, new)


class TestReasoning:
    def test_is_text_to_dspy(self, answer):
        assert isinstance(answer.reasoning, str)
        assert answer.reasoning.splitlines()[0] == "requirements: a tag for the lighthouse film"
        assert json.loads(json.dumps([answer.reasoning])) == [str(answer.reasoning)]

    def test_stands_in_a_multi_chain_comparison(self, answer, scripted):
        engine = scripted(written(rationale="they agree", tag="romance"))
        compare = dspy.MultiChainComparison("film -> tag", M=2)
        assert compare(completions=[answer, answer], film=FILM).tag == "romance"
        assert "I'm trying to requirements: a tag for the lighthouse film" in engine.prompts()[0]

    @DUPLICATES
    def test_copies_keep_stages(self, answer, duplicate):
        twin = duplicate(answer.reasoning)
        assert (type(twin), twin, twin.cited) == (Reasoning, answer.reasoning, answer.reasoning.cited)
        assert twin.stages == answer.reasoning.stages

    @pytest.mark.parametrize("name", ["title", "split", "format", "copy"])
    def test_a_stage_wins_over_a_method_of_str(self, name):
        assert getattr(Reasoning({name: ["stage"]}), name) == ["stage"]

    def test_any_value_has_a_text(self):
        assert Reasoning({"half": ["\ud83d"], "none": None, "object": Film}).startswith("half: ")


class TestUnreadable:
    @pytest.fixture
    def error(self, scripted):
        scripted("no field at all")
        with pytest.raises(AdapterParseError) as raised:
            Reason(Film)(film=FILM, profile=HISTORY)
        return raised.value

    def test_keeps_the_adapters_error_and_adds_details(self, error):
        assert isinstance(error, UnreadableAnswer)
        assert str(error).count("LM Response: no field at all") == 1
        assert (error.lm_response, error.parsed_result or {}) == ("no field at all", {})
        assert [*error.signature.output_fields] == [*Reason(Film).signature.output_fields]
        assert error.details.completion == "no field at all"
        assert [item.id for item in error.details.retrieved] == ["1", "2"]
        assert error.details.outcome.error == "the field requirements is missing."

    @DUPLICATES
    def test_can_be_copied(self, error, duplicate):
        twin = duplicate(error)
        assert (type(twin), str(twin), twin.details) == (type(error), str(error), error.details)
        assert twin.signature.equals(error.signature)

    def test_last_error_has_the_completion(self, scripted):
        scripted("no field at all")
        with pytest.raises(AssertionFailed) as raised:
            ask(program())
        assert raised.value.completion == "no field at all"
        assert raised.value.prediction.details.completion == "no field at all"


def test_nested_attempts_are_in_the_trace(scripted):
    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.tagger = program()

        def forward(self, **inputs):
            return dspy.Prediction(tag=self.tagger(**inputs).tag)

    scripted(INVENTED, completion())
    with dspy.context(trace=[]):
        answer = ask(Outer())
        [(_, _, step)] = dspy.settings.trace
    assert attempts_of(answer) == []
    assert [len(attempt.unmet) for attempt in attempts_of(step)] == [2, 0]
    assert [*step.keys()] == [*Reason(Film).signature.output_fields]


def test_parts_return_details_too(scripted):
    scripted(completion())
    reasoned = Reason(Film)(film=FILM, profile=HISTORY)
    assert [item.id for item in reasoned.details.retrieved] == ["1", "2"]
    assert (reasoned.reasoning.draft, reasoned.attempts) == ("romance", [])
    scripted(written(tag="drama"))
    plain = Enforce(dspy.Predict("film -> tag"))(film=FILM)
    assert (plain.tag, len(plain.attempts), plain.reasoning, plain.completion) == (
        "drama", 1, "", written(tag="drama"),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["details", "explain", "items", "keys", "copy", "get", "completions"])
def test_output_named_as_a_method(scripted, name):
    signature = Film.delete("tag").append(name, dspy.OutputField(), str)
    scripted(completion(tag=None, **{name: "romance"}))
    answer = R2P(signature, retriever=All())(film=FILM, profile=HISTORY)
    assert answer[name] == "romance"
    assert answer.details.violations == []
