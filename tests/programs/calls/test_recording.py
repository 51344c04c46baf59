"""A recorded model: the same request is made once, and replayed as it was, for checks that read it too."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from programs.calls import recording
from programs.calls.cache import CallCache, CallCacheFailed
from programs.calls.recording import record_calls
from programs.calls.rows import answering
from programs.calls.usage import UsageLimiter, UsageLimitReached, UsageLimits
from r2p_dspy import Suggest, optimizing
from r2p_dspy.engines.lm import LocalLM
from r2p_dspy.engines.served.bounded import BoundedLM
from r2p_dspy.engines.served.lm import ServedLM
from tests.endpoint import Endpoint, Reply
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
        outputs = lm("Hello", **how)
    return outputs, usage.usage_data["scripted/test"]


def test_repeated_request_is_replayed_with_its_usage(tmp_path):
    first, engine = model(tmp_path, "one", "two")
    outputs, (usage,) = entries(first)
    again, (replayed,) = entries(first)
    other, other_engine = model(tmp_path, "three")
    later, (later_usage,) = entries(other)
    assert outputs == again == later == ["one"]
    assert len(engine.requests) == 1 and not other_engine.requests
    assert usage["prompt_tokens"] == 10 and usage["replayed"] == 0 and usage["seconds"] >= 0
    assert {**usage, "replayed": 1} == replayed == later_usage
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
def test_other_settings_are_another_call(tmp_path, why, changed):
    lm, engine = model(tmp_path, "one")
    lm("Hello")
    how = {"prompt": "Hello", **changed}
    lm(how.pop("prompt"), **how)
    assert len(engine.requests) > 1
    before = len(engine.requests)
    lm(changed.get("prompt", "Hello"), **how)
    assert len(engine.requests) == before, "and is kept too"


def test_key_has_settings_of_copies_but_not_cache(tmp_path):
    lm, engine = model(tmp_path, "one")
    lm("Hello")
    lm.copy(rollout_id=1, temperature=1.0)("Hello")
    assert len(engine.requests) == 2
    lm.copy()("Hello")
    lm("Hello", cache=False)
    assert len(engine.requests) == 2


def test_thought_is_replayed(tmp_path):
    lm, _ = model(tmp_path, ("hm", "one"))
    assert lm("Hello") == lm("Hello") == [{"text": "one", "reasoning_content": "hm"}]
    assert lm("Hello")[0].text == "one", "as DSPy gives it"


def test_rows_have_calls_of_their_own(tmp_path):
    engine = ScriptedEngine("one", "two", "three", "four")
    lm = dspy.LM("scripted/test", engine=engine, temperature=1.0)

    def asked(row, times=1):
        """What a row is told in a process of its own."""
        cached = record_calls(lm, CallCache(tmp_path, by_row=True), UsageLimiter())
        with answering("r2p", row, user="ada"):
            return [cached("Hello")[0] for _ in range(times)]

    assert asked("1", 2) == ["one", "two"], "a repeated request is another draw"
    assert asked("2") == ["three"], "and so is that of another row"
    assert asked("1", 2) == ["one", "two"] and asked("1", 3) == ["one", "two", "four"]
    assert len(engine.requests) == 4


def test_calls_have_their_user(tmp_path):
    lm, engine = model(tmp_path, "one")
    with answering("r2p", "1", user="ada"):
        lm("Hello")
    with answering("r2p", "2", user="bob"):
        assert lm("Hello") == ["one"] and len(engine.requests) == 1, "shared, where the cache is not by row"
    assert (lm.call_cache.forget("bob"), lm.call_cache.forget("ada")) == (0, 1)


def test_reason_of_an_unreadable_answer_is_replayed(tmp_path):
    """A replayed run must stop where the paid one stopped, and count the same causes."""
    with Endpoint(Reply.refusal("I would rather not.")) as endpoint:
        options = {"api_base": endpoint.api_base, "api_key": "none", "num_retries": 0}
        for _ in range(2):
            lm = record_calls(dspy.LM("openai/test", **options), CallCache(tmp_path), UsageLimiter())
            with dspy.context(lm=lm, disable_history=True), optimizing():
                (attempt,) = ask(program()).attempts
            assert (attempt.unreadable.cause, attempt.unreadable.reply) == ("refused", "I would rather not.")
        assert endpoint.asked == 1


def test_async_and_sync_calls_share_the_cache(tmp_path):
    lm, engine = model(tmp_path, "one", "two")
    assert asyncio.run(lm.acall("Hello")) == lm("Hello") == asyncio.run(lm.acall("Hello")) == ["one"]
    assert len(engine.requests) == 1


def test_callbacks_hear_of_replayed_calls(tmp_path):
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


def test_failed_call_is_counted_but_not_stored(tmp_path):
    lm, engine = model(tmp_path, RuntimeError("down"), "one")
    with pytest.raises(Exception, match="down"):
        lm("Hello")
    assert lm("Hello") == ["one"] and len(engine.requests) == 2
    assert lm.limiter.usage.calls == 2, "but it is one that was begun"


def test_without_cache_calls_are_only_counted():
    lm, engine = model(None, "one", cache=False)
    assert [lm("Hello"), lm("Hello")] == [["one"]] * 2
    assert len(engine.requests) == lm.limiter.usage.calls == 2 and lm.limiter.usage.tokens == 30


def test_steered_call_is_replayed_with_interventions(tmp_path):
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
    assert [attempt.model_dump() for attempt in first.attempts] == [attempt.model_dump() for attempt in again.attempts]


def test_steered_call_is_repeated_for_other_checks(tmp_path):
    def strict(inputs, outcome):
        return len(outcome.evidence) > 1, "Cite two items."

    lm, engine = model(tmp_path, completion(), kind=SteerableEngine)
    with dspy.context(lm=lm), optimizing():
        ask(program())
        ask(program())
        assert len(engine.requests) == 1
        answer = ask(program(checks=[Suggest(strict, after="evidence")], max_backtracks=0))
    assert len(engine.requests) == 2
    assert [intervention.check for intervention in answer.interventions] == ["strict"], (
        "once, by the reader that was there at the replay"
    )
    assert stored_calls(tmp_path) == (1, 1)


def test_threads_share_a_recording_model(tmp_path):
    lm, engine = model(tmp_path, lambda request: request.messages[-1].text)
    questions = [f"Question {number}" for number in range(40)] * 2
    with ThreadPoolExecutor(16) as pool:
        outputs = [
            call.result() for call in [pool.submit(copy_context().run, lm, question) for question in questions[:40]]
        ]
        again = [
            call.result() for call in [pool.submit(copy_context().run, lm, question) for question in questions[40:]]
        ]
    assert outputs == again == [[question] for question in questions[:40]]
    assert len(engine.requests) == 40 and stored_calls(tmp_path) == (40, 0)


def test_copies_share_cache_and_limiter(tmp_path):
    lm, _ = model(tmp_path, "one")
    module = dspy.Predict("question -> answer")
    module.set_lm(lm)
    copied = module.deepcopy().lm
    assert copied.call_cache is lm.call_cache and copied.limiter is lm.limiter and type(copied) is type(lm)
    assert isinstance(lm, dspy.LM)


def test_reached_limit_still_replays(tmp_path):
    lm, engine = model(tmp_path, "one", limiter=UsageLimiter(UsageLimits(calls=1)))
    lm("Hello")
    with pytest.raises(UsageLimitReached, match="--max-calls 1"):
        lm("Bye")
    assert lm("Hello") == ["one"] and len(engine.requests) == 1


def test_dollar_limit_needs_a_price():
    with pytest.raises(ValueError, match="the price of scripted/test is not known.*--max-tokens"):
        model(None, "one", limiter=UsageLimiter(UsageLimits(usd=1.0)))


def test_full_disk_stops_further_calls(tmp_path, monkeypatch):
    def full(self, key, model, call, **_):
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


@pytest.mark.parametrize("begin, options, mode", [STREAMED, STAGED], ids=["stream", "stages"])
def test_steered_served_answer_is_one_call(
    serve,  # noqa: F811
    tmp_path,
    begin,
    options,
    mode,
):
    server = begin(serve)
    lm = record_calls(served(server, **options), CallCache(tmp_path), UsageLimiter())
    with dspy.context(lm=lm):
        first, requests = ask(program()), len(server.bodies("/v1/completions") + server.bodies("/v1/chat/completions"))
        again = ask(program())
    assert (first.correction_mode, again.correction_mode) == (mode, mode) and first.tag == again.tag == "romance"
    assert len(server.bodies("/v1/completions") + server.bodies("/v1/chat/completions")) == requests > 0
    assert (stored_calls(tmp_path)[0], lm.limiter.usage.calls, lm.limiter.replayed.calls) == (1, 1, 1)
    assert lm.limiter.usage.tokens == lm.limiter.replayed.tokens > 0


def test_recording_hides_no_method_of_a_models_own_class():
    """The recording model is an instance of a subclass of it, so a private name of both would be one method."""
    own = {name for name in vars(recording._RecordingLM) if name.startswith("_") and not name.startswith("__")}
    theirs = {name for kind in (ServedLM, LocalLM, BoundedLM, dspy.LM) for name in vars(kind)}
    assert not own & theirs
