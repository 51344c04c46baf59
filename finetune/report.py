"""The report of a run: the student before and after training, and its teacher, measured on unseen users."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from finetune.config import FinetuneConfig
from finetune.task_setup import TaskSetup
from metrics.intervals import of_difference, of_mean
from programs.calls.patience import MAX_FAILURES
from programs.evaluate import report as reports
from programs.evaluate.baselines import trivial_baselines
from programs.evaluate.report import answer_of
from programs.evaluate.runner import ResultRow, finished, is_scored, measure
from programs.runs.directory import Run
from programs.runs.model import lm_settings
from programs.runs.provenance import measured_on
from programs.runs.reporter import Reporter
from programs.tasks.task import Task

Row = Mapping[str, Any]
Log = Sequence[Mapping[str, Any]]
STUDENT, TEACHER = "student", "teacher"


def measure_program(
    name: str,
    setups: Sequence[TaskSetup],
    lm: dspy.LM,
    run: Run,
    threads: int,
    reporter: Reporter,
    max_failures: float = MAX_FAILURES,
    redact: bool = False,
) -> dict[str, list[ResultRow]]:
    """Run the `teacher`, or a student without corrections, on the reported users who have no row in `run` yet.

    `max_failures` is the share of a task's rows that may fail, see `runner.collect`; `redact` keeps no transcripts.
    """
    measured = {}
    for setup in setups:
        task, examples = setup.task, setup.data.test
        rows = run.rows(f"{task.name}/{name}")
        progress = reporter.start(f"{task.name} {name}", len(examples), len(finished(rows)))
        with dspy.context(lm=lm):
            program = setup.teacher if name == TEACHER else setup.program
            transcripts = None if redact else run.transcripts(f"{task.name}/{name}")
            measured[task.name] = measure(
                program, examples, task, rows, threads, progress, max_failures, transcripts, redact
            )
    return measured


def make_report(
    config: FinetuneConfig,
    setups: Sequence[TaskSetup],
    measured: Mapping[str, Mapping[str, Sequence[Row]]],
    histories: Mapping[str, Log],
    *,
    traces: Mapping[str, Sequence[Row]],
    carrier: str,
    kept: str,
    lm: dspy.LM,
    seconds: float,
    timings: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """The report of a run: for each task what `evaluate` reports, and for each training its steps, scores and rewards.

    A task's programs are `student`, `student:sft`, … and `teacher`. Added are `per_answer` (calls, tokens and score),
    `to_student` (paired differences to the untrained student), `to_teacher` (shares of its score and tokens), and with
    SFT `traces`: `rows`, the number of training users by what became of the teacher's answer, and `failed_rows`, by
    cause. Rows whose server failed count in none of these but the last, as in `evaluate`.
    """
    tasks = {}
    for setup in setups:
        task = setup.task
        programs = {name: rows[task.name] for name, rows in measured.items()}
        baselines = trivial_baselines(task, setup.data.test, setup.data.train)
        trained = [name for name in programs if name not in (STUDENT, TEACHER)]
        tasks[task.name] = {
            "command": "finetune",
            "task": task.name,
            "split": setup.data.split,
            "data": setup.data.source,
            "model": config.student,
            "lm": f"{config.student}, taught by {lm.model}",
            "retriever": setup.config.retriever,
            "k": setup.config.k,
            "seed": config.data.seed,
            "examples": len(setup.data.test),
            **measured_on(setup.data, task),
            "shared_users": setup.data.shared_users,
            "skipped": setup.data.skipped,
            "seconds": round(seconds, 1),
            "programs": {name: reports.entry(task, own, baselines, lm) for name, own in programs.items()},
            "per_answer": {name: per_answer(task, own) for name, own in programs.items()},
            "to_student": {name: gains(task, programs[name], programs[STUDENT]) for name in trained},
            "to_teacher": {
                name: shares(task, programs[name], programs[TEACHER]) for name in programs if name != TEACHER
            },
            "traces": outcomes(traces[task.name]) if task.name in traces else None,
        }
    return {
        "command": "finetune",
        "method": config.method,
        "student": config.student,
        "teacher": {
            "model": config.teacher.name,
            "lm": lm.model,
            "lm_settings": lm_settings(lm, config.teacher.adapter),
            "candidates": config.r2p.candidates,
        },
        "carrier": carrier,
        "kept": kept,
        "model": "model",
        "tasks": tasks,
        "trainings": {name: summary(log) | {"seconds": timings.get(name)} for name, log in histories.items()},
        "peak_memory_gb": peak_memory(),
        "seconds": round(seconds, 1),
    }


def outcomes(traces: Sequence[Row]) -> dict[str, dict[str, int]]:
    """What became of the teacher's answers for training users, see `traces.ask_teacher`."""
    answered = Counter(row["refused"] or "good" for row in traces if not row.get("failed"))
    return {"rows": dict(answered), "failed_rows": reports.failures(traces)}


