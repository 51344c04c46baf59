"""`sweep`: every task with every model and every amount of history, in one run directory with one report.

A cell is one task, model and k: an evaluation of its own, in a directory of its own. Cells of a task have the same
users, and for one k the same items, so the sweep compares them in pairs.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from programs.data.at_hand import folders
from programs.data.dataset import check_known
from programs.evaluate import judge as judging
from programs.evaluate.published import comparable
from programs.evaluate.report import Row, differences
from programs.evaluate.run import evaluate
from programs.evaluate.setup import Setup
from programs.report_html.page import write_page
from programs.runs.configs import EvaluateConfig, SweepConfig
from programs.runs.directory import SKIPPED_LATER, Run
from programs.runs.reporter import Reporter
from programs.runs.skips import with_earlier_skips
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy.engines.connect import check_name, in_process
from r2p_dspy.errors import ConfigError

BASES = ("predict", "cot")  # the programs that a cell's other programs are compared with


@dataclass(frozen=True)
class Cell:
    """The measurements of one model at one k of a task."""

    model: str  # its short name
    k: int
    directory: str  # below the sweep's
    report: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]]  # by program, in the order of the examples


def run_sweep(config: SweepConfig, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Evaluate every model at every k on every task, and compare.

    Args:
        config: what to evaluate.
        output: the run's directory. A cell's directory is TASK/NUMBER-MODEL/kK in it.
        resume: go on with the run that is there. The examples of `--skip` are left out from now on, of every task that
            has them.
        reporter: shows progress.

    Returns:
        The report: the models by their short names, and for each task what `compare` returns.

    Raises:
        R2PError: one line on what is wrong with the options, before anything is written. A model that cannot be
            loaded is reported when its turn comes.
        LMError: what a language model raises. What was measured until then is kept.
    """
    started = time.monotonic()
    skipped: list[str] = []
    if resume:
        earlier, skipped = with_earlier_skips(config.base, output)
        config = replace(config, base=earlier)
    base = config.base
    if base.program.r2p.retriever == "all" and len(config.ks) > 1:
        raise ConfigError("the retriever 'all' shows every item, whatever k is; give one --k, or another --retriever")
    named = short_names(config.models)
    # Only served models have an address. If none is served, an address is a mistake, and `check_name` says so.
    addresses = {model: base.model.api_base for model in config.models if not in_process(model)}
    for model in config.models:
        check_name(model, addresses.get(model) if addresses else base.model.api_base)
    setups = _setups(config, reporter)
    check_known(skipped, *(setup.data for _, setup in setups))
    cells: dict[str, list[Cell]] = {setup.task.name: [] for _, setup in setups}
    with Run(output, {"command": "sweep", **config.options(), SKIPPED_LATER: skipped}, resume) as run:
        for number, (label, model) in enumerate(named.items(), start=1):
            of_model = [(cell.with_model(model, addresses.get(model)), setup) for cell, setup in setups]
            folder = f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '-', label)[-60:]}"
            for name, cell in _measure(label, of_model, run.path, folder, reporter, skipped):
                cells[name].append(cell)
        tasks = {setup.task.name: setup.task for _, setup in setups}
        report: dict[str, Any] = {
            "command": "sweep",
            "models": named,
            "ks": [*config.ks],
            "retriever": base.program.r2p.retriever,
            "retriever_tokens": base.program.retriever_tokens,
            "seed": base.seed,
            "tasks": {name: compare(tasks[name], measured) for name, measured in cells.items()},
            "seconds": round(time.monotonic() - started, 1),
        }
        reporter.finish(report, run.path)
        run.finish(report)
        write_page(run.path, report)
    return report


