"""The sweep: every task with every model and every amount of history, in one run directory with one report.

A cell is one task, model and k: an evaluation as it would be alone, in a directory of its own, on the same users as the
other cells of its task and, for one k, on the same items. So they can be compared in pairs, which is done here.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

from programs.data.at_hand import folders
from programs.data.dataset import Data
from programs.evaluate import judge as judging
from programs.evaluate.experiment import Experiment
from programs.evaluate.published import published
from programs.evaluate.report import Row, differences
from programs.evaluate.run import evaluate
from programs.runs.configs import Options
from programs.runs.directory import Run
from programs.runs.reporter import Reporter
from programs.tasks.program import resolved
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from programs.ui.plots import plot_sweep
from r2p_dspy.engines.connect import check_name, in_process
from r2p_dspy.errors import ConfigError

BASES = ("predict", "cot")  # what the other programs of a cell are compared with


@dataclass(frozen=True)
class Cell:
    """What was measured with one model at one k of a task.

    Args:
        model: its short name.
        k: how many items a prompt showed.
        directory: below the sweep's.
        report: as of an evaluation.
        rows: by program, in the order of the examples.
    """

    model: str
    k: int
    directory: str
    report: Mapping[str, Any]
    rows: Mapping[str, Sequence[Row]]


def run_sweep(
    options: Options,
    tasks: Sequence[str],
    models: Sequence[str],
    ks: Sequence[int | None],
    output: Path,
    resume: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    """Evaluate every model at every k on every task, and compare.

    Args:
        options: of every cell; its task, model and k are the cell's instead.
        tasks, models, ks: what is crossed; what stands twice counts once. Other models are compared with the first; a k
            of None is that of the options, or of the compiled program.
        output: the run's directory; a cell's is TASK/NUMBER-MODEL/kK in it, a task's figure is TASK.png.
        resume: whether to go on with a run that is there.
        reporter: who is told of progress.

    Returns:
        The report: the models by the short names that it has for them, and for each task what `compare` returns.

    Raises:
        ValueError: one line on what is wrong with the options, before anything is written; a model that cannot be
            loaded shows when its turn comes.
        Exception: what a language model raises; what was measured until then is kept.
    """
    started = time.monotonic()
    setting = resolved(options)[1]
    ks = sorted({setting.k if k is None else k for k in ks})
    if setting.retriever == "all" and len(ks) > 1:
        raise ConfigError("the retriever 'all' shows every item whatever k is; give one --k, or another --retriever")
    named = short_names(models)
    # The address is that of the models that are served; where none is, it is a mistake that is said.
    addresses = {model: options.api_base for model in models if not in_process(model)}
    for model in models:
        check_name(model, addresses.get(model) if addresses else options.api_base)
    settings, examples = _read(options, tasks, ks, reporter)
    asked = {"task": [*dict.fromkeys(tasks)], "model": [*named.values()], "k": ks}
    run = Run(output, {"command": "sweep", **options.asked(), **asked}, resume)
    cells: dict[str, list[Cell]] = {name: [] for name in settings}
    for number, (label, model) in enumerate(named.items(), start=1):
        own = {name: replace(one, model=model, api_base=addresses.get(model)) for name, one in settings.items()}
        place = f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '-', label)[-60:]}"
        for name, cell in _measure(label, own, examples, ks, run.path, place, reporter):
            cells[name].append(cell)
    done: dict[str, Any] = {
        "command": "sweep",
        "models": named,
        "ks": ks,
        "retriever": setting.retriever,
        "retriever_tokens": options.retriever_tokens,
        "seed": options.seed,
        "tasks": {name: compare(task_of(settings[name].task), found) for name, found in cells.items()},
        "seconds": round(time.monotonic() - started, 1),
    }
    for name, found in done["tasks"].items():
        plot_sweep(found, run.path / f"{name}.png")
    run.finish(done)
    return done


def compare(task: Task, cells: Sequence[Cell]) -> dict[str, Any]:
    """One task's part of the report.

    Args:
        task: whose first metric the differences are in.
        cells: on the same examples; those of the model that others are compared with come first.

    Returns:
        task, data, split, number of examples, metric, baselines, what others report for LaMP's dev set, the cells (each
        with its programs' entries, see `report.entry`, and with what the judge said, if one was asked), and two lists
        of differences, paired by example, with their 95 % intervals:

        - `between_models`: of each `model` to each one before it, for one `program` and `k`;
        - `between_programs`: of each `program` to plain prediction and to chain of thought, for one `model` and `k`.
    """
    first = cells[0].report
    return {
        **{key: first[key] for key in ("task", "data", "split", "examples", "shared_users", "skipped")},
        "metric": task.metrics[0],
        "baselines": next(iter(first["programs"].values()))["baselines"],
        "published": published(task.name) if task.lamp and first["split"] == "dev" else {},
        "cells": [
            {"model": cell.model, "lm": cell.report["lm"], "k": cell.k, "directory": cell.directory}
            | {name: cell.report[name] for name in ("not_runnable", "programs", "judge") if name in cell.report}
            for cell in cells
        ],
        "between_models": [*_between_models(task, cells)],
        "between_programs": [*_between_programs(task, cells)],
    }


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The models by the names that tables and figures have room for; what stands twice counts once.

    Example:
        >>> short_names(["pocket", "hf:checkpoints/first", "openai/gpt-4o-mini"])
        {'pocket': 'pocket', 'hf:first': 'hf:checkpoints/first', 'openai/gpt-4o-mini': 'openai/gpt-4o-mini'}
        >>> list(short_names(["hf:a/last", "hf:b/last"]))
        ['hf:a/last', 'hf:b/last']
    """
    models = list(dict.fromkeys(models))
    short = [f"hf:{Path(one[3:]).name}" if one.startswith("hf:") and Path(one[3:]).name else one for one in models]
    return {
        name if short.count(name) == 1 and name not in models else model: model
        for name, model in zip(short, models, strict=True)
    }


