"""Budgets that hold: what a run may spend, and the meter that no call passes once it is spent."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from programs.calls.cache import Usage
from r2p_dspy.errors import ConfigError


class BudgetReached(BaseException):
    """The budget is spent. No `Exception`, which optimizers would swallow and go on."""


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend; None is any amount.

    Args:
        calls: of language models.
        tokens: of prompts and completions.
        usd: US dollars.
        minutes: since it was started, or resumed.

    Raises:
        ValueError: for what is not above 0.

    Example:
        >>> Budget(calls=100).limits
        {'calls': 100}
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if not limit > 0:
                raise ConfigError(f"--max-{name} must be above 0, not {limit}")

    @property
    def limits(self) -> dict[str, float]:
        """Those that are set."""
        return {name: limit for name, limit in vars(self).items() if limit is not None}


class UsageLimiter:
    """Counts what calls take, and lets none begin once the budget is reached. Threads may share it.

    Args:
        budget: the most that may be spent.
        before: what the same run has spent before it was resumed.
    """

    def __init__(self, budget: Budget = Budget(), before: Usage = Usage()):  # noqa: B008  (both are frozen)
        self.budget, self.before = budget, before
        self.spent, self.replayed = Usage(), Usage()
        self.seconds: list[float] = []  # of every call, the replayed ones as they took then
        self.busy = 0.0  # seconds in which at least one call was under way
        self._started, self._since = time.monotonic(), 0.0
        self._held: dict[str, float] = {}
        self._closed: BaseException | None = None
        self._under_way, self._change = 0, threading.Condition()

    def admit(self) -> None:
        """Count a call that is about to begin.

        Raises:
            BudgetReached: the budget is spent, and the call must not begin.
        """
        with self._change:
            if self._closed is not None:
                raise type(self._closed)(*self._closed.args)
            if (reached := self._reached()) is not None:
                raise BudgetReached(reached)
            self.spent += Usage(calls=1)
            if not self._under_way:
                self._since = time.monotonic()
            self._under_way += 1

    def done(self, spent: Usage) -> None:
        """Count what a call took that was admitted, whatever came of it."""
        with self._change:
            self.spent += Usage(0, spent.prompt, spent.completion, spent.usd, spent.seconds)
            self.seconds.append(spent.seconds)
            self._under_way -= 1
            if not self._under_way:
                self.busy += time.monotonic() - self._since
            self._change.notify_all()

    def replay(self, spent: Usage) -> None:
        """Count a call that was answered from the ledger, which costs nothing."""
        with self._change:
            self.replayed += spent
            self.seconds.append(spent.seconds)

    def close(self, why: BaseException) -> None:
        """Let no further call begin, for a reason of which everybody is told who tries."""
        with self._change:
            self._closed = self._closed or why

    def settle(self) -> None:
        """Wait until the calls that are under way have ended: they are paid for, and their answers are kept."""
        with self._change:
            self._change.wait_for(lambda: not self._under_way)

    @contextmanager
    def holding(self, cost: Usage, minutes: float = 0.0) -> Iterator[None]:
        """Within it, the budget is so much smaller (by half of what is left at most), for what has to come after."""
        wanted = {"calls": cost.calls, "tokens": cost.tokens, "usd": cost.usd, "minutes": minutes}
        left = {name: max(0.0, limit - self._used(name)) for name, limit in self.budget.limits.items()}
        self._held = {name: min(wanted[name], left[name] / 2) for name in left}
        try:
            yield
        finally:
            self._held = {}

    def report(self, priced: bool = True) -> dict[str, Any]:
        """What was spent, by this run before it was resumed and now, what was replayed, and how long calls took.

        Args:
            priced: whether the price of a call is known; dollars are None where it is not.
        """
        parts = {"spent": self.spent, "spent_before": self.before, "replayed": self.replayed}
        calls = {name: _totals(one, priced) for name, one in parts.items()}
        return {"limits": self.budget.limits, **calls, "latency": latency(self.seconds)}

    @property
    def minutes(self) -> float:
        """Since the run was started, or resumed."""
        return (time.monotonic() - self._started) / 60

    def _used(self, name: str) -> float:
        if name == "minutes":
            return self.minutes
        return getattr(self.before + self.spent, name)

    def _reached(self) -> str | None:
        for name, limit in self.budget.limits.items():
            held = self._held.get(name, 0)
            if self._used(name) >= limit - held:
                kept = f", of which {_number(held)} are kept for measuring the outcome" if held else ""
                return f"the budget is reached (--max-{name} {_number(limit)}{kept})"
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> "UsageLimiter":
        return self  # optimizers copy programs, and with them their models


def _totals(spent: Usage, priced: bool) -> dict[str, Any]:
    return {
        "calls": spent.calls,
        "tokens": {"prompt": int(spent.prompt), "completion": int(spent.completion)},
        "cost_usd": round(spent.usd, 6) if priced else None,
        "seconds": round(spent.seconds, 1),
    }


def latency(seconds: list[float]) -> dict[str, float] | None:
    """How long calls took: the mean, and what 95 of 100 of them did not exceed; None where there was no call.

    Example:
        >>> latency([1.0, 2.0, 3.0])
        {'mean': 2.0, 'p95': 2.9}
    """
    if not seconds:
        return None
    return {"mean": round(float(np.mean(seconds)), 4), "p95": round(float(np.percentile(seconds, 95)), 4)}


def _number(value: float) -> str:
    return f"{value:.10g}"