def per_answer(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    """Mean score in [0, 1], calls and completion tokens of one answer."""
    rows = reports.scored(rows)
    return {
        "score": of_mean(_scores(task, rows)).rounded(),
        "calls": round(sum(row["calls"] for row in rows) / len(rows), 2),
        "completion_tokens": round(sum(row["completion_tokens"] for row in rows) / len(rows), 1),
    }


def gains(task: Task, after: Sequence[Row], before: Sequence[Row]) -> dict[str, Any]:
    """Paired differences in the task's score, in its first metric, and in accuracy where it has labels."""
    after, before = _both_scored(after, before)
    differences = [new - old for new, old in zip(_scores(task, after), _scores(task, before), strict=True)]
    intervals = {"score": of_mean(differences).rounded()}
    accuracy = ["accuracy"] if task.labels else []
    answers_after, answers_before = ([answer_of(row) for row in rows] for rows in (after, before))
    golds = [row["gold"] for row in before]
    for name in dict.fromkeys([task.metrics[0], *accuracy]):
        difference = of_difference(task.metric(name), answers_after, answers_before, golds, task.labels)
        intervals[name] = difference.rounded()
    return intervals


def shares(task: Task, rows: Sequence[Row], teacher: Sequence[Row]) -> dict[str, float | None]:
    """Score and completion tokens as shares of the teacher's; None where the teacher has none."""
    rows, teacher = _both_scored(rows, teacher)
    score, teacher_score = sum(_scores(task, rows)), sum(_scores(task, teacher))
    tokens, teacher_tokens = (sum(row["completion_tokens"] for row in part) for part in (rows, teacher))
    return {
        "score": round(score / teacher_score, 4) if teacher_score else None,
        "completion_tokens": round(tokens / teacher_tokens, 4) if teacher_tokens else None,
    }


def summary(log: Log) -> dict[str, Any]:
    """A training's steps, scores on dev, and rewards, from its log."""
    steps, scores = points(log, "eval_score")
    training: dict[str, Any] = {"steps": max((entry["step"] for entry in log), default=0)}
    training["dev"] = dict(zip(map(str, steps), scores))
    _, rewards = points(log, "rewards/composite/mean")
    if rewards:
        tenth = max(1, len(rewards) // 10)
        _, without_spread = points(log, "frac_reward_zero_std")
        training["reward"] = {"first": _mean(rewards[:tenth]), "last": _mean(rewards[-tenth:])}
        training["groups_without_spread"] = _mean(without_spread)
    return training


def best_on_dev(histories: Mapping[str, Log]) -> str:
    """The training whose model is the best on dev; the later one on a tie.

    A score before the first step is of the model that a training began with, and saves none.

    Args:
        histories: the log of each training, in their order.

    Examples:
        >>> sft = [{"step": 0, "eval_score": 0.4}, {"step": 25, "eval_score": 0.9}]
        >>> grpo = [{"step": 0, "eval_score": 0.9}, {"step": 25, "eval_score": 0.8}]
        >>> best_on_dev({"sft": sft, "sft+grpo": grpo})
        'sft'
    """
    best, kept = -1.0, ""
    for name, log in histories.items():
        score = max((value for step, value in zip(*points(log, "eval_score")) if step), default=0.0)
        if score >= best:
            best, kept = score, name
    return kept


def points(log: Log, key: str) -> tuple[list[int], list[float]]:
    """The steps at which a metric was logged, and its values; the last value of a step that was repeated."""
    values = {entry["step"]: entry[key] for entry in log if entry.get(key) is not None}
    return [*values], [*values.values()]


def peak_memory() -> float:
    """The peak memory of this process in GB; 0 on Windows, which does not report it."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)


def _both_scored(first: Sequence[Row], second: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of two programs on the examples that count for both."""
    pairs = [pair for pair in zip(first, second, strict=True) if all(map(is_scored, pair))]
    return [row for row, _ in pairs], [row for _, row in pairs]


def _scores(task: Task, rows: Sequence[Row]) -> list[float]:
    """The task's own score of each answer, in [0, 1]."""
    metric = task.metric(task.metrics[0])
    return [metric.score(answer_of(row), row["gold"], task.labels) for row in rows]


def _mean(values: Sequence[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return round(sum(numbers) / len(numbers), 4) if numbers else 0.0