class _OfCell(Reporter):
    """Tells of a cell's programs with the cell's name before theirs."""

    def __init__(self, cell: str, reporter: Reporter):
        self.cell, self.reporter = cell, reporter

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        return self.reporter.start(f"{self.cell} {name}", total, done, unit)

    def say(self, line: str) -> None:
        self.reporter.say(f"{self.cell} {line}")

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        self.reporter.call(f"{self.cell} {name}", messages, answer)


def _read(
    options: Options, tasks: Sequence[str], ks: Sequence[int], reporter: Reporter
) -> tuple[dict[str, Options], dict[str, Data]]:
    """Each task's options and examples, by its name; what cannot be run at some k is refused."""
    settings: dict[str, Options] = {}
    examples: dict[str, Data] = {}
    for given in dict.fromkeys(tasks):
        task = task_of(given)
        if task.name in settings:
            raise ConfigError(f"{settings[task.name].task} and {given} are two tasks named {task.name!r}; rename one")
        settings[task.name] = replace(options, task=given, data=_folder(options.data, task, len(set(tasks)) > 1))
        for k in ks:
            experiment = Experiment("evaluate", replace(settings[task.name], k=k), reporter, examples.get(task.name))
            examples[task.name] = experiment.data
        judging.connected(task, options.judge, options.judge_api_base, options.seed)
    return settings, examples


def _folder(data: str | None, task: Task, several: bool) -> str | None:
    """Where a task's data are: as given, or for several tasks the one directory in there with its files."""
    if data is None or not several:
        return data
    found = folders(task, Path(data))
    if len(found) != 1:
        which = f" ({', '.join(map(str, found))})" if found else ""
        raise ConfigError(
            f"{data} holds {len(found)} directories with the files of {task.lamp or task.name}{which}; for several "
            "tasks it has to hold one of LaMP's each"
        )
    return str(found[0])


def _measure(
    label: str,
    settings: Mapping[str, Options],
    examples: Mapping[str, Data],
    ks: Sequence[int],
    root: Path,
    place: str,
    reporter: Reporter,
) -> Iterator[tuple[str, Cell]]:
    """The cells of one model, which is loaded once, and given back before the next one is."""
    experiments = {}  # kept to the end, and with them the model that they share
    for name, k in product(settings, ks):
        told = _OfCell(f"{name} · {label} · k={k}", reporter)
        experiment = experiments[name, k] = Experiment("evaluate", replace(settings[name], k=k), told, examples[name])
        directory = root / name / place / f"k{k}"
        # A cell that is done is looked at again: it must be of this very model, and its report is written anew.
        (directory / "report.json").unlink(missing_ok=True)
        with experiment.running(directory, (directory / "config.json").exists()):
            done = evaluate(experiment)
        yield name, Cell(label, k, str(directory.relative_to(root)), done, experiment.rows)


def _between_models(task: Task, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for base, other in combinations(cells, 2):
        if base.model == other.model or base.k != other.k:
            continue
        for program in other.rows:
            if program in base.rows:
                both = {base.model: base.rows[program], other.model: other.rows[program]}
                ((_, found),) = differences(task, both, base.model).items()
                yield {"k": base.k, "program": program, "model": other.model, "to": base.model, **found}


def _between_programs(task: Task, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for base in BASES:
            for program, found in differences(task, cell.rows, base).items() if base in cell.rows else ():
                if program != BASES[0]:
                    yield {"k": cell.k, "model": cell.model, "program": program, "to": base, **found}
