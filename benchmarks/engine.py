"""Tokens per second with one call in flight and with many, side by side: `python -m benchmarks.engine`.

The calls are those of the R2P program of task 2, each for another synthetic persona. The two rates are measured in
turns, so that other work on the machine affects both.
"""

import resource
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import click


@click.command()
@click.option("--model", default="pocket", show_default=True, help="pocket, hf:DIR_OR_NAME, or a DSPy/LiteLLM name.")
@click.option("--api-base", help="Address of a server.")
@click.option("--in-flight", default=16, show_default=True, type=click.IntRange(2, 256), help="Calls at a time.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Turns of each.")
@click.option("--threads", type=click.IntRange(1), help="Cores for one forward pass, in-process.")
def main(model: str, api_base: str | None, in_flight: int, rounds: int, threads: int | None) -> None:
    """Print tokens written per second with 1 and with IN_FLIGHT calls at a time, their ratio, and the peak memory."""
    import dspy

    from programs.data.personas import films
    from programs.data.personas.world import draw, example
    from programs.tasks import lamp2
    from programs.tasks.program import r2p
    from r2p_dspy import connect, optimizing

    try:
        lm = connect(
            model, api_base=api_base, cache=False, temperature=0.0, **({"threads": threads} if threads else {})
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    cases = draw(films.case, "test", in_flight + rounds * (4 + 2 * in_flight))
    examples = iter([example(lamp2.TASK, case).inputs() for case in cases])
    program = r2p(lamp2.TASK)

    def call(inputs: dspy.Example) -> int:
        with dspy.context(lm=lm), optimizing(), dspy.track_usage() as usage:
            program(**inputs)
        return sum(entry["completion_tokens"] for calls in usage.usage_data.values() for entry in calls)

    def rate(calls: int, workers: int) -> float:
        todo = [next(examples) for _ in range(calls)]
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            written = sum(pool.map(call, todo))
        return written / (time.perf_counter() - start)

    rate(in_flight, in_flight)  # warm up
    alone, together = [], []
    for _ in range(rounds):
        alone.append(rate(4, 1))
        together.append(rate(2 * in_flight, in_flight))

    single, batched = statistics.median(alone), statistics.median(together)
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    click.echo(f"model            {lm.model}")
    click.echo(f"1 in flight      {single:8.0f} tokens/s")
    click.echo(f"{in_flight:<3d} in flight    {batched:8.0f} tokens/s")
    click.echo(f"ratio            {batched / single:8.1f}")
    click.echo(f"peak memory      {peak:8.0f} MB")


if __name__ == "__main__":
    main()
