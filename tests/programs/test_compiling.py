"""Compiling: where demos come from, and what wins."""

import dspy
import pytest

from programs import lamp2
from programs.compiling import compile_program, composite, demonstrable
from programs.personas import films
from programs.personas.world import draw, example
from programs.ready import r2p
from r2p_dspy import optimizing
from tests.scripted import ScriptedEngine, completion

TASK = lamp2.TASK
EXAMPLES = [example(TASK, case) for case in draw(films.case, "train", 40)]


def knowing(right):
    """What a model says that cites properly, is right about some examples, and wrong about all others."""
    ids = {one.id for one in right}

    def say(request):
        asked = next(one.text for one in reversed(request.messages) if '"description": "' in one.text)
        case = next(one for one in EXAMPLES if one[TASK.question] in asked)
        quote = asked.split('"description": "')[1].split('"')[0]
        gold = case[TASK.answer]
        tag = gold if case.id in ids else next(label for label in TASK.labels if label != gold)
        return completion(evidence=f'[{{"item": "1", "quote": "{quote}"}}]', preferences="[]", draft=tag, tag=tag)

    return say


def model(say):
    return dspy.LM("test/model", engine=ScriptedEngine(say), cache=False, num_retries=0)


@pytest.mark.parametrize(
    "known, passing, tried",
    [(EXAMPLES, 16, 16), (EXAMPLES[20:], 12, 32), (EXAMPLES[:2], 2, 40), ([], 0, 40)],
    ids=["all pass: as many as run at a time", "the first fail: more are tried", "few pass: all are tried", "none"],
)
def test_demos_come_from_examples_that_pass_the_gate(known, passing, tried):
    with dspy.context(lm=model(knowing(known))), optimizing():
        found, seen = demonstrable(r2p(TASK), composite(TASK), EXAMPLES, threads=16)
    assert (len(found), seen) == (passing, tried)
    assert {one.id for one in found} <= {one.id for one in known}


@pytest.mark.parametrize("optimizer", ["random", "bootstrap"])
def test_a_model_that_never_passes_the_gate_costs_one_pass_and_leaves_the_program_as_it_is(optimizer):
    lm, lines = model(knowing([])), []
    with dspy.context(lm=lm):
        _, summary = compile_program(
            r2p(TASK), TASK, EXAMPLES[:20], EXAMPLES[20:30], optimizer=optimizer, progress=lines.append
        )
    assert summary["winner"] == "uncompiled" and summary["demos"] == 0
    assert summary["passing"] == {"passed": 0, "tried": 20}
    assert len(lm.engine.requests) == 20
    assert "0 of 20 training examples pass the gate and can become demos" in lines


@pytest.mark.parametrize("optimizer", ["random", "bootstrap"])
def test_demos_are_runs_that_passed(optimizer):
    known = EXAMPLES[:8]
    alone, with_demos = knowing(known), knowing(EXAMPLES)
    lm = model(lambda request: (alone if len(request.messages) == 1 else with_demos)(request))
    with dspy.context(lm=lm):
        program, summary = compile_program(r2p(TASK), TASK, EXAMPLES[:20], EXAMPLES[20:30], optimizer=optimizer)
    assert summary["winner"] == "compiled" and program.reason.demos
    golds = {one[TASK.question]: one[TASK.answer] for one in known}
    for demo in program.reason.demos:
        assert demo[TASK.answer] == golds[demo[TASK.question]]
        assert demo["evidence"] and demo["verification"]