def compare(task: Task, cells: Sequence[Cell]) -> dict[str, Any]:
    """One task's part of the report: its data and baselines, published results, the cells, and their differences.

    Differences are in the task's first metric, paired by example, with 95 % intervals: `between_models` of each model
    to each earlier one, `between_programs` of each program to plain prediction and to chain of thought.
    """
    first = cells[0].report
    return {
        **{key: first[key] for key in ("task", "data", "split", "examples", "shared_users", "skipped")},
        "metric": task.metrics[0],
        "warnings": [*dict.fromkeys(line for cell in cells for line in cell.report.get("warnings", ()))],
        "baselines": next(iter(first["programs"].values()))["baselines"],
        "published": comparable(task, first["split"], first["data"]),
        "cells": [
            {"model": cell.model, "lm": cell.report["lm"], "k": cell.k, "directory": cell.directory}
            | {name: cell.report[name] for name in ("not_runnable", "programs", "judge") if name in cell.report}
            for cell in cells
        ],
        "between_models": [*_between_models(task, cells)],
        "between_programs": [*_between_programs(task, cells)],
    }


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The models by the short names that tables and figures have room for; a repeated model counts once.

    Examples:
        >>> short_names(["pocket", "hf:checkpoints/first", "openai/gpt-4o-mini"])
        {'pocket': 'pocket', 'hf:first': 'hf:checkpoints/first', 'openai/gpt-4o-mini': 'openai/gpt-4o-mini'}
        >>> list(short_names(["hf:a/last", "hf:b/last", "gguf:a/small.gguf"]))
        ['hf:a/last', 'hf:b/last', 'gguf:small.gguf']
    """
    models = list(dict.fromkeys(models))
    short = [_without_folders(model) for model in models]
    return {
        name if short.count(name) == 1 and name not in models else model: model
        for name, model in zip(short, models, strict=True)
    }


def _without_folders(model: str) -> str:
    kind, colon, path = model.partition(":")
    name = Path(path).name if kind in ("hf", "gguf") else ""
    return f"{kind}{colon}{name}" if name else model


class _CellReporter(Reporter):
    """Puts the cell's name before the names of its programs."""

    def __init__(self, cell: str, reporter: Reporter):
        self.cell, self.reporter = cell, reporter

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        return self.reporter.start(f"{self.cell} {name}", total, done, unit)

    def say(self, line: str) -> None:
        self.reporter.say(f"{self.cell} {line}")

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        self.reporter.call(f"{self.cell} {name}", messages, answer)

    def finish(self, report: Mapping[str, Any], directory: Path) -> None:
        self.reporter.finish(report, directory)


def _setups(config: SweepConfig, reporter: Reporter) -> list[tuple[EvaluateConfig, Setup]]:
    """The configs of every task and k, with what they measure; refuses what cannot be run."""
    setups: list[tuple[EvaluateConfig, Setup]] = []
    files: dict[str, str] = {}
    for file in config.tasks:
        task, base = task_of(file), config.base
        if files.setdefault(task.name, file) != file:
            raise ConfigError(f"{files[task.name]} and {file} are two tasks named {task.name!r}; rename one")
        base = base.with_task(file, _folder(base.data.source, task, len(config.tasks) > 1))
        data = None
        for cell in map(base.with_k, config.ks):
            setups.append((cell, Setup.of(cell.program, cell.data, reporter, read=data)))
            data = setups[-1][1].data
        judging.connected(task, base.judge)
    return setups


def _folder(data: str | None, task: Task, several: bool) -> str | None:
    """Where a task's data are: as given, or for several tasks the one directory in there that has its files."""
    if data is None or not several:
        return data
    holding = folders(task, Path(data))
    if len(holding) != 1:
        which = f" ({', '.join(map(str, holding))})" if holding else ""
        raise ConfigError(
            f"{data} holds {len(holding)} directories with the files of {task.shape or task.name}{which}; for several "
            "tasks, it must hold exactly one for each"
        )
    return str(holding[0])


def _measure(
    label: str,
    cells: Sequence[tuple[EvaluateConfig, Setup]],
    root: Path,
    folder: str,
    reporter: Reporter,
    skipped: Sequence[str],
) -> Iterator[tuple[str, Cell]]:
    """The cells of one model, which is loaded once and released before the next one is loaded."""
    lm = cells[0][0].connect(max(setup.tokens_needed() for _, setup in cells))
    for config, setup in cells:
        name, k = setup.task.name, config.program.r2p.k
        directory = root / name / folder / f"k{k}"
        # A finished cell is opened again: its model is compared, and its report is written anew.
        (directory / "report.json").unlink(missing_ok=True)
        resume, own = (directory / "config.json").exists(), _CellReporter(f"{name} · {label} · k={k}", reporter)
        left_out = [row for row in skipped if row in setup.data.ids]
        report, rows = evaluate(config, setup, lm, directory, resume, own, skipped=left_out)
        yield name, Cell(label, k, str(directory.relative_to(root)), report, rows)


def _between_models(task: Task, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for base, other in combinations(cells, 2):
        if base.model == other.model or base.k != other.k:
            continue
        for program in other.rows:
            if program in base.rows:
                both = {base.model: base.rows[program], other.model: other.rows[program]}
                ((_, difference),) = differences(task, both, base.model).items()
                yield {"k": base.k, "program": program, "model": other.model, "to": base.model, **difference}


def _between_programs(task: Task, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for base in BASES:
            for program, difference in differences(task, cell.rows, base).items() if base in cell.rows else ():
                if program != BASES[0]:
                    yield {"k": cell.k, "model": cell.model, "program": program, "to": base, **difference}
