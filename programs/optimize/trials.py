"""Settings that were measured: which one wins, and the frontier of quality against tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from metrics.intervals import Interval, of_mean
from programs.evaluate.report import users
from programs.tasks.program import R2PConfig
from r2p_dspy.errors import RunError

TrialRow = Mapping[str, Any]
_FINALISTS = 3  # besides the best trial and the start


@dataclass(frozen=True)
class Trial:
    """Settings that were measured."""

    settings: R2PConfig
    # By example: `score` in [0, 1], `user`, `calls`, `prompt_tokens`, `completion_tokens`; `failed` if it has no score.
    rows: Sequence[TrialRow]
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
        return fmean(row[key] for row in self.answered)

    @property
    def answered(self) -> list[TrialRow]:
        """The rows with a score."""
        return [row for row in self.rows if not row.get("failed")]

    def shares_examples_with(self, other: "Trial") -> bool:
        """Whether there is an example that both answered."""
        return bool(self._pairs(other))

    def difference(self, other: "Trial") -> Interval:
        """This score minus another's, paired on the examples that both answered (95 % interval)."""
        own = [mine for mine, _ in self._pairs(other)]
        return of_mean(self._differences(other), users=users(own))

    def is_behind(self, other: "Trial") -> bool:
        """Whether this score is lower than another's by more than one standard error of the paired difference."""
        differences = other._differences(self)
        error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
        return fmean(differences) > error + 1e-9

    def _differences(self, other: "Trial") -> list[float]:
        return [mine["score"] - theirs["score"] for mine, theirs in self._pairs(other)]

    def _pairs(self, other: "Trial") -> list[tuple[TrialRow, TrialRow]]:
        pairs = zip(self.rows, other.rows, strict=False)
        return [(mine, theirs) for mine, theirs in pairs if not (mine.get("failed") or theirs.get("failed"))]


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
        return _cheapest(_comparable(self.finals) or self._complete)[0]

    @property
    def finalists(self) -> list[Trial]:
        """The three cheapest trials within one standard error of the best, the best one and the start."""
        finalists = [*_cheapest(self._complete)[:_FINALISTS], self.best, self._complete[0]]
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
        return _comparable([trial for trial in self.trials if trial.complete])


def _comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Trials of the same examples without the scores of those that one of them failed to answer.

    Raises RunError if no example is left.
    """
    failed = {place for trial in trials for place, row in enumerate(trial.rows) if row.get("failed")}
    if not failed:
        return [*trials]
    if len(failed) == len(trials[0].rows):
        raise RunError(
            "in one trial or another the model's server failed on every example, so nothing can be compared; go on "
            "with --resume"
        )
    left_out = {"failed": "in another trial"}
    return [
        replace(trial, rows=[{**left_out, **row} if place in failed else row for place, row in enumerate(trial.rows)])
        for trial in trials
    ]


def _best(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: (trial.score, -trial.tokens))


def _cheapest(trials: Sequence[Trial]) -> list[Trial]:
    """The trials within one standard error of the best, fewest tokens first."""
    best = _best(trials)
    equals = [trial for trial in trials if not trial.is_behind(best)]
    return sorted(equals, key=lambda trial: (trial.tokens, -trial.score))
