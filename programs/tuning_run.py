"""`--tune` in a run: trials are measured on dev and kept, what won is compared on the reported users."""

import re
import time
from collections.abc import Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError, LMUnsupportedModelError

from metrics.intervals import Interval, of_mean
from programs import report
from programs.compiling import composite
from programs.experiment import Experiment
from programs.measure import collect, spent
from programs.plot import plot_tuning
from programs.settings import Settings
from programs.tuning import Trial, Tuning, space, tune
from r2p_dspy import R2P, Composite, optimizing

_TOKENS = {
    "completion": lambda trial: trial.per_answer("completion_tokens"),
    "all": lambda trial: trial.tokens,
}


def run_tuning(experiment: Experiment, stops: tuple[type[BaseException], ...] = ()) -> tuple[Settings, dict[str, Any]]:
    """Search the settings that were not given, on dev, by the composite score; draw `tuning.png`.

    Args:
        experiment: that has begun; each trial's rows go to its run directory, and those that are there are not asked
            again.
        stops: see `tuning.tune`.

    Returns:
        The winner's settings, and for the report: the trials (settings in words, composite score on dev and its
        difference to the start with 95 % intervals, examples, calls and tokens for each answer, which frontiers of
        quality against tokens it is on), the winner and the best one in words, and what stopped the search.
    """
    options, dev = experiment.options, experiment.data.dev
    scored = composite(experiment.task)
    choices = space(experiment.task, experiment.settings, fixed=experiment.given)

    def measure(settings: Settings, count: int) -> Sequence[report.Row]:
        program = experiment.build(settings)
        rows = experiment.run.rows("tune-" + re.sub(r"[^A-Za-z0-9.]+", "-", str(settings))[-100:])
        missing = {example.id for example in dev[:count]} - {row["id"] for row in rows}
        tick = experiment.reporter.start(f"tune {settings}", count, count - len(missing)) if missing else lambda: None
        with dspy.context(lm=experiment.lm.copy(cache=False)):  # as in `Experiment.measure`
            return collect(lambda one: _row(program, one, scored), dev[:count], rows, options.num_threads, tick)

    found = tune(measure, choices, experiment.settings, len(dev), trials=options.trials, seed=options.seed, stops=stops)
    summary = summarize(found)
    plot_tuning(summary, f"{experiment.task.name}, {experiment.data.source}", experiment.run.path / "tuning.png")
    return found.winner.settings, summary


def _row(program: R2P, example: dspy.Example, scored: Composite) -> dict[str, Any]:
    started, adapter = time.monotonic(), dspy.ChatAdapter(use_json_adapter_fallback=False)  # as in `measure`
    with dspy.track_usage() as usage, optimizing(), dspy.context(adapter=adapter):
        try:
            score = scored(example, program(**example.inputs())).value
        except AdapterParseError:
            score = 0.0
        except LMInvalidRequestError as error:  # a setting that this model cannot take; others may do
            if isinstance(error, LMUnsupportedModelError):
                raise
            score = 0.0
    return {"id": example.id, "user": example.get("user"), "score": score, **spent(usage, started)}


def summarize(tuning: Tuning) -> dict[str, Any]:
    """A search's part of the report, see `run_tuning`."""
    start, winner = tuning.trials[0], tuning.winner
    frontiers = {name: tuning.frontier(tokens) for name, tokens in _TOKENS.items()}

    def entry(trial: Trial) -> dict[str, Any]:
        scores = [row["score"] for row in trial.rows]
        return {
            "setting": str(trial.settings),
            "settings": trial.settings.model_dump(),
            "examples": len(trial.rows),
            "given_up": not trial.whole,
            "score": _rounded(of_mean(scores, users=report.users(trial.rows))),
            "difference": _rounded(trial.above(start)),
            "calls": round(trial.per_answer("calls"), 2),
            "tokens": {name: round(tokens(trial), 1) for name, tokens in _TOKENS.items()},
            "frontier": [name for name, trials in frontiers.items() if trial in trials],
        }

    return {
        "start": str(start.settings),
        "winner": str(winner.settings),
        "best": str(tuning.best.settings),
        "stopped": tuning.stopped and (str(tuning.stopped) or type(tuning.stopped).__name__),
        "trials": [entry(trial) for trial in tuning.trials],
    }


def compared(experiment: Experiment, names: Sequence[str], to: str = "r2p") -> dict[str, Any]:
    """How programs differ from another on the reported users: in the first metric, and in tokens, as a share of its.

    Args:
        experiment: whose programs were measured.
        names: those to compare.
        to: what with.
    """
    rows = experiment.rows
    apart = report.differences(experiment.task, {name: rows[name] for name in (to, *names)}, to)

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


def _rounded(found: Interval) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in found._asdict().items()}
