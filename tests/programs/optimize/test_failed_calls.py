"""Compiling while calls fail: no failure chooses the winner, and too many end the run with what it has."""

import json
import random

import dspy
import pytest
from dspy.utils import exceptions as errors

from programs.calls.patience import CallFailures
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter
from programs.optimize.compiling import compile_program
from programs.tasks.program import r2p
from r2p_dspy import R2P, Assert
from r2p_dspy.errors import CheckError, RunError
from tests.programs.optimize.proposer import EXAMPLES, HELPS, TASK, answer, asked_example, model, propose, taught_by
from tests.programs.optimize.test_resume import compile_in, engine, knows, outcome  # noqa: F401  (a fixture)
from tests.programs.optimize.test_resume import examples as persona_examples

TRAIN, DEV = EXAMPLES[:12], EXAMPLES[20:32]
KNOWN = EXAMPLES[:6]
DOWN = errors.LMServerError("500")


def compiled(optimizer, say, *, recorded=True, dev=DEV):
    limiter, lm = UsageLimiter(), model(say)
    lm = record_calls(lm, None, limiter, CallFailures(limiter, lm.model)) if recorded else lm
    with dspy.context(lm=lm):
        return compile_program(
            r2p(TASK), TASK, TRAIN, dev, optimizer=optimizer, threads=1, reflection=model(propose, "test/strong")
        )


def state(program):
    return json.dumps(program.dump_state(), sort_keys=True, default=str)


@pytest.mark.parametrize("optimizer", ["bootstrap", "random", "mipro", "gepa"])
def test_occasional_failures_choose_the_same_winner(optimizer):
    draw, say = random.Random(1), taught_by(KNOWN, demos=optimizer != "mipro")
    plain, expected = compiled(optimizer, say)
    program, summary = compiled(optimizer, lambda request: DOWN if draw.random() < 0.03 else say(request))
    assert state(program) == state(plain)
    assert summary == expected and summary["failures"]["server"] == 0


@pytest.mark.parametrize("fault", [DOWN, errors.LMTimeoutError("no answer"), errors.LMRateLimitError("429")])
@pytest.mark.parametrize("optimizer", ["random", "gepa"])
def test_failed_dev_call_changes_no_ranking(optimizer, fault):
    """On dev the uncompiled program is wrong about one example, and compiling about another, so it gains nothing.

    One example fails for the uncompiled program alone: as a score of 0, that made compiling win.
    """
    hard, failing, spoilt = DEV[:3]
    knows_most = taught_by([*TRAIN, failing, *DEV[3:]], demos=False)

    def say(request):
        changed = len(request.messages) > 1 or HELPS in (request.system or "")
        case, _ = asked_example(request)
        if case.id == failing.id and not changed:
            return fault
        if case.id in (hard.id, spoilt.id):
            return answer(request, changed == (case.id == hard.id))
        return knows_most(request)

    _, summary = compiled(optimizer, say, recorded=False)
    assert summary["unanswered"] == 1 and summary["failures"]["server"] >= 1
    assert summary["winner"] == "uncompiled", summary
    assert summary["dev_scores"]["uncompiled"] == max(summary["dev_scores"].values())


@pytest.mark.parametrize("optimizer", ["bootstrap", "random", "mipro", "gepa"])
def test_many_failed_calls_stop_no_optimizer(optimizer):
    """DSPy's limit of ten errors does not count what says nothing about the program; `--max-failures` does."""
    dev, say = EXAMPLES[12:], taught_by(EXAMPLES)
    failing = {case.id for case in dev[:12]}
    _, summary = compiled(
        optimizer, lambda r: DOWN if asked_example(r)[0].id in failing else say(r), recorded=False, dev=dev
    )
    assert summary["unanswered"] == 12 and summary["dev_scores"]["uncompiled"] > 0


def test_faults_of_a_check_do():
    def broken(inputs, outcome):
        if next(calls) % 2:
            raise KeyError("film")
        return True

    calls, program = iter(range(10_000)), r2p(TASK)
    checked = R2P(TASK.signature, retriever=program.retriever, checks=[Assert(broken)])
    with dspy.context(lm=model(taught_by(EXAMPLES))), pytest.raises(CheckError, match="film"):
        compile_program(checked, TASK, TRAIN, EXAMPLES[12:], optimizer="bootstrap", threads=1)


def test_refused_row_scores_nothing_and_stops_nothing():
    filtered = errors.LMInvalidRequestError("no", provider_code="content_filter")
    say = taught_by(KNOWN)
    _, summary = compiled("random", lambda r: filtered if asked_example(r)[0].id == DEV[0].id else say(r))
    assert summary["winner"] == "compiled" and summary["unanswered"] == 0
    assert max(summary["dev_scores"].values()) == pytest.approx(100 * 11 / 12, abs=0.01)


def test_refused_user_ends_compiling():
    calls = iter(range(1000))
    with pytest.raises(BaseException, match="no key") as stopped:
        compiled(
            "random", lambda request: errors.LMAuthError("no key") if next(calls) > 20 else taught_by(KNOWN)(request)
        )
    assert type(stopped.value).__name__ == "RunStopped"


@pytest.mark.parametrize("after", [15, 45])
def test_failing_server_ends_a_run_that_resumes(engine, tmp_path, after):  # noqa: F811
    """Nothing is asked twice but the calls that failed, and the result is that of a run without failures."""
    say, draw, calls = knows(persona_examples()), random.Random(5), iter(range(10_000))
    engine.texts = [lambda request: DOWN if next(calls) > after and draw.random() < 0.6 else say(request)]
    with pytest.raises(RunError, match=r"more than --max-failures 0.05 allows|times in a row") as stopped:
        compile_in(tmp_path / "run")
    assert "--resume" in str(stopped.value) and not (tmp_path / "run" / "report.json").exists()
    if after == 45:
        summary = json.loads((tmp_path / "run" / "compiling.json").read_text())
        assert "failed" in summary["stopped"] and (tmp_path / "run" / "program.json").exists()
    engine.texts = [say]
    compile_in(tmp_path / "run", resume=True)
    compile_in(tmp_path / "alone", calls=str(tmp_path / "fresh"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")
