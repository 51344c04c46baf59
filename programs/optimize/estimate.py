"""What compiling will take, from what the first examples took."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from programs.calls.cache import Usage
from programs.calls.usage import UsageLimiter


def of_rows(rows: Sequence[Mapping[str, Any]], usd: Callable[[int, int], float | None]) -> Usage:
    """What rows of `measure` took.

    Args:
        rows: the rows.
        usd: the price of tokens of prompts and completions.
    """
    total = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    seconds = sum(row["seconds"] for row in rows)
    price = usd(total["prompt"], total["completion"]) or 0.0
    return Usage(sum(row["calls"] for row in rows), **total, usd=price, seconds=seconds)


def estimate(measured: Usage, examples: int, runs: int, threads: int) -> dict[str, float]:
    """What so many runs of a program will take.

    Args:
        measured: what some examples took, with as many calls in flight.
        examples: how many those were.
        runs: of the program.
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


def actual(meter: UsageLimiter, since: Usage, minutes: float) -> dict[str, float]:
    """What it took, to stand beside the estimate: calls that were replayed are in it, and counted apart.

    Args:
        meter: of the run.
        since: what the meter had counted before, replayed calls included.
        minutes: how long it took.
    """
    now = meter.spent + meter.replayed
    return {
        "calls": now.calls - since.calls,
        "tokens": now.tokens - since.tokens,
        "usd": round(now.usd - since.usd, 4),
        "minutes": round(minutes, 2),
    }


def in_words(took: Mapping[str, float]) -> str:
    """An estimate, or what was spent, as a line has it.

    Example:
        >>> in_words({"calls": 120, "tokens": 60000, "usd": 0.6, "minutes": 0.5})
        '120 calls, 60,000 tokens, $0.60, 0.5 minutes'
    """
    price = f"${took['usd']:,.2f}, " if took["usd"] else ""
    return f"{took['calls']:,} calls, {took['tokens']:,} tokens, {price}{took['minutes']:g} minutes"
