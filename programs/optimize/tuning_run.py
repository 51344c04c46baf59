"""`--tune` in a run: trials are measured on dev and kept, what won is compared on the reported users."""

import re
import time
from collections.abc import Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError, LMUnsupportedModelError

from metrics.intervals import of_mean
from programs.evaluate import report
from programs.evaluate.experiment import Experiment
from programs.evaluate.runner import collect, usage_fields
from programs.optimize.trials import Row, Trial, Tuning
from programs.optimize.tuning import space, tune
from programs.tasks.program import R2PConfig
from programs.ui.plots import plot_tuning
from r2p_dspy import R2P, Composite, optimizing

_TOKENS = {
    "completion": lambda trial: trial.per_answer("completion_tokens"),
    "all": lambda trial: trial.tokens,
}


def run_tuning(
    experiment: Experiment, scored: Composite, stops: tuple[type[BaseException], ...] = ()
) -> tuple[R2PConfig, dict[str, Any]]:
    """Search the settings that were not given, on dev, compare the finalists on train too, and draw `tuning.png`.

    Args:
        experiment: that has begun; each trial's rows go to its run directory, and those that are there are not asked
            again.
        scored: the score that is searched for, as programs are compiled by.
        stops: exceptions that end the search with the best setting so far, see `tuning.tune`.

    Returns:
        The winner's settings, and for the report what `summarize` returns.
    """
    task, options, start = experiment.task, experiment.options, experiment.settings
    dev, train = experiment.data.dev, experiment.data.train
    examples = [*dev, *train]

    def measure(settings: R2PConfig, count: int) -> Sequence[Row]:
        program = experiment.build(settings)
        rows = experiment.run.rows("tune-" + re.sub(r"[^A-Za-z0-9.]+", "-", str(settings))[-100:])
        missing = {example.id for example in examples[:count]} - {row["id"] for row in rows}
        tick = experiment.reporter.start(f"tune {settings}", count, count - len(missing)) if missing else lambda: None
        with dspy.context(lm=experiment.lm.copy(cache=False)):  # as in `Experiment.measure`
            return collect(lambda one: _row(program, one, scored), examples[:count], rows, options.num_threads, tick)

    choices = space(task, start, fixed=experiment.given)
    try:
        found = tune(
            measure,
            choices,
            start,
            len(dev),
            trials=options.trials,
            more=len(train),
            seed=options.seed,
            stops=stops,
        )
    except stops as stop:  # before the start was measured
        nothing = dict.fromkeys(("start", "winner", "best"), str(start))
        return start, {**nothing, "stopped": _said(stop), "trials": [], "finals": []}
    summary = summarize(found)
    plot_tuning(summary, f"{task.name}, {experiment.data.source}", experiment.run.path / "tuning.png")
    return found.winner.settings, summary


def _row(program: R2P, example: dspy.Example, scored: Composite) -> dict[str, Any]:
    started, adapter = time.monotonic(), dspy.ChatAdapter(use_json_adapter_fallback=False)  # as in `measure`
    with dspy.track_usage() as usage, optimizing(), dspy.context(adapter=adapter):
        try:
            score = scored.metric(example, program(**example.inputs()))
        except AdapterParseError:
            score = 0.0
        except LMInvalidRequestError as error:  # a setting that this model cannot take; others may do
            if isinstance(error, LMUnsupportedModelError):
                raise
            score = 0.0
    return {"id": example.id, "user": example.get("user"), "score": score, **usage_fields(usage, started)}


def summarize(tuning: Tuning) -> dict[str, Any]:
    """A search's part of the report.

    Returns:
        The start, the winner and the best trial in words; what stopped the search early, or None; and the trials and
        the finals: their settings in words and by name, score and its difference to the start with 95 % intervals
        (paired), on how many examples, whether they were given up, calls and tokens for each answer, and on which
        frontiers of score against tokens they are.
    """
    first = tuning.trials[0]
    start = next((one for one in tuning.finals if one.settings == first.settings), first)
    frontiers = {name: tuning.frontier(tokens) for name, tokens in _TOKENS.items()}

    def entry(trial: Trial) -> dict[str, Any]:
        scores = [row["score"] for row in trial.rows]
        return {
            "setting": str(trial.settings),
            "settings": trial.settings.model_dump(),
            "examples": len(trial.rows),
            "given_up": not trial.whole,
            "score": of_mean(scores, users=report.users(trial.rows)).rounded(),
            "difference": trial.above(start).rounded(),
            "calls": round(trial.per_answer("calls"), 2),
            "tokens": {name: round(tokens(trial), 1) for name, tokens in _TOKENS.items()},
            "frontier": [name for name, trials in frontiers.items() if trial in trials],
        }

    return {
        "start": str(first.settings),
        "winner": str(tuning.winner.settings),
        "best": str(tuning.best.settings),
        "stopped": tuning.stopped and _said(tuning.stopped),
        "trials": [entry(trial) for trial in tuning.trials],
        "finals": [entry(trial) for trial in tuning.finals],
    }


def compared(experiment: Experiment, names: Sequence[str], to: str = "r2p") -> dict[str, Any]:
    """How programs differ from another on the reported users: in the first metric, and in tokens, as a share of its.

    Args:
        experiment: whose programs were measured.
        names: those to compare; one that was not measured is left out.
        to: what with.
    """
    rows = experiment.rows
    names = [name for name in names if {name, to} <= rows.keys()]
    apart = report.differences(experiment.task, {name: rows[name] for name in (to, *names)}, to) if names else {}

    def tokens(name: str, *kinds: str) -> int:
        return sum(row[f"{kind}_tokens"] for row in rows[name] for kind in kinds)

    def share(name: str, *kinds: str) -> float | None:
        whole = tokens(to, *kinds)
        return round(tokens(name, *kinds) / whole, 4) if whole else None

    return {
        name: {
            "difference": apart[name],
            "tokens": {"completion": share(name, "completion"), "all": share(name, "completion", "prompt")},
        }
        for name in names
    }


def _said(stop: BaseException) -> str:
    return str(stop) or type(stop).__name__
