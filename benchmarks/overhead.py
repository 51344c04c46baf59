"""The overhead of an R2P call over a bare `dspy.Predict`: `python -m benchmarks.overhead`.

Both have the same output fields and an engine that answers at once, and they run in turns. R2P's call includes
retrieval, rendering and checks.
"""

import statistics
import time

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from programs.data.dataset import personas
from programs.tasks import lamp2
from programs.tasks.program import r2p

_ANSWER = """[[ ## requirements ## ]]
a tag

[[ ## evidence ## ]]
[{{"item": "1", "quote": "{quote}"}}]

[[ ## preferences ## ]]
[{{"statement": "as in item 1", "items": ["1"], "label": "{label}"}}]

[[ ## draft ## ]]
{label}

[[ ## verification ## ]]
{{"approved": true, "reason": "item 1"}}

[[ ## tag ## ]]
{label}

[[ ## completed ## ]]"""


class Instant:
    """An engine that always gives the same answer, at once."""

    def __init__(self, text: str):
        self.response = Response(
            id=None,
            model="instant",
            message=Message.assistant([TextPart(text)]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )

    def complete(self, request: Request) -> Response:
        return self.response

    def close(self) -> None:
        pass


def main(rounds: int = 400) -> None:
    task = lamp2.TASK
    example = personas(task, seed=0, limit=1).test[0]
    program = r2p(task)
    shown = program.retriever(example[task.question], example[task.profile]).local()
    text = _ANSWER.format(quote=" ".join(shown[0].text.split()[:3]), label=shown[0].label)
    bare = dspy.Predict(program.reason.signature)
    inputs = {**example.inputs()}
    calls = {"predict": lambda: bare(**{**inputs, task.profile: shown}), "r2p": lambda: program(**inputs)}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    with dspy.context(lm=dspy.LM("instant/model", engine=Instant(text), cache=False, num_retries=0)):
        for number in range(rounds + 20):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if number >= 20:
                    spent[name].append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(times) for name, times in spent.items()}
    for name, value in medians.items():
        print(f"{name}: {value:.2f} ms a call")
    overhead = medians["r2p"] - medians["predict"]
    print(f"{'met   ' if overhead <= 1.5 else 'MISSED'} R2P costs at most 1.5 ms more: {overhead:.2f} ms")


if __name__ == "__main__":
    main()
