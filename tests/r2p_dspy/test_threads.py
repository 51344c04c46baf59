"""Many threads, one program: no call is lost, and none sees anything of another."""

import asyncio
import re

import dspy
import pytest

from r2p_dspy import optimizing
from tests.film import HISTORY, program
from tests.scripted import STAGES, completion

CALLS = range(320)


def answer_to(request):
    """The film's number as tag; every third film is at first answered with an invented item."""
    prompt = "\n".join(message.text or "" for message in request.messages)
    number = re.search(r"film number (\d+)", prompt)[1]
    fields = {"draft": f"tag {number}", "tag": f"tag {number}"}
    right = completion(**fields)
    retried = "This answer is not accepted yet" in prompt
    if int(number) % 3 == 0 and not retried:
        return completion(**fields, evidence=STAGES["evidence"].replace('"1"', '"9"'))
    assert not retried or f"tag {number}" in prompt, "a retry shows the attempt of another call"
    return right


def check(answer, number, candidates):
    assert answer.tag == f"tag {number}"
    assert answer.outcome.tag == answer.tag
    assert len(answer.attempts) == (2 if number % 3 == 0 else 1)
    assert len(answer.candidates) == (candidates if candidates > 1 else 0)
    assert all(candidate.answer["tag"] == answer.tag for candidate in answer.candidates)


@pytest.mark.parametrize("candidates", [1, 3])
def test_32_threads(scripted, candidates):
    engine = scripted(answer_to)
    module = program(candidates=candidates)
    examples = [dspy.Example(film=f"film number {n}", profile=HISTORY).with_inputs("film", "profile") for n in CALLS]
    with optimizing():
        parallel = dspy.Parallel(num_threads=32, disable_progress_bar=True)
        answers = parallel([(module, example) for example in examples])
    for number, answer in zip(CALLS, answers, strict=True):
        check(answer, number, candidates)
    assert len(engine.requests) == candidates * sum(2 if number % 3 == 0 else 1 for number in CALLS)


def test_32_async_tasks(scripted):
    scripted(answer_to)
    module = program()

    async def all_of_them():
        return await asyncio.gather(*(module.acall(film=f"film number {n}", profile=HISTORY) for n in CALLS))

    for number, answer in zip(CALLS, asyncio.run(all_of_them()), strict=True):
        check(answer, number, 1)
