"""What compiling will take, extrapolated from what the first examples took."""

from collections.abc import Mapping, Sequence
from typing import Any

from programs.calls.cache import Usage
from programs.calls.prices import cost


def usage_of_rows(rows: Sequence[Mapping[str, Any]], model: str) -> Usage:
    """What the rows of `programs.evaluate.runner.measure` took of a model; no dollars if its price is not known."""
    tokens = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    seconds = sum(row["seconds"] for row in rows)
    return Usage(sum(row["calls"] for row in rows), **tokens, usd=cost(model, tokens) or 0.0, seconds=seconds)


def estimate(measured: Usage, examples: int, runs: int, threads: int) -> dict[str, float]:
    """What a number of runs of a program will take, from what was measured on some examples with as many threads.

    Examples:
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


def actual(took: Usage, threads: int) -> dict[str, float]:
    """What calls took, to stand beside the estimate; those that the call cache answered count as they did when made.

    Examples:
        >>> actual(Usage(calls=120, prompt=54000, completion=6000, usd=0.6, seconds=480), threads=16)
        {'calls': 120, 'tokens': 60000, 'usd': 0.6, 'minutes': 0.5}
    """
    return {
        "calls": took.calls,
        "tokens": int(took.tokens),
        "usd": round(took.usd, 4),
        "minutes": round(took.seconds / threads / 60, 2),
    }


def in_words(usage: Mapping[str, float]) -> str:
    """An estimate, or what was spent, as a phrase.

    Examples:
        >>> in_words({"calls": 120, "tokens": 60000, "usd": 0.6, "minutes": 0.5})
        '120 calls, 60,000 tokens, $0.60, 0.5 minutes'
    """
    price = f"${usage['usd']:,.2f}, " if usage["usd"] else ""
    return f"{usage['calls']:,} calls, {usage['tokens']:,} tokens, {price}{usage['minutes']:g} minutes"
