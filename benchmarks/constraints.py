"""What a grammar costs and saves in the in-process engine: `python -m benchmarks.constraints --model pocket`.

The grammar is that of an answer in DSPy's chat format: requirements, evidence with quotes out of four items of 500
words, a label. The same answers are written twice, in turns: with the forced tokens skipped, and with each of them
chosen. The prompts ask for nothing that a model would know; the counts, not the texts, are what is measured.
"""

import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

_ITEMS, _WORDS = 4, 500


@dataclass(frozen=True)
class Answer:
    """The constraint on one answer."""

    source: str

    def grammar(self, text: str, /, *, whole: bool = False) -> Any:
        from r2p_dspy.decoding.constraining import Grammar

        return Grammar(self.source)

    def schema(self) -> None:
        return None


def grammar(seed: int) -> str:
    """The grammar of an answer about items of their own."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghiklmnoprstuw", k=draw.randint(2, 9))) for _ in range(2000)]
    items = [" ".join(draw.choices(words, k=_WORDS)) for _ in range(_ITEMS)]
    quotes = [f'q{i}: %regex {{ "substring_words": {json.dumps(item)} }}' for i, item in enumerate(items)]
    cited = " | ".join(f'"{{\\"item\\": \\"{i}\\", \\"quote\\": \\"" q{i} "\\"}}"' for i in range(_ITEMS))
    return "\n".join(
        [
            'start: requirements evidence draft label "\\n\\n[[ ## completed ## ]]\\n"',
            'requirements: "[[ ## requirements ## ]]\\n" /[A-Za-z ,]{20,120}/ "\\n\\n"',
            'evidence: "[[ ## evidence ## ]]\\n[" cited (", " cited)~0..2 "]\\n\\n"',
            'draft: "[[ ## draft ## ]]\\n" LABEL "\\n\\n"',
            'label: "[[ ## tag ## ]]\\n" LABEL',
            'LABEL: "comedy" | "dark comedy" | "dystopia" | "romance" | "social commentary" | "true story"',
            f"cited: {cited}",
            *quotes,
        ]
    )


@click.command()
@click.option("--model", default="pocket", show_default=True, help="pocket, or hf:DIR_OR_NAME.")
@click.option("--in-flight", default=16, show_default=True, type=click.IntRange(1, 256), help="Answers at a time.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--threads", type=click.IntRange(1), help="Cores for one forward pass.")
def main(model: str, in_flight: int, rounds: int, threads: int | None) -> None:
    """Print the time of grammars and masks, and what tokens take with and without skipping those that are forced."""
    import torch
    from dspy.lm15 import Config, Message, Request

    from r2p_dspy.engines.local.engine import TransformersEngine
    from r2p_dspy.engines.local.masks import ConstrainedAnswer, Grammars, mask
    from r2p_dspy.engines.local.rows import Row

    class Chosen(ConstrainedAnswer):
        """Chooses each token, forced or not."""

        def forced(self) -> list[int]:
            return []

    try:
        engine = TransformersEngine(model.removeprefix("hf:"), threads=threads)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    grammars: Grammars = engine._grammars
    constraints = [Answer(grammar(seed)) for seed in range(in_flight)]
    _timed("tokenizer", lambda: ConstrainedAnswer(grammars, constraints[0]), 1)
    fresh = iter(constraints[1:])
    if in_flight > 1:
        _timed("grammar, new", lambda: ConstrainedAnswer(grammars, next(fresh)), in_flight - 1)
    _timed("grammar, known", lambda: ConstrainedAnswer(grammars, constraints[0]), 20)

    def answers(kind: type[ConstrainedAnswer]) -> tuple[list[Row], float]:
        rows = []
        for seed, constraint in enumerate(constraints):
            request = Request(
                engine.model_name, (Message.user("Which tag?"),), config=Config(max_tokens=400, seed=seed)
            )
            row, _ = engine.plan(request)
            row.constrained = kind(grammars, constraint)
            rows.append(row)
        start = time.process_time()  # of all cores, so that other work on the machine counts little
        for row in rows:
            engine.submit(row)
        return [row.wait() for row in rows], time.process_time() - start

    written, _ = answers(ConstrainedAnswer)  # warm up
    torch.set_num_threads(1)
    logits = torch.zeros(1, engine._batch.vocabulary)
    masks = []
    for row, constraint in zip(written, constraints, strict=True):
        answer = ConstrainedAnswer(grammars, constraint)
        for token in row.tokens:
            start = time.perf_counter()
            mask(logits, {0: answer})
            masks.append(1000 * (time.perf_counter() - start))
            answer.consume([token])
    click.echo(f"{'mask, one row':<20}{statistics.mean(masks):8.2f} ms (median {statistics.median(masks):.2f})")

    for name, kind in (("forced skipped", ConstrainedAnswer), ("each chosen", Chosen)):
        seconds = []
        for _ in range(rounds):
            rows, took = answers(kind)
            seconds.append(took)
        tokens, passes = sum(row.generated for row in rows), sum(row.forward_passes for row in rows)
        shown = f"{tokens} tokens, {passes} forward passes ({passes / tokens:.2f} of them)"
        cost = 1000 * statistics.median(seconds) / tokens
        click.echo(f"{name:<20}{cost:8.2f} ms of a core for each token, {in_flight} answers at a time: {shown}")
    engine.close()


def _timed(name: str, call: Callable[[], object], times: int) -> None:
    """Print the median time of a call."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - start))
    click.echo(f"{name:<20}{statistics.median(took):8.2f} ms")


if __name__ == "__main__":
    main()
