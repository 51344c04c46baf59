"""What a fine-tuning comes to: the student before and after, and its teacher, on users that none of them saw."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy

from finetune.config import Options
from finetune.curves import points
from finetune.task_setup import TaskSetup
from metrics.intervals import of_difference, of_mean
from metrics.lamp import METRICS
from programs.evaluate import report as reports
from programs.evaluate.baselines import trivial_baselines
from programs.tasks.task import Task
from programs.ui.console import Console
from programs.ui.terminal import output

Row = Mapping[str, Any]
BEFORE, TEACHER = "student", "teacher"


def report(
    options: Options,
    courses: Sequence[TaskSetup],
    rows: Mapping[str, Mapping[str, Sequence[Row]]],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    carrier: str,
    kept: str,
    lm: dspy.LM,
    seconds: float,
    timed: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """The report of a run.

    Args:
        options: what was asked for.
        courses: the tasks.
        rows: of each task, for each program the rows of `measure`.
        histories: of each training its log.
        carrier: of the student's reasoning.
        kept: the training whose model is kept.
        lm: the teacher's model.
        seconds: since the run, or this part of it, began.
        timed: of a training the seconds that it took, and those of its rewards.

    Returns:
        For each task what `evaluate` reports, with the programs `student`, `student:sft`, … and `teacher`, and beside
        that `per_answer` (calls, completion tokens and score of one answer), `to_student` (paired differences to what
        the student was) and `to_teacher` (shares of the teacher's score and tokens); and of each training its steps,
        the scores on dev, and in RL the rewards at its beginning and end and the groups without spread.
    """
    parts = {}
    for course in courses:
        task, own = course.task, rows[course.task.name]
        baselines = trivial_baselines(task, course.data.test, course.data.train)
        parts[task.name] = {
            "command": "finetune",
            "task": task.name,
            "split": course.data.split,
            "data": course.data.source,
            "model": options.student,
            "lm": f"{options.student}, taught by {lm.model}",
            "retriever": course.settings.retriever,
            "k": course.settings.k,
            "seed": options.seed,
            "examples": len(course.data.test),
            "shared_users": course.data.shared_users,
            "skipped": course.data.skipped,
            "seconds": round(seconds, 1),
            "programs": {name: reports.entry(task, found, baselines, lm) for name, found in own.items()},
            "per_answer": {name: per_answer(task, found) for name, found in own.items()},
            "to_student": {name: gained(task, own[name], own[BEFORE]) for name in own if name not in (BEFORE, TEACHER)},
            "to_teacher": {name: share(task, own[name], own[TEACHER]) for name in own if name != TEACHER},
        }
    return {
        "command": "finetune",
        "method": options.method,
        "student": options.student,
        "teacher": {"model": options.model, "lm": lm.model, "candidates": options.candidates},
        "carrier": carrier,
        "kept": kept,
        "model": "model",
        "tasks": parts,
        "trainings": {name: training(log) | {"seconds": timed.get(name)} for name, log in histories.items()},
        "peak_memory_gb": peak_memory(),
        "seconds": round(seconds, 1),
    }


def per_answer(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    """What one answer scores, in [0, 1], and takes."""
    return {
        "score": of_mean(_scores(task, rows)).rounded(),
        "calls": round(sum(row["calls"] for row in rows) / len(rows), 2),
        "completion_tokens": round(sum(row["completion_tokens"] for row in rows) / len(rows), 1),
    }


def gained(task: Task, after: Sequence[Row], before: Sequence[Row]) -> dict[str, Any]:
    """Paired differences: in the task's score, in its first metric, and of exact answers where it has labels."""
    scores = [new - old for new, old in zip(_scores(task, after), _scores(task, before), strict=True)]
    found = {"score": of_mean(scores).rounded()}
    exact = ["accuracy"] if task.labels else []
    for name in dict.fromkeys([task.metrics[0], *exact]):
        ours, theirs = ([row["answer"] for row in rows] for rows in (after, before))
        golds = [row["gold"] for row in before]
        found[name] = of_difference(METRICS[name], ours, theirs, golds, task.labels).rounded()
    return found


def share(task: Task, rows: Sequence[Row], of: Sequence[Row]) -> dict[str, float | None]:
    """The score and the completion tokens as shares of another program's; None of nothing."""
    ours, theirs = sum(_scores(task, rows)), sum(_scores(task, of))
    tokens, all_tokens = (sum(row["completion_tokens"] for row in some) for some in (rows, of))
    return {
        "score": round(ours / theirs, 4) if theirs else None,
        "completion_tokens": round(tokens / all_tokens, 4) if all_tokens else None,
    }


def training(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a training came to, from its log."""
    steps, scores = points(log, "eval_score")
    found: dict[str, Any] = {"steps": max((entry["step"] for entry in log), default=0)}
    found["dev"] = dict(zip(map(str, steps), scores))
    _, rewards = points(log, "rewards/composite/mean")
    if rewards:
        end = max(1, len(rewards) // 10)
        _, flat = points(log, "frac_reward_zero_std")
        found["reward"] = {"first": _rounded(rewards[:end]), "last": _rounded(rewards[-end:])}
        found["groups_without_spread"] = _rounded(flat)
    return found


def peak_memory() -> float:
    """The most memory that this process has had, in GB; on Windows, which does not tell, 0."""
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**30 if sys.platform == "darwin" else 2**20), 2)


def print_report(done: Mapping[str, Any], directory: Path) -> None:
    """The report as a table for each task on stdout, and what was gained."""
    out = output()
    for part in done["tasks"].values():
        Console().table(part, directory)
        for name, found in part["per_answer"].items():
            text = f"{name}: score {_said(found['score'])}, {found['calls']:g} calls and "
            text += f"{found['completion_tokens']:.0f} tokens an answer"
            if (shares := part["to_teacher"].get(name)) and None not in shares.values():
                text += (
                    f" ({shares['score']:.1%} of the teacher's score, {shares['completion_tokens']:.1%} of its tokens)"
                )
            out.print(text, markup=False, highlight=False)
        for name, gains in part["to_student"].items():
            said = ", ".join(f"{metric} {_said(found, '+')}" for metric, found in gains.items())
            out.print(f"{name} against the student before, paired: {said}", markup=False, highlight=False)
    for name, one in done["trainings"].items():
        if "reward" in one:
            first, last = one["reward"]["first"], one["reward"]["last"]
            text = f"{name}: reward {first:.3f} to {last:.3f} in {one['steps']} steps, "
            text += f"{one['groups_without_spread']:.1%} of the groups without spread"
            if timing := one["seconds"]:
                text += f", rewards {timing['rewards'] / timing['all']:.1%} of the time"
            out.print(text, markup=False, highlight=False)
    peak = f", at most {done['peak_memory_gb']} GB of memory" if done["peak_memory_gb"] else ""
    out.print(f"kept: the model after {done['kept']}, in {directory / 'model'}{peak}", soft_wrap=True, markup=False)


def card(done: Mapping[str, Any]) -> str:
    """A run's README: what the model is, from what it was made, what it reaches, how it is used."""
    teacher = done["teacher"]
    lines = [
        f"# A student of {teacher['lm']}",
        "",
        f"Made by r2p-dspy's `finetune` ({done['method']}) from `{done['student']}`: it reasons by R2P's template",
        f"on its own, on the carrier `{done['carrier']}`, with one call and no corrections. Its teacher was an R2P",
        f"program with {teacher['candidates']} candidates on `{teacher['model']}`. The model is that after",
        f"`{done['kept']}`, the best on dev.",
        "",
        "Traces, questions and samples in this directory hold texts from users' histories: treat them as those.",
    ]
    for name, part in done["tasks"].items():
        metric = next(iter(next(iter(part["programs"].values()))["metrics"]))
        users = f"{part['examples']} unseen users ({part['data']}, {part['split']}), k = {part['k']}"
        columns = ["program", f"{metric} (95 %)", "score", "compliance", "evidence", "calls", "tokens an answer"]
        lines += ["", f"## {name}: {users}", "", _line(columns), _line(["---"] * len(columns))]
        for program, entry in part["programs"].items():
            one = part["per_answer"][program]
            cells = [program, _said(entry["metrics"][metric]), f"{one['score']['value']:.3f}"]
            cells += [_percent(entry["compliance"]), _percent(entry["evidence_validity"])]
            lines.append(_line([*cells, f"{one['calls']:g}", f"{one['completion_tokens']:.0f}"]))
        file = "program.json" if len(done["tasks"]) == 1 else f"program-{name}.json"
        command = f"python cli.py evaluate --task {name} --program RUN/{file} --model hf:RUN/model --ablate"
        command += f" --carrier {done['carrier']}" if done["carrier"] != "fields" else ""
        lines += ["", f"    {command}", "", "(its `r2p:template` is one call without corrections, as here)"]
    lines += ["", "![learning curves](curves.png)", ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _scores(task: Task, rows: Sequence[Row]) -> list[float]:
    """The task's own score of each answer, in [0, 1]."""
    metric = METRICS[task.metrics[0]]
    return [metric.score(row["answer"], row["gold"], task.labels) for row in rows]


def _said(found: Mapping[str, float], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _rounded(values: Sequence[float]) -> float:
    held = [value for value in values if not math.isnan(value)]
    return round(sum(held) / len(held), 4) if held else 0.0
