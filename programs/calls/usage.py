"""Usage limits: the most that a run may spend, and the limiter that no call passes once it is spent."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from programs.calls.cache import Usage
from r2p_dspy.engines.served.deadline import give_up_open
from r2p_dspy.errors import ConfigError


class UsageLimitReached(BaseException):
    """A usage limit is reached. Not an `Exception`, because optimizers would swallow that and go on."""


@dataclass(frozen=True)
class UsageLimits:
    """The most that a run may spend; None is no limit.

    Args:
        calls: of language models.
        tokens: of prompts and completions.
        usd: US dollars.
        minutes: since the run was started or resumed.

    Raises:
        ConfigError: for a limit that is not above 0.

    Examples:
        >>> UsageLimits(calls=100).given
        {'calls': 100}
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.given.items():
            if not limit > 0:
                raise ConfigError(f"--max-{name} must be above 0, not {limit}")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are not None, by name."""
        return {name: limit for name, limit in vars(self).items() if limit is not None}


class UsageLimiter:
    """Counts what calls take, and lets no call begin once a limit is reached. Threads may share it.

    Calls that are under way when a limit is reached still finish, for they are paid: usage may exceed a limit by as
    much as they take. Only the time limit gives up the calls of served models.
    `before` is what the same run spent before it was resumed, `usage` what new calls took since then, and `replayed`
    what the calls that the call cache answered took when they were made.
    """

    def __init__(self, limits: UsageLimits = UsageLimits(), before: Usage = Usage()):  # noqa: B008  (both are frozen)
        self.limits, self.before = limits, before
        self.usage, self.replayed = Usage(), Usage()
        self._seconds: list[float] = []  # of every call; a replayed call as long as it took when it was made
        self._started = time.monotonic()
        self._reserved: dict[str, float] = {}
        self._closed: BaseException | None = None
        self._give_up: float | None = None  # when calls under way are given up, by `time.monotonic`
        self._under_way, self._condition = 0, threading.Condition()

    def admit(self) -> None:
        """Count a call that is about to begin; UsageLimitReached if it must not begin."""
        with self._condition:
            self.raise_if_closed()
            for name, limit in self.limits.given.items():
                reserved = self._reserved.get(name, 0)
                if self._used(name) >= limit - reserved:
                    note = f", {reserved:.10g} of them reserved for measuring the result" if reserved else ""
                    raise UsageLimitReached(f"the usage limit is reached (--max-{name} {limit:.10g}{note})")
            self.usage += Usage(calls=1)
            self._under_way += 1

    @property
    def ends(self) -> float | None:
        """When calls must have ended, by `time.monotonic`; None without a time limit."""
        if self.limits.minutes is None:
            return None
        return self._started + 60 * (self.limits.minutes - self._reserved.get("minutes", 0))

    def check_time(self) -> None:
        """UsageLimitReached if the time is over."""
        if self.ends is not None and time.monotonic() >= self.ends:
            raise UsageLimitReached(f"the usage limit is reached (--max-minutes {self.limits.minutes:.10g})")

    def done(self, usage: Usage) -> None:
        """Count what an admitted call took, whether it succeeded or not."""
        with self._condition:
            self.usage += Usage(0, usage.prompt, usage.completion, usage.usd, usage.seconds)
            self._seconds.append(usage.seconds)
            self._under_way -= 1
            self._condition.notify_all()

    def replay(self, usage: Usage) -> None:
        """Count a call that was answered from the call cache, which costs nothing."""
        with self._condition:
            self.replayed += usage
            self._seconds.append(usage.seconds)

    def include(self, spent: Usage, replayed: Usage, seconds: Iterable[float]) -> None:
        """Count calls of other processes: what new ones took, and replayed ones, and the seconds of each."""
        with self._condition:
            self.usage, self.replayed = self.usage + spent, self.replayed + replayed
            self._seconds += seconds

    def close(self, reason: BaseException, seconds: float | None = None) -> None:
        """Let no further call begin: `admit` raises this exception from now on.

        Args:
            reason: why; the first reason stays.
            seconds: what calls under way still have, if they ask a served model; None for their own deadlines.
        """
        with self._condition:
            self._closed = self._closed or reason
            if seconds is not None and self._give_up is None:
                self._give_up = time.monotonic() + seconds
            self._condition.notify_all()

    def raise_if_closed(self) -> None:
        """Raise the exception that the limiter was closed with, if it was."""
        if self._closed is not None:
            raise type(self._closed)(*self._closed.args)

    def drain(self) -> None:
        """Wait until the calls under way have ended: they are paid for, and their answers are stored.

        If the limiter was closed with a time for them, those that take longer are given up.
        """
        with self._condition:
            if self._closed is not None and self._give_up is not None:
                left = max(0.0, self._give_up - time.monotonic())
                if not self._condition.wait_for(lambda: not self._under_way, left):
                    give_up_open(self._closed)
            self._condition.wait_for(lambda: not self._under_way)

    @contextmanager
    def reserving(self, usage: Usage, minutes: float = 0.0) -> Iterator[None]:
        """Lower the limits within the block by a usage and minutes, each by at most half of what is left."""
        wanted = {"calls": usage.calls, "tokens": usage.tokens, "usd": usage.usd, "minutes": minutes}
        left = {name: max(0.0, limit - self._used(name)) for name, limit in self.limits.given.items()}
        self._reserved = {name: min(wanted[name], left[name] / 2) for name in left}
        try:
            yield
        finally:
            self._reserved = {}

    def report(self, priced: bool = True) -> dict[str, Any]:
        """The `calls` of a run's report; dollars are None unless the price of a call is known."""
        parts = {"spent": self.usage, "spent_before": self.before, "replayed": self.replayed}
        totals = {name: _totals(usage, priced) for name, usage in parts.items()}
        return {"limits": self.limits.given, **totals, "latency": latency(self._seconds)}

    @property
    def minutes(self) -> float:
        """Minutes since the run was started or resumed."""
        return (time.monotonic() - self._started) / 60

    def _used(self, name: str) -> float:
        if name == "minutes":
            return self.minutes
        return getattr(self.before + self.usage, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "UsageLimiter":
        return self  # optimizers copy programs, and with them their models


def latency(seconds: list[float]) -> dict[str, float] | None:
    """How long calls took: mean and 95th percentile, in seconds; None without calls.

    Examples:
        >>> latency([1.0, 2.0, 3.0])
        {'mean': 2.0, 'p95': 2.9}
    """
    if not seconds:
        return None
    return {"mean": round(float(np.mean(seconds)), 4), "p95": round(float(np.percentile(seconds, 95)), 4)}


def _totals(usage: Usage, priced: bool) -> dict[str, Any]:
    return {
        "calls": usage.calls,
        "tokens": {"prompt": int(usage.prompt), "completion": int(usage.completion)},
        "cost_usd": round(usage.usd, 6) if priced else None,
        "seconds": round(usage.seconds, 1),
    }
