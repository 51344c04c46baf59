"""Usage limits: they hold among many threads, stop an optimizer at once, and keep the best program so far."""

import time
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from programs.calls.cache import Usage
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter, UsageLimitReached, UsageLimits
from programs.optimize.best_candidate import RatedCandidates, compile_within_limits
from programs.optimize.estimate import estimate
from programs.optimize.optimizers import program_runs
from r2p_dspy import connect
from tests.faulty import FaultyServer
from tests.film import FILM, HISTORY, program
from tests.scripted import ScriptedEngine, completion

CALL = Usage(1, prompt=10, completion=5, usd=0.01, seconds=0.1)


@pytest.mark.parametrize("limit", [{"calls": 0}, {"tokens": -1}, {"usd": 0.0}, {"minutes": float("nan")}])
def test_limits_must_be_above_zero(limit):
    with pytest.raises(ValueError, match=r"--max-\w+ must be above 0"):
        UsageLimits(**limit)


@pytest.mark.parametrize(
    "limits, begun",
    [
        (UsageLimits(), 50),
        (UsageLimits(calls=7), 7),
        (UsageLimits(tokens=46), 4),
        (UsageLimits(usd=0.035), 4),
        (UsageLimits(calls=9, tokens=15), 1),
    ],
)
def test_no_call_begins_at_a_limit(limits, begun):
    limiter, calls = UsageLimiter(limits), 0
    for _ in range(50):
        try:
            limiter.admit()
        except UsageLimitReached as reached:
            assert "--max-" in str(reached)
            continue
        limiter.done(CALL)
        calls += 1
    assert calls == begun == limiter.usage.calls


def test_minutes_count_from_the_start():
    limiter = UsageLimiter(UsageLimits(minutes=0.001))
    limiter.admit()
    time.sleep(0.07)
    with pytest.raises(UsageLimitReached, match="--max-minutes 0.001"):
        limiter.admit()


def test_usage_before_a_resume_counts():
    limiter = UsageLimiter(UsageLimits(calls=3), before=Usage(calls=2))
    limiter.admit()
    with pytest.raises(UsageLimitReached):
        limiter.admit()


@pytest.mark.parametrize(
    "kept, within",
    [(Usage(calls=4), 6), (Usage(calls=40), 5), (Usage(), 10)],
    ids=["as much", "half of what is left at most", "nothing"],
)
def test_reserving_lowers_the_limits(kept, within):
    limiter, calls = UsageLimiter(UsageLimits(calls=10)), 0
    with limiter.reserving(kept):
        while True:
            try:
                limiter.admit()
            except UsageLimitReached as reached:
                assert ("reserved for measuring" in str(reached)) == (within < 10)
                break
            calls += 1
    assert calls == within
    for _ in range(10 - within):
        limiter.admit()
    with pytest.raises(UsageLimitReached):
        limiter.admit()


def model(limits, say):
    engine = ScriptedEngine(say)
    return record_calls(
        dspy.LM("scripted/test", engine=engine, cache=False, num_retries=0), None, UsageLimiter(limits)
    ), engine


def test_threads_overshoot_by_calls_in_flight_at_most():
    def slow(request):
        time.sleep(0.01)
        return "said"

    lm, engine = model(UsageLimits(tokens=300), slow)  # of 15 each: 20 calls
    examples = [dspy.Example(question=str(number), answer="").with_inputs("question") for number in range(200)]
    evaluate = dspy.Evaluate(devset=examples, metric=lambda example, prediction: 1.0, num_threads=16)
    with (
        dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)),
        pytest.raises(UsageLimitReached),
    ):
        evaluate(Echo())
    lm.limiter.drain()
    assert 20 <= len(engine.requests) <= 20 + 16
    assert len(engine.requests) == lm.limiter.usage.calls and lm.limiter.usage.tokens == 15 * lm.limiter.usage.calls


class Echo(dspy.Module):
    """Asks, and makes nothing of it."""

    def forward(self, question):
        return dspy.Prediction(answer=dspy.settings.lm(question)[0])


