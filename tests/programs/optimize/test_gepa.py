"""GEPA's frontier: a part of the score alone can keep a candidate, and every row reports every part."""

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError, LMServerError

from programs.optimize.compiling import compile_program, composite
from programs.optimize.gepa import EveryRow
from programs.runs.configs import CompileConfig
from programs.tasks.program import r2p
from r2p_dspy import optimizing
from r2p_dspy.scoring.composite import WEIGHTS
from tests.programs.optimize.proposer import EXAMPLES, HELPS, TASK, answer, asked_example, model
from tests.scripted import ScriptedEngine

TRAIN, DEV = EXAMPLES[:12], EXAMPLES[20:26]
SOLVES = "Copy quotes to the letter."


def forged(request, text):
    """The answer with quotes that no item says, until the model is told so."""
    return text if "not accepted" in (request.messages[-1].text or "") else text.replace('"quote": "', '"quote": "no ')


def say(request):
    """Uncompiled: right on dev, with forged quotes. `HELPS`: honest quotes, wrong on dev. `SOLVES` too: right."""
    case, _ = asked_example(request)
    trained = case.id in {example.id for example in TRAIN}
    learnt = case.id in {example.id for example in TRAIN[::2]}
    if SOLVES in (request.system or ""):
        return answer(request, True)
    if HELPS in (request.system or ""):
        return answer(request, learnt)
    return forged(request, answer(request, not trained))


def propose(request):
    """An instruction that helps, and one that solves the task for whoever has the first one already."""
    text = "\n".join([request.system or "", *(message.text or "" for message in request.messages)])
    return f'{{"new_instruction": "Choose the tag. {HELPS} {SOLVES if HELPS in text else ""}"}}'


@pytest.mark.parametrize(
    ("frontier", "winner"),
    [("instance", "uncompiled"), ("objective", "compiled"), ("hybrid", "compiled"), ("cartesian", "compiled")],
)
def test_a_part_alone_keeps_a_candidate_that_leads_to_the_best_program(frontier, winner):
    """Its only merit is its evidence: on the frontier of examples it has no place, so nothing is built on it."""
    with dspy.context(lm=model(say)):
        _, summary = compile_program(
            r2p(TASK),
            TASK,
            TRAIN,
            DEV,
            optimizer="gepa",
            reflection=model(propose, "test/strong"),
            frontier=frontier,
            threads=4,
        )
    assert summary["winner"] == winner
    assert set(summary["objectives"]) == set(WEIGHTS)
    best_evidence = summary["objectives"]["evidence"]
    assert best_evidence["best"] == 1.0 and 1 in best_evidence["candidates"] and 0 not in best_evidence["candidates"]
    assert summary["objectives"]["task"]["candidates"][0] == 0


def test_a_row_that_fails_reports_every_objective():
    score, (failing, fine) = composite(TASK), DEV[:2]

    def fail(request):
        if asked_example(request)[0].id == failing.id:
            raise LMInvalidRequestError("too many tools")
        return answer(request, True)

    program = r2p(TASK)
    with dspy.context(lm=dspy.LM("test/x", engine=ScriptedEngine(fail), cache=False, num_retries=0)), optimizing():
        rows = [(row, EveryRow(program)(**row.inputs())) for row in (failing, fine)]
    objectives = [score.gepa_metric(row, prediction).objective_scores for row, prediction in rows]
    assert objectives == [dict.fromkeys(WEIGHTS, 0.0), dict.fromkeys(WEIGHTS, 1.0)]
    assert score.gepa_metric(*rows[0]).score == 0


def test_a_failing_server_is_no_row():
    with dspy.context(lm=model(lambda request: LMServerError("500"))), optimizing(), pytest.raises(LMServerError):
        EveryRow(r2p(TASK))(**DEV[0].inputs())


def test_an_unreadable_row_reports_every_objective():
    score = composite(TASK)
    with dspy.context(lm=model(lambda request: "I will not write fields.")), optimizing():
        prediction = EveryRow(r2p(TASK))(**DEV[0].inputs())
    assert score.gepa_metric(DEV[0], prediction).objective_scores == dict.fromkeys(WEIGHTS, 0.0)


def test_names_are_the_program_s_own():
    program = r2p(TASK)
    assert [name for name, _ in EveryRow(program).named_predictors()] == ["reason"]


def test_the_frontier_decides_the_result_so_a_resumed_run_must_have_the_same():
    assert CompileConfig.of(task="lamp2", optimizer="gepa", frontier="hybrid").options()["frontier"] == "hybrid"
