"""What compiling will take, extrapolated from what the first examples took."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from programs.calls.cache import Usage
from programs.calls.usage import UsageLimiter


def usage_of_rows(rows: Sequence[Mapping[str, Any]], price: Callable[[int, int], float | None]) -> Usage:
    """What the measuring of some examples took.

    Args:
        rows: what `programs.evaluate.runner.measure` returned.
        price: US dollars for numbers of tokens of prompts and completions, or None.
    """
    tokens = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    seconds = sum(row["seconds"] for row in rows)
    usd = price(tokens["prompt"], tokens["completion"]) or 0.0
    return Usage(sum(row["calls"] for row in rows), **tokens, usd=usd, seconds=seconds)


def estimate(measured: Usage, examples: int, runs: int, threads: int) -> dict[str, float]:
    """What a number of runs of a program will take (`optimizers.program_runs` says how many runs an optimizer needs).

    Args:
        measured: what some examples took, with as many calls in flight.
        examples: how many examples those were.
        runs: how often the program will run.
        threads: calls in flight.

    Returns:
        calls, tokens, usd and minutes.

    Example:
        >>> estimate(Usage(calls=20, prompt=9000, completion=1000, usd=0.1, seconds=80), 10, runs=60, threads=16)
        {'calls': 120, 'tokens': 60000, 'usd': 0.6, 'minutes': 0.5}
    """
    share = runs / examples
    return {
        "calls": round(measured.calls * share),
        "tokens": round(measured.tokens * share),
        "usd": round(measured.usd * share, 4),
        "minutes": round(measured.seconds * share / threads / 60, 2),
    }


def actual(limiter: UsageLimiter, before: Usage, minutes: float) -> dict[str, float]:
    """What it took, to stand beside the estimate. Replayed calls count too.

    Args:
        limiter: the run's limiter.
        before: what the limiter had counted before, replayed calls included.
        minutes: how long it took.

    Returns:
        calls, tokens, usd and minutes.
    """
    now = limiter.usage + limiter.replayed
    return {
        "calls": now.calls - before.calls,
        "tokens": now.tokens - before.tokens,
        "usd": round(now.usd - before.usd, 4),
        "minutes": round(minutes, 2),
    }


def in_words(usage: Mapping[str, float]) -> str:
    """An estimate, or what was spent, as a phrase.

    Example:
        >>> in_words({"calls": 120, "tokens": 60000, "usd": 0.6, "minutes": 0.5})
        '120 calls, 60,000 tokens, $0.60, 0.5 minutes'
    """
    price = f"${usage['usd']:,.2f}, " if usage["usd"] else ""
    return f"{usage['calls']:,} calls, {usage['tokens']:,} tokens, {price}{usage['minutes']:g} minutes"