def test_drain_waits_for_calls_under_way():
    limiter = UsageLimiter()
    limiter.admit()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (time.sleep(0.1), limiter.done(CALL)))
        limiter.drain()
    assert limiter.usage.tokens == 15


def test_calls_under_way_are_given_up_if_they_have_no_time_left():
    limiter = UsageLimiter()
    with FaultyServer("hang") as server, ThreadPoolExecutor(4) as pool:
        lm = connect("openai/m", api_base=server.api_base, api_key="none", cache=False, timeout=60)
        calls = [pool.submit(record_calls(lm, None, limiter), "Hello") for _ in range(4)]
        while len(server.requests) < 4:
            time.sleep(0.01)
        limiter.close(UsageLimitReached("the run is over"), seconds=0.2)
        limiter.drain()
        assert {type(call.exception(5)) for call in calls} == {UsageLimitReached}
        assert server.hung_up()


DEV = [dspy.Example(id=str(n), film=FILM, profile=HISTORY).with_inputs("film", "profile") for n in range(4)]


def rated(score):
    """R2P with a whole demo, whose draft says how good it is, and one that is none."""
    rated_program = program()
    whole = dict.fromkeys(rated_program.reason.signature.fields, "x") | {"profile": HISTORY, "draft": str(score)}
    rated_program.reason.demos = [dspy.Example(whole), dspy.Example(draft="a stage alone")]
    return rated_program


def score_of(module):
    return float(module.reason.demos[0].draft)


def rate(module, devset=DEV):
    score = score_of(module) if module.reason.demos else 0.3
    dspy.Evaluate(devset=devset, metric=lambda example, prediction: score, num_threads=2)(module)


def stopping(*scores):
    """An optimizer that rates candidates of these scores, until a usage limit is reached."""

    def compiling():
        for score in scores:
            rate(program() if score is None else rated(score))
        raise UsageLimitReached("the usage limit is reached (--max-calls 9)")

    return compiling


@pytest.mark.parametrize(
    "scores, winner, best",
    [((0.2, 0.9, 0.4), "compiled", 90.0), ((None, 0.1), "uncompiled", 30.0), ((), "uncompiled", None)],
    ids=["the best of three", "the uncompiled one was best", "none was rated"],
)
def test_limit_keeps_the_best_candidate(scripted, scores, winner, best):
    scripted(completion())
    chosen, summary = compile_within_limits(stopping(*scores), program(), DEV, UsageLimiter(), "random")
    assert summary["winner"] == winner
    assert summary["dev_scores"] == ({} if best is None else {"best so far": best})
    assert (
        summary["stopped"].startswith("the usage limit is reached (--max-calls 9)")
        and str(len(scores)) in summary["stopped"]
    )
    assert [demo.draft for demo in chosen.reason.demos] == ([str(best / 100)] if winner == "compiled" else [])


def test_ratings_on_part_of_dev_are_ignored(scripted):
    scripted(completion())
    best = RatedCandidates(DEV)
    with dspy.context(callbacks=[best]):
        rate(rated(0.9), DEV[:2])
        rate(rated(0.5), DEV[::-1])
    assert best.scores == [50.0] and score_of(best.best()) == 0.5


def test_candidate_is_kept_as_rated(scripted):
    scripted(completion())
    best, candidate = RatedCandidates(DEV), rated(0.9)
    with dspy.context(callbacks=[best]):
        rate(candidate)
        candidate.reason.demos = []
    assert score_of(best.best()) == 0.9


def test_estimate_scales_with_runs_and_threads():
    measured = Usage(calls=10, prompt=900, completion=100, usd=0.2, seconds=60.0)
    few, many = (estimate(measured, 10, runs, threads=4) for runs in (100, 200))
    assert few == {"calls": 100, "tokens": 10_000, "usd": 2.0, "minutes": 2.5}
    assert many == {name: 2 * value for name, value in few.items()}
    assert estimate(measured, 10, 100, threads=8)["minutes"] == few["minutes"] / 2
    assert program_runs("bootstrap", 60, 60) < program_runs("random", 60, 60) < program_runs("mipro", 60, 60)
