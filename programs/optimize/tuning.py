"""Searching R2P's settings with optuna, for quality and for few tokens."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from programs.optimize.trials import Row, Trial, Tuning
from programs.tasks.program import R2PConfig
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError
from r2p_dspy.template import TEMPLATES

Measure = Callable[[R2PConfig, int], Sequence[Row]]

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


def space(task: Task, start: R2PConfig, fixed: Collection[str] = ()) -> dict[str, tuple[Any, ...]]:
    """What there is to choose from, by setting; the value that the search starts with comes first.

    Args:
        task: some checks of a user's task need a stage that not every template has.
        start: what the search starts with.
        fixed: settings that stay as they are.

    Example:
        >>> from programs.tasks.lamp2 import TASK
        >>> space(TASK, R2PConfig(k=12), fixed=["retriever"])["k"]
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
    start: R2PConfig,
    examples: int,
    *,
    trials: int = 24,
    more: int = 0,
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
        more: on how many further examples the finalists are measured (see `trials.Tuning`), if there are several.
        seed: of the sampler.
        stops: exceptions of `measure` that end the search, such as a spent budget; what was measured until then stands.

    Raises:
        ValueError: when optuna is not installed.
        BaseException: one of `stops` that comes before the start is measured.
    """
    done: dict[str, Trial] = {}
    finals: list[Trial] = []
    stopped = None
    try:
        for settings, tell in _proposed(choices, start, trials, seed):
            trial = done.get(str(settings)) or _known([*done.values()], settings)
            if trial is None:
                if len(done) == trials:
                    break
                trial = done[str(settings)] = _measured(measure, settings, examples, Tuning([*done.values()]))
            tell([trial.score, trial.tokens])
        finalists = Tuning([*done.values()]).finalists
        if len(finalists) > 1 and more:
            finals = [Trial(one.settings, measure(one.settings, examples + more), whole=True) for one in finalists]
    except stops as stop:
        if not done:
            raise
        stopped = stop
    return Tuning([*done.values()], finals, stopped)


def _measured(measure: Measure, settings: R2PConfig, examples: int, before: Tuning) -> Trial:
    third = max(_FEWEST, -(-examples // 3))
    if before.trials and third < examples:
        some = Trial(settings, measure(settings, third), whole=False)
        if _hopeless(some, before.best):
            return some
    return Trial(settings, measure(settings, examples), whole=True)


def _known(done: Sequence[Trial], settings: R2PConfig) -> Trial | None:
    """A trial that was given up, dearer than the start, whose changes to the start are among those of a setting."""

    def changes(of: R2PConfig) -> set[tuple[str, Any]]:
        return of.model_dump().items() - done[0].settings.model_dump().items()

    dear = [trial for trial in done if not trial.whole and trial.tokens > done[0].tokens]
    return next((trial for trial in dear if changes(trial.settings) <= changes(settings)), None)


def _hopeless(trial: Trial, best: Trial) -> bool:
    high = trial.above(best).high
    return high < 0 or (high == 0 and trial.tokens > best.tokens)


def _proposed(
    choices: Mapping[str, Sequence[Any]], start: R2PConfig, trials: int, seed: int
) -> Iterator[tuple[R2PConfig, Callable[[list[float]], Any]]]:
    """Settings to measure, some of them again, and whom to tell how each does."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError("--tune needs optuna: pip install '.[cli]'") from None
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
