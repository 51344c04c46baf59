"""Settings that were measured: which one wins, and the frontier of quality against tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from metrics.intervals import Interval, of_mean
from programs.evaluate.report import users
from programs.tasks.program import R2PConfig

TrialRow = Mapping[str, Any]
_FINALISTS = 3  # besides the best trial and the start


@dataclass(frozen=True)
class Trial:
    """Settings that were measured."""

    settings: R2PConfig
    rows: Sequence[TrialRow]  # by example: `score` in [0, 1], `user`, `calls`, `prompt_tokens`, `completion_tokens`
    complete: bool  # whether all examples were measured; if not, the trial was given up

    @property
    def score(self) -> float:
        """The mean score."""
        return self.per_answer("score")

    @property
    def tokens(self) -> float:
        """Tokens of prompts and completions for each answer, rejected attempts included."""
        return self.per_answer("prompt_tokens") + self.per_answer("completion_tokens")

    def per_answer(self, key: str) -> float:
        """The mean of one number of the rows."""
        return fmean(row[key] for row in self.rows)

    def difference(self, other: "Trial") -> Interval:
        """This score minus another's, paired on the examples that both measured (95 % interval)."""
        differences = self._differences(other)
        return of_mean(differences, users=users(self.rows[: len(differences)]))

    def is_behind(self, other: "Trial") -> bool:
        """Whether this score is lower than another's by more than one standard error of the paired difference."""
        differences = other._differences(self)
        error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
        return fmean(differences) > error + 1e-9

    def _differences(self, other: "Trial") -> list[float]:
        return [mine["score"] - theirs["score"] for mine, theirs in zip(self.rows, other.rows, strict=False)]


@dataclass(frozen=True)
class Tuning:
    """A search of settings and its result.

    Of the trials within one standard error of the best, the cheapest wins (the one-standard-error rule; Breiman et al.,
    Classification and Regression Trees, 1984). The best of many trials on few users is partly luck, and few users may
    not show a loss, so the finalists are compared on further examples.
    """

    trials: Sequence[Trial]  # in the order in which they were measured; the first one is the start
    finals: Sequence[Trial] = ()  # finalists on more examples; empty if there was but one, or no further example
    stopped: BaseException | None = None  # what ended the search early

    @property
    def best(self) -> Trial:
        """The complete trial with the highest score; on a tie, the one with fewer tokens."""
        return _best(self._complete)

    @property
    def winner(self) -> Trial:
        """The cheapest trial within one standard error of the best, among the finals if there are any."""
        return _cheapest(self.finals or self._complete)[0]

    @property
    def finalists(self) -> list[Trial]:
        """The three cheapest trials within one standard error of the best, the best one and the start."""
        finalists = [*_cheapest(self._complete)[:_FINALISTS], self.best, self.trials[0]]
        return [trial for place, trial in enumerate(finalists) if trial not in finalists[:place]]

    def frontier(self, tokens: Callable[[Trial], float]) -> list[Trial]:
        """The trials that no other trial beats in both score and tokens, fewest tokens first.

        A trial that was given up is on it only if it is cheaper than the best: its score is surely lower.
        """
        frontier: list[Trial] = []
        eligible = [trial for trial in self.trials if trial.complete or tokens(trial) < tokens(self.best)]
        for trial in sorted(eligible, key=lambda trial: (tokens(trial), -trial.score)):
            if not frontier or trial.score > frontier[-1].score:
                frontier.append(trial)
        return frontier

    @property
    def _complete(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.complete]


def _best(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: (trial.score, -trial.tokens))


def _cheapest(trials: Sequence[Trial]) -> list[Trial]:
    """The trials within one standard error of the best, fewest tokens first."""
    best = _best(trials)
    equals = [trial for trial in trials if not trial.is_behind(best)]
    return sorted(equals, key=lambda trial: (trial.tokens, -trial.score))
