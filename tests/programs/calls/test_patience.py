"""Failed calls: which are asked again, and which end the run."""

import asyncio
import random

import dspy
import pytest
from dspy.utils import exceptions as errors

from programs.calls.patience import ASKS, CallFailures, RunStopped
from programs.calls.recording import record_calls
from programs.calls.rows import answering
from programs.calls.usage import UsageLimiter
from r2p_dspy import connect
from r2p_dspy.errors import ConfigError, RunError
from tests.faulty import FaultyServer
from tests.scripted import AsyncScriptedEngine, ScriptedEngine

HANG, DOWN, BUSY = errors.LMTimeoutError("no answer"), errors.LMServerError("500"), errors.LMRateLimitError("429")
REFUSED, KEY = errors.LMInvalidRequestError("400"), errors.LMAuthError("no key")


def model(*texts, most=0.05, limiter=None):
    limiter = limiter or UsageLimiter()
    engine = ScriptedEngine(*texts)
    lm = dspy.LM("scripted/test", engine=engine, async_engine=AsyncScriptedEngine(engine), num_retries=0, cache=False)
    return record_calls(lm, None, limiter, CallFailures(limiter, lm.model, most)), engine


def outcomes(lm, calls):
    """What each call gives: its text, or the class of its error."""
    results = []
    for _ in range(calls):
        try:
            results.append(lm("Hello")[0])
        except (errors.LMError, RunStopped) as error:
            results.append(type(error))
    return results


@pytest.mark.parametrize(
    "why, texts, expected, asked",
    [
        ("a server that fails is asked again", ["a", DOWN, "b"], ["a", "b"], 3),
        ("a hanging one too", ["a", HANG, "b"], ["a", "b"], 3),
        ("even before its first answer, if it speaks", [DOWN, BUSY, "a"], ["a"], 3),
        ("a call that fails every time is given up", ["a", *[DOWN] * ASKS, "b"], ["a", errors.LMServerError, "b"], 5),
        (
            "what the server refuses is not asked again",
            ["a", REFUSED, "b"],
            ["a", errors.LMInvalidRequestError, "b"],
            3,
        ),
        ("a server that was never there is not waited for", [HANG], [RunStopped] * 3, 1),
        ("a user who is refused is refused later too", ["a", KEY], ["a", RunStopped, RunStopped], 2),
        ("five failures in a row end the run", ["a", DOWN], ["a", errors.LMServerError, RunStopped, RunStopped], 6),
    ],
)
def test_calls_are_asked_again_until_the_server_is_gone(why, texts, expected, asked):
    lm, engine = model(*texts)
    assert outcomes(lm, len(expected)) == expected
    assert len(engine.requests) == asked


@pytest.mark.parametrize("rows, ends", [(("1", "1", "1"), False), (("1", "2"), True)])
def test_one_row_that_always_fails_is_not_the_servers_end(rows, ends):
    """All candidates of a row fail: the row fails, and the run goes on until another row fails too."""
    lm, _ = model("a", DOWN)
    results = outcomes(lm, 1)
    for row in rows:
        with answering("r2p", row, user="ada"):
            results += outcomes(lm, 1)
    assert (RunStopped in results) == ends


def test_async_calls_are_asked_again():
    lm, engine = model("a", DOWN, "b")
    assert [asyncio.run(lm.acall("Hello")) for _ in range(2)] == [["a"], ["b"]]
    assert len(engine.requests) == 3


@pytest.mark.parametrize("share, most, ends", [(0.02, 0.05, 0), (0.2, 0.05, 1), (0.2, 0.3, 0), (0.01, 0, 1)])
def test_run_ends_over_the_share(share, most, ends):
    draw = random.Random(0)
    lm, engine = model(lambda request: DOWN if draw.random() < share else "a", most=most)
    results = outcomes(lm, 400)
    assert (RunStopped in results) == ends
    if ends:
        assert len(engine.requests) < 150 and set(results[results.index(RunStopped) :]) == {RunStopped}


@pytest.mark.parametrize("faults", [["hang"], ["reset", "hang"]])
def test_all_asks_of_a_call_share_its_deadline(faults):
    limiter, rest = UsageLimiter(), ["", *faults]
    with FaultyServer(lambda number: rest[number] if number < len(rest) else "") as server:
        lm = connect("openai/m", api_base=server.api_base, api_key="none", cache=False, timeout=2, num_retries=0)
        recorded = record_calls(lm, None, limiter, CallFailures(limiter, lm.model))
        recorded("Hello")
        with pytest.raises(errors.LMTimeoutError, match="within 2 s"):
            recorded("Hello")
        assert len(server.requests) == len(rest)


def test_failures_of_calls_that_others_were_answered_during_do_not_end_the_run():
    failures = CallFailures(UsageLimiter(), "scripted/test", most=1)
    asks = [next(failures.asks()) for _ in range(8)]  # in flight together
    for ask in asks:
        ask.__enter__()
    failures.answered()
    assert all(ask.__exit__(type(HANG), HANG, None) for ask in asks)


def test_message_names_causes_share_and_remedy():
    lm, _ = model("a", *[HANG, "a"] * 9, DOWN)
    with pytest.raises(RunStopped) as stopped:
        outcomes(lm, 10)
        lm("Hello")
    assert isinstance(stopped.value.error, RunError)
    assert str(stopped.value.error) == (
        "10 of 11 calls of scripted/test failed, more than --max-failures 0.05 allows (9 timeout, 1 server); "
        "what was answered is kept: go on with --resume"
    )


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_impossible_share_is_refused(share):
    with pytest.raises(ConfigError, match="--max-failures is a share between 0 and 1"):
        CallFailures(UsageLimiter(), "scripted/test", share)
