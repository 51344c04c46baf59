"""What users get and hold survives copies, pickle and a pool of processes."""

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from enum import Enum

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

import r2p_dspy
from r2p_dspy import (
    BUILT_IN,
    R2P,
    All,
    Artifact,
    AssertionFailed,
    Attempt,
    Budget,
    Candidate,
    Composite,
    CrossReference,
    Details,
    Enforce,
    Evidence,
    Inputs,
    Outcome,
    Preference,
    Profile,
    R2PPrediction,
    Random,
    Reason,
    Reasoning,
    Recency,
    Score,
    Suggest,
    Synthesize,
    Verdict,
    Verification,
    checks,
    connect,
)
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import ScriptedEngine, completion

INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


def share(example, prediction):
    return float(example.tag == prediction.tag)


def embed(texts):
    return [[float(len(text)), 1.0] for text in texts]


def built():
    """An instance of every public class; those that are called are asked nothing."""
    items, dense = Profile.of(HISTORY), r2p_dspy.Dense(embed, 2)
    verdict = Verdict(check="cited", kind="assert", ok=False)
    return [
        All(), r2p_dspy.BM25(), Budget(All(), 30), dense, r2p_dspy.Hybrid(All(), dense), Random(2), Recency(2),
        items, items[0], r2p_dspy.TEMPLATE, r2p_dspy.TEMPLATE.stages[0],
        Evidence(item="1", quote="a"), Preference(statement="a", items=["1"]), Verification(approved=True, reason="a"),
        Inputs(fields={"film": FILM}, items=items), Outcome(fields={"tag": "a"}, stages={"draft": "a"}),
        verdict, Attempt(verdicts=[verdict]), Candidate(answer={"tag": "a"}), Reasoning({"draft": "a"}, tuple(items)),
        Details(), R2PPrediction({"tag": "a"}), Score(0.5, {"task": 0.5}, "a", accepted=False), Composite(share),
        Suggest(checks.quoted), Artifact(task=None, template=[], predictors={}),
        Reason(Film), Synthesize(Film), Enforce(Reason(Film), BUILT_IN), CrossReference(Reason(Film), "tag", 3),
        program(candidates=3, reconcile="synthesis", on_unmet="return"),
    ]  # fmt: skip


def public_classes():
    """Every public class but errors, which `tests/test_errors.py` copies."""
    named = (getattr(r2p_dspy, name) for name in r2p_dspy.__all__)
    classes = {value for value in named if inspect.isclass(value) and not issubclass(value, BaseException)}
    return classes - {r2p_dspy.Retriever}  # a protocol


def test_every_public_class_is_here():
    assert {type(value) for value in built()} == public_classes()


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("value", built(), ids=lambda value: type(value).__name__)
def test_every_public_class_survives(value, duplicate):
    twin = duplicate(value)
    assert type(twin) is type(value)
    assert shown(twin) == shown(value)


def shown(value):
    """What a value holds, as far as it can be compared."""
    if isinstance(value, dspy.Module):
        signatures = [parameter.signature.fields for _, parameter in value.named_parameters()]
        return value.dump_state(), [{name: info.annotation for name, info in fields.items()} for fields in signatures]
    if isinstance(value, Score):
        return float(value), vars(value)
    return value if type(value).__eq__ is not object.__eq__ else sorted(vars(value))


def test_copies_keep_the_signature_itself():
    """Optimizers recognize a predictor by it."""
    module = program()
    for twin in (copy.copy(module), copy.deepcopy(module), module.reset_copy()):
        assert twin.reason.signature is module.reason.signature
    read_back = pickle.loads(pickle.dumps(module))
    assert read_back.reason.signature.equals(module.reason.signature)
    assert read_back.reason.signature.__name__ == module.reason.signature.__name__


def test_program_made_at_run_time_answers_after_pickle(scripted):
    class Liking(dspy.Signature):
        """Foretell whether this viewer likes the film."""

        film: str = dspy.InputField()
        profile: Profile = dspy.InputField()
        liked: bool = dspy.OutputField(desc="true or false")

    module = R2P(Liking, retriever=All())
    module.reason.demos = [dspy.Example(film="a", profile=HISTORY)]
    twin = pickle.loads(pickle.dumps(module))
    assert twin.reason.signature.instructions == Liking.instructions and twin.reason.demos == module.reason.demos
    engine = scripted(completion(tag=None, draft="true", liked="true"))
    assert ask(twin).liked is True
    assert ask(module).liked is True
    assert engine.prompts()[0] == engine.prompts()[1]


def test_stock_predictors_need_cloudpickle():
    """DSPy's own limit, as docs/production.md says."""
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(dspy.Predict("film -> tag"))


class Mood(Enum):
    SAD = "sad"


def answered(texts, how):
    """What a process does: ask a program, whose answer or error goes back."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    lm = dspy.LM("scripted/x", engine=ScriptedEngine(*texts), cache=False)
    with dspy.context(lm=lm):
        return ask(how)


def of_a_local_type(texts):
    """The same, with an output whose type the other process cannot import."""

    class Local(Enum):
        SAD = "sad"

    return answered(texts, R2P(Film.with_updated_fields("tag", type_=Local), retriever=All()))


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.chat  # the processes of a pool have settings of their own, with the default adapter
class TestProcesses:
    def test_answer_comes_back(self, pool):
        module = program(checks=[Suggest(checks.quoted)], candidates=2)
        answer = pool.submit(answered, [completion()], module).result(120)
        assert (type(answer), answer.tag, answer.violations) == (R2PPrediction, "romance", [])
        assert (answer.reasoning.draft, answer.reasoning.cited[0].id, len(answer.candidates)) == ("romance", "m7", 2)

    def test_typed_answer_comes_back(self, pool):
        module = R2P(Film.with_updated_fields("tag", type_=Mood), retriever=All())
        answer = pool.submit(answered, [completion(tag="sad", draft="sad")], module).result(120)
        assert answer.tag is Mood.SAD and answer.outcome.tag is Mood.SAD

    def test_failed_assertion_comes_back(self, pool):
        failing = pool.submit(answered, [INVENTED], program())
        with pytest.raises(AssertionFailed, match="after 3 attempts the check 'cited' still fails") as caught:
            failing.result(120)
        failure = caught.value
        assert (failure.check, failure.prediction.tag, len(failure.attempts)) == ("cited", "romance", 3)
        assert (failure.completion, failure.inputs["film"]) == (INVENTED, FILM)
        assert failure.prediction.details.retrieved[0].ref == "m7"

    def test_unreadable_answer_comes_back(self, pool):
        with pytest.raises(AdapterParseError, match="no field") as caught:
            pool.submit(answered, ["no field"], Reason(Film)).result(120)
        assert caught.value.details.completion == "no field"

    def test_local_type_says_so_and_breaks_no_pool(self, pool):
        with pytest.raises((AttributeError, pickle.PicklingError), match="Can't pickle local object .*Local"):
            pool.submit(of_a_local_type, [completion(tag="sad", draft="sad")]).result(120)
        assert pool.submit(len, "abc").result(120) == 3


def test_models_survive():
    twin = pickle.loads(pickle.dumps(connect("openai/gpt-4o-mini")))
    assert twin.model == "openai/gpt-4o-mini"
