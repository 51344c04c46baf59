"""A field may have any name that DSPy takes: checks, scores and answers see the user's field, not the library's."""

import keyword
import pickle

import dspy
import pytest
from pydantic import PydanticUserError

from metrics.evidence import valid
from metrics.structure import compliant_first
from programs.tasks.yaml_files.answer_checks import max_words
from r2p_dspy import (
    R2P,
    TEMPLATE,
    All,
    Assert,
    Composite,
    Details,
    Inputs,
    Outcome,
    Profile,
    R2PPrediction,
    Suggest,
    unshadowed,
)
from r2p_dspy.checks import approved
from r2p_dspy.outcome import RunningOutcome
from tests.film import FILM, HISTORY
from tests.scripted import STAGES, written

KINDS = (Outcome, Inputs, R2PPrediction, dspy.Signature, str)
PUBLIC = {name for kind in KINDS for name in dir(kind) if not name.startswith("_")}
OWN = {"fields", "stages", "order", "answers", "predictors", "error", "items", "labels", "usage", "id", "lm", "demos"}
DETAILS = {*Details.__dataclass_fields__, "retrieved", "violations"}
LEAVES = {stage.name for stage, _ in TEMPLATE.walk()}
# By DSPy and pydantic, when the signature is made.
REFUSED = {"fields", "signature", "model_config", "model_dump", "model_dump_json"}
REFUSED |= {name for name in PUBLIC if name.startswith("model_validate")}
METHODS = {name for name in dir(dspy.Prediction) if not name.startswith("_")} | {"details", "explain"}
NAMES = sorted((PUBLIC | OWN | DETAILS | LEAVES | {*keyword.kwlist} | {"tag", "json", "trace"}) - REFUSED)


def signature(name):
    fields = {"film": (str, dspy.InputField()), "profile": (Profile, dspy.InputField())}
    return dspy.make_signature({**fields, name: (str, dspy.OutputField())}, "Choose the tag.")


def answering(module, name):
    """The right completion, with each stage in the field that it has beside an output of this name."""
    values = {**{field: STAGES[stage] for stage, field in module.reason.stages.items()}, name: "romance"}
    return written(**values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Field name")  # DSPy's, for names of pydantic
def test_output_of_any_name(scripted, name):
    seen = []

    def mine(inputs, outcome):
        seen.append(getattr(outcome, name))
        return True

    ready = Suggest(max_words(1), name="ready")
    module = R2P(signature(name), retriever=All(), checks=[Assert(mine), ready], candidates=2)
    scripted(answering(module, name))
    answer = module(film=FILM, profile=HISTORY)
    assert (seen, answer[name], answer.toDict()) == (["romance"] * 2, "romance", {name: "romance"})
    assert getattr(answer, name) == "romance" or name in METHODS
    assert answer.details.violations == [] and f"Answer:\n- {name}: romance\n" in answer.explain()
    assert answer.details.candidates[0].answer == {name: "romance"}
    gold = dspy.Example(film=FILM, **{name: "fantasy"})
    score = Composite(lambda example, prediction: float(example[name] == prediction[name]))(gold, answer)
    assert score.parts == {"task": 0.0, "structure": 1.0, "evidence": 1.0, "consistency": 1.0}
    assert f"The {name} was 'romance'; right is 'fantasy'. Stage evidence cites none of the items" in score.feedback
    assert (compliant_first(answer), valid(answer)) == (True, True)
    assert pickle.loads(pickle.dumps(answer)).details == answer.details


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Field name")
def test_input_of_any_name(name):
    """As a check sees it; DSPy's `Predict` takes `lm`, `demos`, `config` and `signature` for its own arguments."""
    seen = Inputs(fields={name: "mine"}, items=Profile.of(HISTORY).local())
    assert getattr(seen, name) == "mine" and len(unshadowed(seen).items) == 2


@pytest.mark.parametrize("name", sorted(REFUSED | {"_tag"}))
@pytest.mark.filterwarnings("ignore:Field name")
def test_dspy_refuses_these_names(name):
    with pytest.raises((TypeError, ValueError, PydanticUserError)):
        signature(name)


@pytest.mark.parametrize("name", NAMES)
def test_running_answer_hides_no_output(name):
    """A check that runs before an output is written must not see the library's attribute in its place."""
    running = RunningOutcome(stages={"evidence": []}, due=(name,))
    with pytest.raises(AttributeError, match=f"the output '{name}' is not written yet"):
        getattr(running, name)
    assert unshadowed(running).stages == {"evidence": []}
    assert approved(Inputs(fields={}), running) == (True, "")
