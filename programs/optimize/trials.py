"""Settings that were measured: which of them wins, and the frontier of quality against tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from metrics.intervals import Interval, of_mean
from programs.evaluate.report import users
from programs.tasks.program import R2PConfig

Row = Mapping[str, Any]
_FINALISTS = 3  # beside the best and the start


@dataclass(frozen=True)
class Trial:
    """A setting that was measured.

    Args:
        settings: the setting.
        rows: a row for each example: `score` in [0, 1], `user`, `calls`, `prompt_tokens`, `completion_tokens`.
        whole: whether it was measured on all examples, and not given up.
    """

    settings: R2PConfig
    rows: Sequence[Row]
    whole: bool

    @property
    def score(self) -> float:
        """The mean score."""
        return self.per_answer("score")

    @property
    def tokens(self) -> float:
        """All tokens for each answer, of prompts and completions, thrown-away ones too."""
        return self.per_answer("prompt_tokens") + self.per_answer("completion_tokens")

    def per_answer(self, key: str) -> float:
        """The mean of a number of the rows."""
        return fmean(row[key] for row in self.rows)

    def above(self, other: "Trial") -> Interval:
        """How much its score exceeds another's, paired on the examples that both were measured on (95 %)."""
        apart = self._apart(other)
        return of_mean(apart, users=users(self.rows[: len(apart)]))

    def behind(self, other: "Trial") -> bool:
        """Whether its score is more than one standard error (of the paired difference) below another's."""
        apart = other._apart(self)
        error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
        return fmean(apart) > error + 1e-9

    def _apart(self, other: "Trial") -> list[float]:
        return [mine["score"] - theirs["score"] for mine, theirs in zip(self.rows, other.rows, strict=False)]


@dataclass(frozen=True)
class Tuning:
    """A search and what came out.

    The cheapest wins of those within one standard error of the best (the one-standard-error rule; Breiman et al.,
    Classification and Regression Trees, 1984). What is the best of many on few users is so partly by luck, and a loss
    may not show in them, so the finalists are compared on further users.

    Args:
        trials: in the order in which they were measured; the first one is the setting that it started with.
        finals: the finalists, on more examples; none where there were too few of either.
        stopped: what ended it early, or None.
    """

    trials: Sequence[Trial]
    finals: Sequence[Trial] = ()
    stopped: BaseException | None = None

    @property
    def best(self) -> Trial:
        """Of the whole trials the one with the highest score; of equals the one of fewer tokens."""
        return _best(self._whole)

    @property
    def winner(self) -> Trial:
        """The cheapest of those within one standard error of the best; of the finals, where there are any."""
        return _cheapest(self.finals or self._whole)[0]

    @property
    def finalists(self) -> list[Trial]:
        """The cheapest three of those within one standard error of the best, the best and the start."""
        some = [*_cheapest(self._whole)[:_FINALISTS], self.best, self.trials[0]]
        return [one for at, one in enumerate(some) if one not in some[:at]]

    def frontier(self, tokens: Callable[[Trial], float]) -> list[Trial]:
        """The trials than which none is better at as few tokens, fewest tokens first.

        One that was given up may be on it, if it is cheaper than the best: it was surely worse.
        """
        found: list[Trial] = []
        some = [trial for trial in self.trials if trial.whole or tokens(trial) < tokens(self.best)]
        for trial in sorted(some, key=lambda trial: (tokens(trial), -trial.score)):
            if not found or trial.score > found[-1].score:
                found.append(trial)
        return found

    @property
    def _whole(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.whole]


def _best(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: (trial.score, -trial.tokens))


def _cheapest(trials: Sequence[Trial]) -> list[Trial]:
    """Those within one standard error of the best of them, fewest tokens first."""
    best = _best(trials)
    equals = [trial for trial in trials if not trial.behind(best)]
    return sorted(equals, key=lambda trial: (trial.tokens, -trial.score))
