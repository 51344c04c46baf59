"""Compiling while calls fail: no failure chooses the winner, and too many end the run with what it has."""

import json
import random

import dspy
import pytest
from dspy.utils import exceptions as errors

from programs.calls.patience import CallFailures
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter
from programs.data.dataset import personas
from programs.optimize.compiling import compile_program
from programs.optimize.trials import Trial, Tuning
from programs.tasks import lamp2
from programs.tasks.program import R2PConfig, r2p
from r2p_dspy import R2P, Assert
from r2p_dspy.errors import CheckError, DataError, RunError
from tests.programs.optimize.proposer import EXAMPLES, HELPS, TASK, answer, asked_example, model, propose, taught_by
from tests.programs.optimize.test_resume import LIMIT, compile_in, engine, knows, outcome  # noqa: F401  (a fixture)
from tests.programs.optimize.test_resume import examples as persona_examples
from tests.test_cli import run

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


def failing_on(faults):
    """A model that fails for some examples, by their ids, and knows the others."""
    known = persona_examples()
    say = knows(known)

    def write(request):
        asked = next(example for example in known if example.description in request.messages[-1].text)
        return faults.get(asked.id) or say(request)

    return write


def test_failed_rows_are_left_out_of_a_resumed_compile(engine, tmp_path):  # noqa: F811
    """Two of the reported rows always fail, which is one too many; one of them is left out, and one of dev too."""
    loaded = personas(lamp2.TASK, seed=0, limit=LIMIT)
    reported, dev = [loaded.test[number].id for number in (0, 2)], loaded.dev[1].id
    bad = errors.LMInvalidRequestError("bad schema")
    engine.texts = [failing_on(dict.fromkeys([*reported, dev], bad))]
    with pytest.raises(RunError, match=r"rows of predict failed \(2 invalid"):
        compile_in(tmp_path / "run")
    with pytest.raises(DataError, match="--skip names 'nobody', but no example has that id"):
        compile_in(tmp_path / "run", resume=True, skip=("nobody",))
    report = compile_in(tmp_path / "run", resume=True, skip=(reported[0], dev))
    assert report["examples"] == LIMIT - 1 and report["skipped"] == {"train": [dev], "test": [reported[0]]}
    assert report["programs"]["predict"]["failed_rows"] == {"invalid": 1}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["skip"], config["skipped_later"]) == ([], [reported[0], dev])


TUNING = "compile --model openai/scripted --tune --optimizer none --trials 3 --num-threads 4 --temperature 0".split()


def test_failed_rows_of_trials_are_no_scores(engine, tmp_path):  # noqa: F811
    """The server always fails on one example of dev: it is left out of all trials, and listed."""
    always = personas(lamp2.TASK, seed=0, limit=LIMIT).dev[0].id

    def options(name):
        return [*TUNING, "--limit", LIMIT, "--output", tmp_path / name / "run"]

    assert run(*options("whole")).exit_code == 0
    engine.texts = [failing_on({always: DOWN})]
    result = run(*options("failing"))
    assert result.exit_code == 3, result.output + result.stderr
    whole, report = (json.loads((tmp_path / name / "run/report.json").read_text()) for name in ("whole", "failing"))
    assert report["tuning"]["winner"] == whole["tuning"]["winner"]
    count = len(report["tuning"]["trials"])
    assert report["tuning"]["failed_rows"] == {"server": count}
    assert [trial["examples"] for trial in report["tuning"]["trials"]] == [7] * count
    assert result.output.splitlines()[-1] == f"{count} rows failed, see {tmp_path / 'failing/run/failed.jsonl'}"
    listed = [json.loads(line) for line in (tmp_path / "failing/run/failed.jsonl").read_text().splitlines()]
    assert {(row["program"][:5], row["id"], row["error"]) for row in listed} == {("tune-", always, "500")}


def test_trials_without_a_common_example_are_not_compared():
    def trial(k, *answered):
        row = {"user": None, "calls": 1, "prompt_tokens": 1, "completion_tokens": 1, "score": 1.0}
        return Trial(R2PConfig(k=k), [row if yes else {**row, "failed": "server"} for yes in answered], complete=True)

    with pytest.raises(RunError, match="failed on every example"):
        _ = Tuning([trial(1, True, False), trial(2, False, True)]).winner
