"""The first call of a program, and no other, is told of."""

import dspy
import pytest

from programs.evaluate.first_call import FirstCall
from tests.film import ask, program
from tests.scripted import completion


@pytest.fixture
def shown():
    return []


@pytest.fixture
def first(shown):
    callback = FirstCall(lambda messages, answer: shown.append((messages, answer)))
    with dspy.context(callbacks=[callback]):
        yield callback


def test_only_first_call_under_threads(scripted, first, shown):
    engine = scripted(completion())
    module = program()
    dspy.Parallel(num_threads=4, disable_progress_bar=True)(
        [(module, {"film": str(n), "profile": []}) for n in range(8)]
    )
    assert len(engine.requests) >= 8 and len(shown) == 1
    messages, answer = shown[0]
    assert [role for role, _ in messages] == ["system", "user"] and "[[ ## film ## ]]" in messages[1][1]
    assert answer == completion()


def test_answer_includes_thinking(scripted, first, shown):
    scripted(("hm, a film", completion()), supports_reasoning=True)
    ask(program())
    assert "romance" in shown[0][1]


def test_failed_call_is_shown(scripted, first, shown):
    scripted(ValueError("no such model"))
    with pytest.raises(Exception, match="no such model"):
        ask(program())
    assert shown[0][1].startswith("failed: ") and "no such model" in shown[0][1]


@pytest.mark.parametrize(
    ("inputs", "messages"),
    [
        ({"prompt": "so"}, [("user", "so")]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "so"}]}]}, [("user", "so")]),
    ],
)
def test_prompt_and_message_requests(shown, inputs, messages):
    callback = FirstCall(lambda *call: shown.append(call))
    callback.on_lm_start("1", None, inputs)
    callback.on_lm_end("2", ["not this one"])
    callback.on_lm_end("1", [{"text": "yes", "reasoning_content": "hm"}])
    assert shown == [(messages, "hm\nyes")]
