"""`--tune` in a run: measure trials on dev, and compare the winner on the reported users."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from metrics.intervals import of_mean
from programs.calls.failures import Failure
from programs.evaluate import report
from programs.evaluate.measuring import Measurer
from programs.evaluate.runner import collect, failure_of_row, finished, usage_fields
from programs.optimize.safe_metric import SafeMetric
from programs.optimize.trials import Trial, TrialRow, Tuning
from programs.optimize.tuning import search_space, tune
from programs.runs.directory import Rows
from programs.tasks.program import R2PConfig
from programs.tasks.task import Task
from r2p_dspy import Composite, optimizing

_TRIAL = "tune-"  # begins the names of the trials' rows
_TOKENS = {
    "completion": lambda trial: trial.per_answer("completion_tokens"),
    "all": lambda trial: trial.tokens,
}


def run_tuning(
    measurer: Measurer,
    scored: Composite,
    trials: int,
    temperatures: Sequence[float] = (),
    stops: tuple[type[BaseException], ...] = (),
) -> tuple[R2PConfig, dict[str, Any]]:
    """Tune the settings that the user did not give: search on dev, and compare the finalists on train too.

    `temperatures` are tried beside the model's own. Each trial's rows are written to the run's directory; rows that are
    there already are not measured again. Returns the winner's settings, and what `summarize` returns. Raises
    MetricError when the metric fails on all examples.
    """
    setup, run, threads, reporter = measurer.setup, measurer.run, measurer.threads, measurer.reporter
    start, dev, train = setup.config.r2p, setup.data.dev, setup.data.train
    examples = [*dev, *train]

    def measure(settings: R2PConfig, count: int) -> Sequence[TrialRow]:
        program = setup.builder.build(settings)
        rows = run.directory.rows(_TRIAL + re.sub(r"[^A-Za-z0-9.]+", "-", str(settings))[-100:])
        missing = {example.id for example in examples[:count]} - finished(rows).keys()
        tick = reporter.start(f"tune {settings}", count, count - len(missing)) if missing else lambda: None
        with dspy.context(lm=run.lm.copy(cache=False)):  # as in `Measurer.measure`
            measured = collect(
                lambda example: _row(program, example, scored), examples[:count], rows, threads, tick, run.max_failures
            )
        if isinstance(scored.task, SafeMetric):
            scored.task.check()
        return measured

    choices = search_space(setup.task, start, fixed=setup.config.explicit)
    choices["own_temperature"] = (start.own_temperature, *temperatures)
    try:
        tuning = tune(
            measure, choices, start, len(dev), trials=trials, further=len(train), seed=setup.config.seed, stops=stops
        )
    except stops as stop:  # before the start was measured
        unmeasured = dict.fromkeys(("start", "winner", "best"), str(start))
        return start, {**unmeasured, "stopped": _reason(stop), "trials": [], "finals": []}
    return tuning.winner.settings, summarize(tuning)


def tune_baseline(
    measurer: Measurer,
    name: str,
    build: Callable[[float], dspy.Module],
    scored: Composite,
    temperatures: Sequence[float],
) -> tuple[dspy.Module, dict[str, Any]]:
    """A baseline at the temperature that is best for it on dev, the lowest of equals; and what `report.json` tells.

    Each temperature's rows are written to the run's directory, as those of trials are.
    """
    dev, scores = measurer.setup.data.dev, dict[float, float]()
    for temperature in temperatures:
        program = build(temperature)
        rows = measurer.run.directory.rows(f"{_TRIAL}{name}-{temperature:g}".replace(":", "-"))
        tick = measurer.reporter.start(f"tune {name} temperature={temperature:g}", len(dev), len(finished(rows)))
        with dspy.context(lm=measurer.run.lm.copy(cache=False)):
            measured = collect(
                partial(_row, program, scored=scored), dev, rows, measurer.threads, tick, measurer.run.max_failures
            )
        scores[temperature] = sum(row["score"] for row in measured) / len(measured)
    best = max(scores, key=lambda temperature: (round(scores[temperature], 9), -temperature))
    return build(best), {"temperature": best, "dev_scores": {f"{each:g}": round(scores[each], 4) for each in scores}}


def _row(program: dspy.Module, example: dspy.Example, scored: Composite) -> dict[str, Any]:
    started = time.monotonic()
    failure: Failure | None = None
    adapter = dspy.settings.adapter or dspy.ChatAdapter()  # as in `measure`
    with dspy.track_usage() as usage, optimizing(), dspy.context(adapter=adapter):
        try:
            score = scored.metric(example, program(**example.inputs()))
        except AdapterParseError:
            score = 0.0
        except LMError as error:
            failure = failure_of_row(error)
            score = 0.0  # the model refuses these settings; it may take others
    known = {"id": example.id, "user": example.get("user"), "score": score}
    if failure is not None and failure.scope == "server":  # that says nothing about the settings
        known |= {"failed": failure.cause, "error": failure.reason}
    return {**known, **usage_fields(usage, started)}


def trial_rows(directory: Path) -> dict[str, list[TrialRow]]:
    """The rows of all trials in a run's directory, the latest of each example, by the trial's name."""
    return {file.stem: [*{row["id"]: row for row in Rows(file)}.values()] for file in trial_files(directory)}


def trial_files(directory: Path) -> list[Path]:
    """The files of all trials' rows in a run's directory."""
    return sorted((directory / "results").glob(f"{_TRIAL}*.jsonl"))


def summarize(tuning: Tuning) -> dict[str, Any]:
    """The `tuning` of a run's report.

    Returns:
        `start`, `winner` and `best`: settings in words. `stopped`: what ended the search early, or None. `trials` and
        `finals`: for each its settings in words and by name, its score and paired difference to the start with 95 %
        intervals, the number of examples, whether it was given up, calls and tokens for each answer, and on which
        frontiers of score against tokens it is.
    """
    first = tuning.trials[0]
    start = next((trial for trial in tuning.finals if trial.settings == first.settings), first)
    frontiers = {name: tuning.frontier(tokens) for name, tokens in _TOKENS.items()}

    def entry(trial: Trial) -> dict[str, Any]:
        rows = trial.answered
        return {
            "setting": str(trial.settings),
            "settings": trial.settings.model_dump(),
            "examples": len(rows),
            "given_up": not trial.complete,
            "score": of_mean([row["score"] for row in rows], users=report.users(rows)).rounded(),
            "difference": trial.difference(start).rounded(),
            "calls": round(trial.per_answer("calls"), 2),
            "tokens": {name: round(tokens(trial), 1) for name, tokens in _TOKENS.items()},
            "frontier": [name for name, trials in frontiers.items() if trial in trials],
        }

    return {
        "start": str(first.settings),
        "winner": str(tuning.winner.settings),
        "best": str(tuning.best.settings),
        "stopped": tuning.stopped and _reason(tuning.stopped),
        "trials": [entry(trial) for trial in tuning.trials],
        "finals": [entry(trial) for trial in tuning.finals],
    }


def compared(task: Task, rows: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> dict[str, Any]:
    """Compare programs with R2P on the reported users; unmeasured programs are left out.

    Returns, by program, the difference in the task's first metric, and its tokens as a share of R2P's.
    """
    names = [name for name in names if {name, "r2p"} <= rows.keys()]
    measured = {name: rows[name] for name in ("r2p", *names)} if names else {}
    differences = report.differences(task, measured, "r2p") if names else {}

    def share(name: str, *kinds: str) -> float | None:
        tokens, total = (sum(row[f"{kind}_tokens"] for row in rows[key] for kind in kinds) for key in (name, "r2p"))
        return round(tokens / total, 4) if total else None

    return {
        name: {
            "difference": differences[name],
            "tokens": {"completion": share(name, "completion"), "all": share(name, "completion", "prompt")},
        }
        for name in names
    }


def _reason(stop: BaseException) -> str:
    return str(stop) or type(stop).__name__
