"""A recorded model: the same request is made once, and replayed as it was, for checks that read it too."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from programs.calls.cache import CallCache, CallCacheFailed
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter, UsageLimitReached, UsageLimits
from r2p_dspy import Suggest, optimizing
from tests.film import ask, program
from tests.programs.calls.stored import stored_calls
from tests.r2p_dspy.decoding.test_intervention import SteerableEngine
from tests.r2p_dspy.engines.test_served import Continues, serve  # noqa: F401  (a fixture)
from tests.r2p_dspy.engines.test_served import lm as served
from tests.scripted import STAGES, AsyncScriptedEngine, ScriptedEngine, completion

LOST = completion(evidence=STAGES["evidence"].replace('"1"', '"7"'))


def model(folder, *texts, limiter=None, kind=ScriptedEngine, **settings):
    """A recorded model that writes these texts, and its engine."""
    engine = kind(*texts)
    lm = dspy.LM("scripted/test", engine=engine, async_engine=AsyncScriptedEngine(engine), num_retries=0, **settings)
    cache = CallCache(folder) if folder is not None else None
    return record_calls(lm, cache, limiter or UsageLimiter()), engine


def entries(lm, **how):
    """What a call says, and what DSPy counts for it."""
    with dspy.track_usage() as usage:
        said = lm("Hello", **how)
    return said, usage.usage_data["scripted/test"]


def test_a_call_is_made_once_and_keeps_its_usage(tmp_path):
    first, engine = model(tmp_path, "one", "two")
    said, (made,) = entries(first)
    again, (replayed,) = entries(first)
    other, other_engine = model(tmp_path, "three")
    later, (later_usage,) = entries(other)
    assert said == again == later == ["one"]
    assert len(engine.requests) == 1 and not other_engine.requests
    assert made["prompt_tokens"] == 10 and made["replayed"] == 0 and made["seconds"] >= 0
    assert {**made, "replayed": 1} == replayed == later_usage
    assert (other.limiter.usage.calls, other.limiter.replayed.calls, other.limiter.replayed.tokens) == (0, 1, 15)


DIFFERENT = [
    ("another question", {"prompt": "Bye"}),
    ("a seed", {"seed": 3}),
    ("a temperature", {"temperature": 0.5}),
    ("a rollout", {"rollout_id": 7, "temperature": 1.0}),
    ("fewer tokens", {"max_tokens": 9}),
    ("two answers", {"n": 2}),
]


@pytest.mark.parametrize("why, changed", DIFFERENT, ids=[row[0] for row in DIFFERENT])
def test_what_changes_the_answer_is_another_call(tmp_path, why, changed):
    lm, engine = model(tmp_path, "one")
    lm("Hello")
    how = {"prompt": "Hello", **changed}
    lm(how.pop("prompt"), **how)
    assert len(engine.requests) > 1
    before = len(engine.requests)
    lm(changed.get("prompt", "Hello"), **how)
    assert len(engine.requests) == before, "and is kept too"


def test_settings_of_a_copy_count_and_a_key_does_not(tmp_path):
    lm, engine = model(tmp_path, "one")
    lm("Hello")
    lm.copy(rollout_id=1, temperature=1.0)("Hello")
    assert len(engine.requests) == 2
    lm.copy()("Hello")
    lm("Hello", cache=False)
    assert len(engine.requests) == 2


def test_a_thought_comes_back(tmp_path):
    lm, _ = model(tmp_path, ("hm", "one"))
    assert lm("Hello") == lm("Hello") == [{"text": "one", "reasoning_content": "hm"}]
    assert lm("Hello")[0].text == "one", "as DSPy gives it"


def test_async_calls_are_kept_beside_the_others(tmp_path):
    lm, engine = model(tmp_path, "one", "two")
    assert asyncio.run(lm.acall("Hello")) == lm("Hello") == asyncio.run(lm.acall("Hello")) == ["one"]
    assert len(engine.requests) == 1


def test_who_listens_to_calls_hears_of_the_replayed_ones(tmp_path):
    class Listening(BaseCallback):
        heard = []

        def on_lm_start(self, call_id, instance, inputs):
            self.heard.append(sorted(inputs))

        def on_lm_end(self, call_id, outputs, exception=None):
            self.heard.append(outputs)

    lm, _ = model(tmp_path, "one")
    with dspy.context(callbacks=[Listening()]):
        lm("Hello")
        lm("Hello")
    assert Listening.heard == [["kwargs", "messages", "prompt"], ["one"]] * 2


def test_a_call_that_fails_is_no_completed_one(tmp_path):
    lm, engine = model(tmp_path, RuntimeError("down"), "one")
    with pytest.raises(Exception, match="down"):
        lm("Hello")
    assert lm("Hello") == ["one"] and len(engine.requests) == 2
    assert lm.limiter.usage.calls == 2, "but it is one that was begun"


def test_without_a_cache_calls_are_only_counted():
    lm, engine = model(None, "one", cache=False)
    assert [lm("Hello"), lm("Hello")] == [["one"]] * 2
    assert len(engine.requests) == lm.limiter.usage.calls == 2 and lm.limiter.usage.tokens == 30


def test_a_call_that_was_steered_is_read_again_with_its_interventions(tmp_path):
    good = completion()
    rest = good[good.index("[[ ## evidence") :].partition("\n")[2]  # what follows the stage's mark
    answers = []
    for _ in range(2):
        lm, engine = model(tmp_path, LOST, "\n" + rest, kind=SteerableEngine)
        with dspy.context(lm=lm):
            answers.append(ask(program(max_backtracks=0)))
        calls = len(engine.requests)
    first, again = answers
    assert calls == 0
    assert first.interventions == again.interventions and first.interventions[0].check == "cited"
    assert first.correction_mode == again.correction_mode == "stream"
    assert dict(first.items()).keys() == dict(again.items()).keys() and first.tag == again.tag
    assert [one.model_dump() for one in first.attempts] == [one.model_dump() for one in again.attempts]


def test_a_steered_call_is_made_again_when_its_checks_are_others(tmp_path):
    def strict(inputs, outcome):
        return len(outcome.evidence) > 1, "Cite two items."

    lm, engine = model(tmp_path, completion(), kind=SteerableEngine)
    with dspy.context(lm=lm), optimizing():
        ask(program())
        ask(program())
        assert len(engine.requests) == 1
        made = ask(program(checks=[Suggest(strict, after="evidence")], max_backtracks=0))
    assert len(engine.requests) == 2
    assert [one.check for one in made.interventions] == ["strict"], "once, by the reader that was there at the replay"
    assert stored_calls(tmp_path) == (1, 1)


def test_threads_share_a_recorded_model(tmp_path):
    lm, engine = model(tmp_path, lambda request: request.messages[-1].text)
    asked = [f"Question {number}" for number in range(40)] * 2
    with ThreadPoolExecutor(16) as pool:
        said = [call.result() for call in [pool.submit(copy_context().run, lm, one) for one in asked[:40]]]
        again = [call.result() for call in [pool.submit(copy_context().run, lm, one) for one in asked[40:]]]
    assert said == again == [[one] for one in asked[:40]]
    assert len(engine.requests) == 40 and stored_calls(tmp_path) == (40, 0)


def test_copies_share_cache_and_limiter(tmp_path):
    lm, _ = model(tmp_path, "one")
    module = dspy.Predict("question -> answer")
    module.set_lm(lm)
    copied = module.deepcopy().lm
    assert copied.call_cache is lm.call_cache and copied.limiter is lm.limiter and type(copied) is type(lm)
    assert isinstance(lm, dspy.LM)


def test_a_reached_limit_still_replays(tmp_path):
    lm, engine = model(tmp_path, "one", limiter=UsageLimiter(UsageLimits(calls=1)))
    lm("Hello")
    with pytest.raises(UsageLimitReached, match="--max-calls 1"):
        lm("Bye")
    assert lm("Hello") == ["one"] and len(engine.requests) == 1


def test_a_limit_in_dollars_needs_a_price():
    with pytest.raises(ValueError, match="the price of scripted/test is not known.*--max-tokens"):
        model(None, "one", limiter=UsageLimiter(UsageLimits(usd=1.0)))


def test_a_full_disk_lets_no_further_call_begin(tmp_path, monkeypatch):
    def full(self, key, model, call):
        raise CallCacheFailed("full")

    lm, engine = model(tmp_path, "one")
    monkeypatch.setattr(CallCache, "put", full)
    for _ in range(2):
        with pytest.raises(CallCacheFailed):
            lm("Hello")
    assert len(engine.requests) == 1
    lm.limiter.drain()


STREAMED = (lambda start: start(completion()), {}, "stream")
STAGED = (
    lambda start: start(Continues(completion()), vllm=False),
    {"prefix": {"continue_final_message": True, "add_generation_prompt": False}},
    "stages",
)


@pytest.mark.parametrize("begin, options, grade", [STREAMED, STAGED], ids=["stream", "stages"])
def test_a_served_answer_is_one_call_however_it_is_steered(
    serve,  # noqa: F811
    tmp_path,
    begin,
    options,
    grade,
):
    server = begin(serve)
    lm = record_calls(served(server, **options), CallCache(tmp_path), UsageLimiter())
    with dspy.context(lm=lm):
        first, asked = ask(program()), len(server.bodies("/v1/completions") + server.bodies("/v1/chat/completions"))
        again = ask(program())
    assert (first.correction_mode, again.correction_mode) == (grade, grade) and first.tag == again.tag == "romance"
    assert len(server.bodies("/v1/completions") + server.bodies("/v1/chat/completions")) == asked > 0
    assert (stored_calls(tmp_path)[0], lm.limiter.usage.calls, lm.limiter.replayed.calls) == (1, 1, 1)
    assert lm.limiter.usage.tokens == lm.limiter.replayed.tokens > 0
