"""Searching R2P's settings: quality against tokens on dev, by optuna, and which setting wins."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from metrics.intervals import Interval, of_mean
from programs.report import users
from programs.settings import Settings
from programs.task import Task
from r2p_dspy.template import TEMPLATES

Row = Mapping[str, Any]
Measure = Callable[[Settings, int], Sequence[Row]]

# What is searched. The first trials change one setting each, in this order.
SPACE: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "template": tuple(TEMPLATES),
        "k": (1, 2, 3, 4, 6, 8),
        "carrier": ("fields", "thinking"),
        "candidates": (1, 3, 5),
        "retriever": ("bm25", "recency"),
        "adaptive": (False, True),
        "reconcile": ("auto", "vote", "synthesis"),
    }
)
_FEWEST = 10  # examples on which a trial can be given up
_OF_SEVERAL = ("adaptive", "reconcile")  # what matters where there are candidates


@dataclass(frozen=True)
class Trial:
    """A setting that was measured.

    Args:
        settings: the setting.
        rows: a row for each example: `score` in [0, 1], `user`, `calls`, `prompt_tokens`, `completion_tokens`.
        whole: whether it was measured on all examples, and not given up.
    """

    settings: Settings
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

    Args:
        trials: in the order in which they were measured; the first one is the setting that it started with.
        stopped: what ended it early, or None.
    """

    trials: Sequence[Trial]
    stopped: BaseException | None = None

    @property
    def best(self) -> Trial:
        """Of the whole trials the one with the highest score; of equals the one of fewer tokens."""
        return max(self._whole, key=lambda trial: (trial.score, -trial.tokens))

    @property
    def winner(self) -> Trial:
        """The one of fewest tokens of those that are within one standard error of the best.

        By the one-standard-error rule (Breiman et al., Classification and Regression Trees, 1984). That an interval
        of 95 % contains 0 would be too weak: it does where three of 60 answers are lost and none is gained.
        """
        equals = [trial for trial in self._whole if not trial.behind(self.best)]
        return min(equals, key=lambda trial: (trial.tokens, -trial.score))

    def frontier(self, tokens: Callable[[Trial], float]) -> list[Trial]:
        """The whole trials than which none is better at as few tokens, fewest tokens first."""
        found: list[Trial] = []
        for trial in sorted(self._whole, key=lambda trial: (tokens(trial), -trial.score)):
            if not found or trial.score > found[-1].score:
                found.append(trial)
        return found

    @property
    def _whole(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.whole]


def space(task: Task, start: Settings, fixed: Collection[str] = ()) -> dict[str, tuple[Any, ...]]:
    """What there is to choose from, by setting; the value that the search starts with comes first.

    Args:
        task: some checks of a user's task need a stage that not every template has.
        start: what the search starts with.
        fixed: settings that stay as they are.

    Example:
        >>> from programs.lamp2 import TASK
        >>> space(TASK, Settings(k=12), fixed=["retriever"])["k"]
        (12, 1, 2, 3, 4, 6, 8)
    """
    stages = {name: [None, *(stage.name for stage, _ in template.walk())] for name, template in TEMPLATES.items()}
    cannot = {name for name, known in stages.items() if any(one.after not in known for one in task.checks)}
    found = {}
    for name in [name for name in SPACE if name not in fixed]:
        values = (getattr(start, name), *SPACE[name])
        found[name] = tuple(value for value in dict.fromkeys(values) if name != "template" or value not in cannot)
    return found


def tune(
    measure: Measure,
    choices: Mapping[str, Sequence[Any]],
    start: Settings,
    examples: int,
    *,
    trials: int = 24,
    seed: int = 0,
    stops: tuple[type[BaseException], ...] = (),
) -> Tuning:
    """Measure settings: the start, each setting changed alone, then what optuna's TPE sampler proposes.

    The search is for both, a high score and few tokens. A trial is given up after a third of the examples when it is
    surely worse than the best one (paired 95 % interval), or dearer and nowhere better; so is, unmeasured, what makes
    further changes to such a one that is dearer than the start. The same seed and results lead to the same trials.

    Args:
        measure: takes a setting and a number; returns the rows of so many examples, always the first ones.
        choices: see `space`.
        start: what to start with.
        examples: how many there are.
        trials: how many different settings to measure.
        seed: of the sampler.
        stops: exceptions of `measure` that end the search, such as a spent budget; what was measured until then stands.

    Raises:
        ValueError: when optuna is not installed.
        BaseException: one of `stops` that comes before the start is measured.
    """
    done: dict[str, Trial] = {}
    stopped = None
    try:
        for settings, tell in _proposed(choices, start, trials, seed):
            trial = done.get(str(settings)) or _known([*done.values()], settings)
            if trial is None:
                if len(done) == trials:
                    break
                trial = done[str(settings)] = _measured(measure, settings, examples, Tuning([*done.values()]))
            tell([trial.score, trial.tokens])
    except stops as stop:
        if not done:
            raise
        stopped = stop
    return Tuning([*done.values()], stopped)


def _measured(measure: Measure, settings: Settings, examples: int, before: Tuning) -> Trial:
    third = max(_FEWEST, -(-examples // 3))
    if before.trials and third < examples:
        some = Trial(settings, measure(settings, third), whole=False)
        if _hopeless(some, before.best):
            return some
    return Trial(settings, measure(settings, examples), whole=True)


def _known(done: Sequence[Trial], settings: Settings) -> Trial | None:
    """A trial that was given up, dearer than the start, whose changes to the start are among those of a setting."""

    def changes(of: Settings) -> set[tuple[str, Any]]:
        return of.model_dump().items() - done[0].settings.model_dump().items()

    dear = [trial for trial in done if not trial.whole and trial.tokens > done[0].tokens]
    return next((trial for trial in dear if changes(trial.settings) <= changes(settings)), None)


def _hopeless(trial: Trial, best: Trial) -> bool:
    high = trial.above(best).high
    return high < 0 or (high == 0 and trial.tokens > best.tokens)


def _proposed(
    choices: Mapping[str, Sequence[Any]], start: Settings, trials: int, seed: int
) -> Iterator[tuple[Settings, Callable[[list[float]], Any]]]:
    """Settings to measure, some of them again, and whom to tell how each does."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("--tune needs optuna: pip install 'r2p-dspy[cli]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed))
    first = {name: values[0] for name, values in choices.items()}
    study.enqueue_trial(first)
    for name, values in choices.items():
        for value in values[1:] if name not in _OF_SEVERAL or start.candidates > 1 else ():
            study.enqueue_trial({**first, name: value})
    for _ in range(10 * trials):  # so often at most: a small space is soon known
        asked = study.ask()
        # Those that matter for several candidates come after their number.
        chosen: dict[str, Any] = {}
        for name, values in choices.items():
            if name not in _OF_SEVERAL or chosen.get("candidates", start.candidates) > 1:
                chosen[name] = asked.suggest_categorical(name, values)
        yield start.model_copy(update=chosen), partial(study.tell, asked)
