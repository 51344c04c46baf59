"""What a grammar costs and saves in the in-process engine: `python -m benchmarks.constraints --model pocket`.

The grammars are those of R2P, for LaMP-2 with four items of 500 made-up words. First the times of a grammar and of a
mask, then R2P's answers with a grammar and without, in turns, on shorter items. The texts ask for nothing that a model
would know: counts and times are what is measured.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import click
import dspy

from programs.tasks.lamp2 import TASK
from r2p_dspy import R2P, All, Profile, connect, optimizing
from r2p_dspy.decoding.constraining import Constraint
from r2p_dspy.decoding.grammar.building import constraint_for

REASON: Any = R2P(TASK.signature).reason
_ITEMS, _WORDS = 4, 500


def history(seed: int, words: int = _WORDS) -> list[dict[str, str]]:
    """The items of a user, of words of their own."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghiklmnoprstuw", k=draw.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(draw.choices(known, k=words)) for _ in range(_ITEMS)]
    return [{"text": text, "label": draw.choice(TASK.labels)} for text in texts]


def constraint(items: Sequence[Any], tokens: int) -> Constraint:
    """R2P's constraint on an answer about these items."""
    made = constraint_for(
        REASON.signature.output_fields,
        items,
        dspy.ChatAdapter(),
        template=REASON.template,
        stages=REASON.stages,
        answers=REASON.answers,
        tokens=tokens,
        opened=False,
    )
    assert made is not None, "the chat adapter's format is known"
    return made


@click.command()
@click.option("--model", default="pocket", show_default=True, help="pocket, smollm2 or hf:DIR_OR_NAME.")
@click.option("--in-flight", default=8, show_default=True, type=click.IntRange(1, 32), help="Answers at a time.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--tokens", default=400, show_default=True, type=click.IntRange(50), help="Tokens of an answer at most.")
@click.option("--words", default=60, show_default=True, type=click.IntRange(1), help="Words of an item in R2P's turns.")
def main(model: str, in_flight: int, rounds: int, tokens: int, words: int) -> None:
    """Print the times of grammars and masks, and what R2P's answers take with a grammar and without."""
    try:
        lm: Any = connect(model, max_tokens=tokens, temperature=0.0, cache=False)
        engine = lm.engine
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _grammars(engine, in_flight, tokens)
    histories = [history(seed, words) for seed in range(in_flight)]
    ways: tuple[Literal["on", "off"], ...] = ("on", "off")
    took: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways:
            seconds, usage = _answers(lm, histories, way)
            took[way].append(seconds)
            if turn == 0:
                written, passes = usage["completion_tokens"], usage["forward_passes"]
                click.echo(
                    f"R2P, constrain={way:<6}{written:6d} tokens written, {passes} forward passes "
                    f"({passes / written:.2f} of them), {usage['calls']} calls for {in_flight} answers"
                )
    seconds = {way: statistics.median(took[way]) for way in ways}
    shown = ", ".join(f"{way} {seconds[way] / in_flight:.2f} s" for way in ways)
    click.echo(f"time for an answer  {shown}: {seconds['on'] / seconds['off']:.2f} of the time without a grammar")
    engine.close()


def _grammars(engine: Any, count: int, tokens: int) -> None:
    import torch

    from r2p_dspy.engines.local.masks import ConstrainedAnswer, mask

    users = [Profile.of(history(seed)).local() for seed in range(count + 1)]

    def begun(user: int) -> ConstrainedAnswer:
        return ConstrainedAnswer(engine._grammars, constraint(users[user], tokens))

    _timed("tokenizer", lambda: begun(0), 1)
    fresh = iter(range(1, count + 1))
    _timed("grammar, new", lambda: begun(next(fresh)), count)
    _timed("grammar, known", lambda: begun(0), 20)
    torch.set_num_threads(1)
    logits, draw, masks = torch.zeros(1, engine._batch.vocabulary), random.Random(0), []
    for seed in range(count):
        answer = begun(seed)
        for _ in range(tokens):
            answer.forced()
            if answer.is_over:
                break
            start = time.perf_counter()
            allowed = mask(logits, {0: answer})
            masks.append(1000 * (time.perf_counter() - start))
            answer.consume([draw.choice(torch.nonzero(allowed[0] == 0)[:, 0].tolist())])
    click.echo(f"{'mask, one row':<20}{statistics.mean(masks):8.2f} ms (median {statistics.median(masks):.2f})")


def _answers(
    lm: dspy.LM, histories: Sequence[list[dict[str, str]]], constrain: Literal["on", "off"]
) -> tuple[float, dict[str, int]]:
    """The seconds that R2P's answers about some histories take together, and their usage."""
    program = R2P(TASK.signature, retriever=All(), constrain=constrain)

    def ask(items: list[dict[str, str]]) -> dict[str, int]:
        with dspy.context(lm=lm), optimizing(), dspy.track_usage() as usage:
            program(description=items[0]["text"][:100], profile=items)
        calls = [call for entries in usage.usage_data.values() for call in entries]
        names = ("completion_tokens", "forward_passes")
        return {"calls": len(calls), **{name: sum(call[name] for call in calls) for name in names}}

    start = time.perf_counter()
    with ThreadPoolExecutor(len(histories)) as threads:
        usages = list(threads.map(ask, histories))
    return time.perf_counter() - start, {name: sum(usage[name] for usage in usages) for name in usages[0]}


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
