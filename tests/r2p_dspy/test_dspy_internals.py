"""What is undocumented in DSPy is still there; a test that fails names the function that needs another way."""

import asyncio
import pickle

import dspy
import pytest
from dspy.lm15 import Message, Response, ToolCallPart, Usage

from r2p_dspy import dspy_internals
from tests.scripted import AsyncScriptedEngine, ScriptedEngine


@pytest.mark.parametrize(("name", "known"), [("openai", True), ("anthropic", True), ("no_such_provider", False)])
def test_is_known_provider(name, known):
    assert dspy_internals.is_known_provider(name) is known


def test_model_info():
    known = dspy_internals.model_info("openai/gpt-4o-mini")
    assert known["max_input_tokens"] == 128_000 and 0 < known["input_cost_per_token"] < known["output_cost_per_token"]
    assert not dspy_internals.model_info("openai/no-such-model")


def test_async_engine():
    engine = ScriptedEngine("x")
    twin = AsyncScriptedEngine(engine)
    assert dspy_internals.async_engine(dspy.LM("scripted/test", engine=engine, async_engine=twin)) is twin
    assert dspy_internals.async_engine(dspy.LM("scripted/test", engine=engine)) is None


def test_is_streaming():
    seen = []

    class Look(dspy.Module):
        def forward(self):
            seen.append(dspy_internals.is_streaming())
            return dspy.Prediction(x=1)

    async def run():
        return [piece async for piece in dspy.streamify(Look())()]

    Look()()
    asyncio.run(run())
    assert seen == [False, True]


class Calls(ScriptedEngine):
    """A model that calls a tool."""

    def complete(self, request):
        message = Message.assistant([ToolCallPart("call-1", "look_up", {"key": "a"})])
        usage = Usage(input_tokens=1, output_tokens=1)
        return Response(id=None, model="test", message=message, finish_reason="tool_call", usage=usage)


def test_plain_outputs_and_attribute_outputs():
    lm = dspy.LM("scripted/test", engine=Calls("x"), cache=False, num_retries=0)
    outputs = lm("Hello")
    plain = dspy_internals.plain_outputs(outputs)
    call = {"name": "look_up", "arguments": '{"key": "a"}'}
    assert [type(output) for output in plain] == [dict] and plain[0]["tool_calls"][0]["function"] == call
    assert dspy_internals.attribute_outputs(plain)[0].tool_calls[0].function.name == "look_up"


def test_copy_as():
    class Louder(dspy.LM):
        def __call__(self, prompt=None, **kwargs):
            return [text.upper() for text in super().__call__(prompt, **kwargs)]

    lm = dspy.LM("scripted/test", engine=ScriptedEngine("one"), cache=False, num_retries=0, temperature=0.5)
    copied = dspy_internals.copy_as(lm, Louder)
    assert copied("Hello") == ["ONE"] and lm("Hello") == ["one"]
    assert vars(copied).keys() == vars(lm).keys() and copied.engine is lm.engine
    assert copied.kwargs == lm.kwargs and copied.kwargs is not lm.kwargs
    assert len(copied.history) == len(lm.history) == 1


def test_seen_as():
    class Louder(dspy.utils.DummyLM):
        def __call__(self, prompt=None, **kwargs):
            self.louder = True
            return [text.upper() for text in super().__call__(prompt, **kwargs)]

    lm = dspy.utils.DummyLM([{"tag": "one"}, {"tag": "two"}])
    seen = dspy_internals.seen_as(lm, Louder)
    assert "ONE" in seen("Hello")[0] and "two" in lm("Hello")[0], "the same walk through the answers"
    assert lm.louder and len(lm.history) == len(seen.history) == 2


def test_completions_of_a_prediction():
    class Tag(dspy.Signature):
        film: str = dspy.InputField()
        tag: str = dspy.OutputField()

    several = dspy.Prediction.from_completions([{"tag": "comedy"}, {"tag": "drama"}], signature=Tag)
    single = dspy.Prediction(tag="comedy")
    dspy_internals.copy_completions(several, single)
    assert list(single.completions.tag) == ["comedy", "drama"]
    assert pickle.loads(pickle.dumps(dspy_internals.picklable_state(several)))["_completions"].signature is None
