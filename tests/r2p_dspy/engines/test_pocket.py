"""The pocket model as it ships: what the rest of the project relies on."""

from pathlib import Path

import dspy
import pytest

import programs
from metrics.evidence import valid
from metrics.structure import compliant_final, compliant_first
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, example
from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.tasks.retrievers import default_retriever
from r2p_dspy import R2P, Suggest, connect, optimizing
from r2p_dspy.engines import context_window

FILES = Path(__file__).parents[3] / "r2p_dspy" / "pocket"


def test_size_and_context_window():
    assert (FILES / "model.safetensors").stat().st_size <= 12 * 2**20
    assert context_window(connect("pocket")) >= 4096
    assert (FILES / "README.md").exists(), "the card"


@pytest.mark.parametrize("task", MAKERS)
def test_citations(task):
    """Far below what the benchmarks measure on more users, so that only a broken model or prompt fails."""
    spec = TASKS[task]
    users = [example(spec, case) for case in draw(MAKERS[task], "held-out", 24, seed=5)]
    with dspy.context(lm=connect("pocket", cache=False)), optimizing():
        answers = dspy.Parallel(num_threads=12, disable_progress_bar=True)(
            [(programs.load(task), user.inputs()) for user in users]
        )
    assert count(compliant_first, answers) >= 22
    assert count(lambda answer: valid(answer, first=True), answers) >= 18
    assert count(valid, answers) >= 21


def count(measure, answers):
    """How many answers have a property; those to which it does not apply have not."""
    return sum(bool(measure(answer)) for answer in answers)


def ask_all(program, task, count=12):
    users = [example(TASKS[task], case) for case in draw(MAKERS[task], "held-out", count, seed=6)]
    with dspy.context(lm=connect("pocket", cache=False)), optimizing():
        pairs = [(program, user.inputs()) for user in users]
        return dspy.Parallel(num_threads=12, disable_progress_bar=True)(pairs)


@pytest.mark.parametrize("task", MAKERS)
def test_thinking_carrier(task):
    answers = ask_all(r2p(TASKS[task], carrier="thinking"), task)
    assert count(compliant_final, answers) >= 10
    assert count(valid, answers) >= 9


@pytest.mark.parametrize(
    "task", ["lamp2", *(pytest.param(task, marks=pytest.mark.slow) for task in MAKERS if task != "lamp2")]
)
def test_synthesis_of_candidates(task):
    spec = TASKS[task]
    program = R2P(spec.signature, retriever=default_retriever(spec), candidates=3, reconcile="synthesis")
    answers = ask_all(program, task)
    assert sum("after reading" in answer.decision for answer in answers) >= 10


@pytest.mark.parametrize("carrier", ["fields", "thinking"])
def test_resumes_from_a_correction(carrier):
    spec, stopped = TASKS["lamp2"], set()

    def otherwise(inputs, outcome):
        first = inputs.description not in stopped
        stopped.add(inputs.description)
        return not first, "The quote does not stand in that item; copy it word for word."

    check = Suggest(otherwise, after="evidence")
    program = R2P(spec.signature, retriever=default_retriever(spec), checks=[check], carrier=carrier)
    answers = ask_all(program, "lamp2")
    assert [len(answer.interventions) for answer in answers].count(1) >= 10
    assert count(compliant_final, answers) >= 10
    assert count(valid, answers) >= 9


@pytest.mark.parametrize("asynchronous", [False, True])
def test_cache_hides_no_intervention(asynchronous):
    spec = TASKS["lamp2"]
    check = Suggest(lambda inputs, outcome: (False, "Copy the quote word for word."), after="evidence")
    program = R2P(spec.signature, retriever=default_retriever(spec), checks=[check], max_backtracks=0)
    [case] = draw(MAKERS["lamp2"], "held-out", 1, seed=6)
    inputs = example(spec, case).inputs()
    with dspy.context(lm=connect("pocket", temperature=1.0)), optimizing():
        call = dspy.syncify(program) if asynchronous else program
        first, second = call(**inputs), call(**inputs)
    assert first.interventions and first.interventions == second.interventions
    assert first.tag == second.tag
