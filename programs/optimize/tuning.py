"""Searching R2P's settings with optuna, for a high score and few tokens."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from programs.optimize.trials import Trial, TrialRow, Tuning
from programs.tasks.program import R2PConfig
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError
from r2p_dspy.template import TEMPLATES

Measure = Callable[[R2PConfig, int], Sequence[TrialRow]]

TEMPERATURES = (0.0, 0.5, 1.0)  # tried beside the model's own
# The settings that are searched, and their values. The first trials change one setting each, in this order.
SPACE: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "template": tuple(TEMPLATES),
        "k": (1, 2, 3, 4, 6, 8),
        "carrier": ("fields", "thinking"),
        "history": ("list", "turns"),
        "candidates": (1, 3, 5),
        "retriever": ("bm25", "recency"),
        "adaptive": (False, True),
        "reconcile": ("auto", "vote", "synthesis"),
    }
)
_MIN_EXAMPLES = 10  # before a trial can be given up
_OF_SEVERAL_CANDIDATES = ("adaptive", "reconcile")  # settings that matter only with several candidates


def search_space(task: Task, start: R2PConfig, fixed: Collection[str] = ()) -> dict[str, tuple[Any, ...]]:
    """The values to choose from, by setting; the start's value comes first.

    Left out are `fixed` settings, `history` where the items are no turns, and templates without a stage that the
    task's checks need.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> search_space(TASK, R2PConfig(k=12), fixed=["retriever"])["k"]
        (12, 1, 2, 3, 4, 6, 8)
    """
    stages = {name: [None, *(stage.name for stage, _ in template.walk())] for name, template in TEMPLATES.items()}
    unfit = {name for name, known in stages.items() if any(check.after not in known for check in task.checks)}
    choices = {}
    for name in [name for name in SPACE if name not in fixed and (name != "history" or task.turns)]:
        values = (getattr(start, name), *SPACE[name])
        choices[name] = tuple(value for value in dict.fromkeys(values) if name != "template" or value not in unfit)
    return choices


def tune(
    measure: Measure,
    choices: Mapping[str, Sequence[Any]],
    start: R2PConfig,
    examples: int,
    *,
    trials: int = 24,
    further: int = 0,
    seed: int = 0,
    stops: tuple[type[BaseException], ...] = (),
) -> Tuning:
    """Measure settings: the start, each setting changed alone, then what optuna's TPE sampler proposes.

    The search has two objectives, a high score and few tokens. A trial is given up after a third of the examples if its
    score is surely lower than the best one's (paired 95 % interval), or if it takes more tokens and nowhere scores
    higher. Settings that add changes to a trial that was given up and took more tokens than the start are not measured.
    The same seed and the same results lead to the same trials.

    Args:
        measure: takes settings and a number n; returns the rows of the first n examples.
        choices: see `search_space`.
        examples: how many examples there are.
        trials: how many different settings to measure.
        further: on how many further examples the finalists are measured, if there are several (see `Tuning`).
        stops: exceptions of `measure` that end the search, such as a usage limit; the trials measured before count. One
            that comes before the start is measured is raised.
    """
    measured: dict[str, Trial] = {}
    finals: list[Trial] = []
    stopped = None
    try:
        for settings, report in _proposals(choices, start, trials, seed):
            trial = measured.get(str(settings)) or _given_up(list(measured.values()), settings)
            if trial is None:
                if len(measured) == trials:
                    break
                trial = _measure(measure, settings, examples, Tuning(list(measured.values())))
                measured[str(settings)] = trial
            report([trial.score, trial.tokens])
        finalists = Tuning(list(measured.values())).finalists
        if len(finalists) > 1 and further:
            count = examples + further
            finals = [Trial(trial.settings, measure(trial.settings, count), complete=True) for trial in finalists]
    except stops as stop:
        if not measured:
            raise
        stopped = stop
    return Tuning(list(measured.values()), finals, stopped)


def _measure(measure: Measure, settings: R2PConfig, examples: int, earlier: Tuning) -> Trial:
    third = max(_MIN_EXAMPLES, -(-examples // 3))
    if earlier.trials and third < examples:
        given_up = Trial(settings, measure(settings, third), complete=False)
        if _is_hopeless(given_up, earlier.best):
            return given_up
    return Trial(settings, measure(settings, examples), complete=True)


def _given_up(measured: Sequence[Trial], settings: R2PConfig) -> Trial | None:
    """A trial that was given up, took more tokens than the start, and whose changes these settings all contain."""

    def changes(settings: R2PConfig) -> set[tuple[str, Any]]:
        return settings.model_dump().items() - measured[0].settings.model_dump().items()

    expensive = (trial for trial in measured if not trial.complete and trial.tokens > measured[0].tokens)
    return next((trial for trial in expensive if changes(trial.settings) <= changes(settings)), None)


def _is_hopeless(trial: Trial, best: Trial) -> bool:
    if not trial.shares_examples_with(best):
        return False
    high = trial.difference(best).high
    return high < 0 or (high == 0 and trial.tokens > best.tokens)


def _proposals(
    choices: Mapping[str, Sequence[Any]], start: R2PConfig, trials: int, seed: int
) -> Iterator[tuple[R2PConfig, Callable[[list[float]], Any]]]:
    """Settings to measure, some of them repeatedly; each with the function that takes its score and tokens."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError("--tune needs optuna: pip install '.[cli]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=seed))
    first = {name: values[0] for name, values in choices.items()}
    study.enqueue_trial(first)
    for name, values in choices.items():
        if name not in _OF_SEVERAL_CANDIDATES or start.candidates > 1:
            for value in values[1:]:
                study.enqueue_trial({**first, name: value})
    for _ in range(10 * trials):  # an upper bound: a small space is soon exhausted
        proposal = study.ask()
        settings: dict[str, Any] = {}
        for name, values in choices.items():  # `candidates` comes before the settings that depend on it
            if name not in _OF_SEVERAL_CANDIDATES or settings.get("candidates", start.candidates) > 1:
                settings[name] = proposal.suggest_categorical(name, values)
        yield start.model_copy(update=settings), partial(study.tell, proposal)
