"""Writing report.html of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from programs.report_html.embedding import json_block
from programs.report_html.examples import blocks_of, index_of, titles_of
from programs.report_html.figures import figures, more_figures
from programs.report_html.rendering import rendered
from programs.report_html.run_files import is_redacted, measured
from programs.report_html.sweep import sweep_tasks
from programs.report_html.tables import differences, results, violations
from programs.runs.directory import read_json
from r2p_dspy.files import write_atomic

PAGE = "report.html"
_FACTS = ("data", "split", "examples", "lm", "retriever", "k", "temperature", "constrain", "seed", "version")
_FINETUNE_FACTS = ("method", "carrier", "kept")


def write_page(directory: Path, report: Mapping[str, Any] | None = None) -> Path:
    """Write a finished run's report.html, from the files of the run; a page that is there is replaced.

    Args:
        directory: the run's.
        report: what is in its report.json, if it has been read already.

    Returns:
        The page's path.

    Raises:
        RunError: the run's files cannot be read.
    """
    report = report or read_json(directory / "report.json")
    page = directory / PAGE
    write_atomic(page, _sweep(report) if report["command"] == "sweep" else _run(directory, report), private=True)
    return page


def _run(directory: Path, report: Mapping[str, Any]) -> str:
    redact = is_redacted(directory)
    tasks, blocks, index = [], list[Markup](), list[dict[str, Any]]()
    for task in measured(directory, report):
        if not task.report["programs"]:
            continue
        entry = index_of(task, len(blocks), redact=redact)
        packed = [] if redact else [*blocks_of(task)]
        index.append({**entry, "titles": titles_of(task) if packed else [], "packed": bool(packed)})
        blocks += packed
        tasks.append(
            {
                "name": task.report["task"],
                "facts": {name: task.report[name] for name in _FACTS if task.report.get(name) is not None},
                "notes": _notes(task.report),
                "results": results(task.report),
                "differences": [*differences(task.report)],
                "violations": violations(task.report),
                "figures": [*figures(task.report)],
                "more_figures": [*more_figures(task.report)],
            }
        )
    facts = {name: report[name] for name in _FINETUNE_FACTS if report.get(name) is not None}
    return rendered(
        "run.html",
        command=report["command"],
        title=" · ".join(task["name"] for task in tasks) or report.get("task", directory.name),
        facts=facts,
        seconds=report["seconds"],
        tasks=tasks,
        unmeasured=report.get("unmeasured", {}),
        redacted=redact,
        index=json_block(index),
        blocks=blocks,
    )


def _sweep(report: Mapping[str, Any]) -> str:
    models = {name: str(model) for name, model in report["models"].items()}
    return rendered(
        "sweep.html",
        command="sweep",
        title=" · ".join(report["tasks"]),
        seconds=report["seconds"],
        facts={name: report[name] for name in ("retriever", "seed") if report.get(name) is not None},
        models=models,
        tasks=sweep_tasks(report),
    )


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = [*report.get("warnings", ())]
    if shared := report.get("shared_users"):
        notes.append(f"users that training and test share: {shared if isinstance(shared, int) else len(shared)}")
    compiling = report.get("compiling", {})
    if compiling.get("winner") and compiling.get("dev_scores"):
        scores = ", ".join(f"{name} {score}" for name, score in compiling["dev_scores"].items())
        notes.append(f"compiling with {compiling['optimizer']}: {compiling['winner']} won on dev ({scores})")
    if "tuning" in report:
        notes.append(f"tuning chose: {report['tuning']['winner']}")
    notes += [f"{name} cannot run here: {reason}" for name, reason in report.get("not_runnable", {}).items()]
    return notes
