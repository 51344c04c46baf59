"""The first call of a program, and no other, is told of."""

import dspy
import pytest

from programs.evaluate.first_call import FirstCall
from tests.film import ask, program
from tests.scripted import completion


@pytest.fixture
def told():
    return []


@pytest.fixture
def first(told):
    callback = FirstCall(lambda messages, answer: told.append((messages, answer)))
    with dspy.context(callbacks=[callback]):
        yield callback


def test_of_many_calls_under_threads_the_first(scripted, first, told):
    engine = scripted(completion())
    module = program()
    dspy.Parallel(num_threads=4, disable_progress_bar=True)(
        [(module, {"film": str(n), "profile": []}) for n in range(8)]
    )
    assert len(engine.requests) >= 8 and len(told) == 1
    messages, answer = told[0]
    assert [role for role, _ in messages] == ["system", "user"] and "[[ ## film ## ]]" in messages[1][1]
    assert answer == completion()


def test_thoughts_are_part_of_the_answer(scripted, first, told):
    scripted(("hm, a film", completion()), supports_reasoning=True)
    ask(program())
    assert "romance" in told[0][1]


def test_a_call_that_fails_is_told_of_too(scripted, first, told):
    scripted(ValueError("no such model"))
    with pytest.raises(Exception, match="no such model"):
        ask(program())
    assert told[0][1].startswith("failed: ") and "no such model" in told[0][1]


@pytest.mark.parametrize(
    ("inputs", "messages"),
    [
        ({"prompt": "so"}, [("user", "so")]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "so"}]}]}, [("user", "so")]),
    ],
)
def test_whichever_way_it_is_asked(told, inputs, messages):
    callback = FirstCall(lambda *call: told.append(call))
    callback.on_lm_start("1", None, inputs)
    callback.on_lm_end("2", ["not this one"])
    callback.on_lm_end("1", [{"text": "yes", "reasoning_content": "hm"}])
    assert told == [(messages, "hm\nyes")]
