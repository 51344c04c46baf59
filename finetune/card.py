"""What a finished run shows: the tables on the terminal, the model's README, and the figure of the learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.report import points
from programs.ui.console import Console
from programs.ui.plots import new_figure, write_figure
from programs.ui.report_table import failed_line
from programs.ui.terminal import output

_WINDOW = 10  # steps over which a reward's line is averaged
_PARTS = ("task", "structure", "evidence", "consistency")


def print_report(report: Mapping[str, Any], directory: Path) -> None:
    """Print the report: a table for each task, what was gained, and where the model is."""
    out = output()

    def say(line: str) -> None:
        out.print(line, markup=False, highlight=False)

    for part in report["tasks"].values():
        Console().table(part, directory)
        for name, answer in part["per_answer"].items():
            line = f"{name}: score {_interval(answer['score'])}, {answer['calls']:g} calls and "
            line += f"{answer['completion_tokens']:.0f} tokens per answer"
            if (shares := part["to_teacher"].get(name)) and None not in shares.values():
                line += f" ({shares['score']:.1%} of the teacher's score, "
                line += f"{shares['completion_tokens']:.1%} of its tokens)"
            say(line)
        for name, gains in part["to_student"].items():
            differences = ", ".join(f"{metric} {_interval(gain, '+')}" for metric, gain in gains.items())
            say(f"{name} minus the untrained student, paired: {differences}")
        if traces := part["traces"]:
            say("traces: " + ", ".join(f"{count} {outcome}" for outcome, count in traces["rows"].items()))
    for name, training in report["trainings"].items():
        if "reward" in training:
            first, last = training["reward"]["first"], training["reward"]["last"]
            line = f"{name}: reward {first:.3f} to {last:.3f} in {training['steps']} steps, "
            line += f"{training['groups_without_spread']:.1%} of the groups without spread"
            if seconds := training["seconds"]:
                line += f", rewards took {seconds['rewards'] / seconds['all']:.1%} of the time"
            say(line)
    peak = f"; peak memory {report['peak_memory_gb']} GB" if report["peak_memory_gb"] else ""
    out.print(f"kept the model of {report['kept']} in {directory / 'model'}{peak}", soft_wrap=True, markup=False)


def failed_rows(report: Mapping[str, Any], directory: Path) -> str | None:
    """How many rows of all tasks failed, of traces and of programs, and the file that lists them; None if none did."""
    parts = report["tasks"].values()
    entries = [entry for part in parts for entry in (*part["programs"].values(), part["traces"] or {})]
    return failed_line({"programs": dict(enumerate(entries))}, directory)


def card(report: Mapping[str, Any]) -> str:
    """The README of a run: what the model is, what it was made from, what it reaches, and how to use it."""
    teacher = report["teacher"]
    lines = [
        f"# A student of {teacher['lm']}",
        "",
        f"`finetune` of r2p-dspy made this model from `{report['student']}` ({report['method']}). It reasons by R2P's",
        f"template on the carrier `{report['carrier']}`, in one call and without corrections. Its teacher was an R2P",
        f"program with {teacher['candidates']} candidates on `{teacher['model']}`. The model is that of",
        f"`{report['kept']}`, the best on dev.",
        "",
        "Traces, questions and samples in this directory hold texts from users' histories. Treat them accordingly.",
    ]
    for name, part in report["tasks"].items():
        metric = next(iter(next(iter(part["programs"].values()))["metrics"]))
        users = f"{part['examples']} unseen users ({part['data']}, {part['split']}), k = {part['k']}"
        columns = ["program", f"{metric} (95 %)", "score", "compliance", "evidence", "calls", "tokens per answer"]
        lines += ["", f"## {name}: {users}", "", _table_row(columns), _table_row(["---"] * len(columns))]
        for program, entry in part["programs"].items():
            answer = part["per_answer"][program]
            cells = [program, _interval(entry["metrics"][metric]), f"{answer['score']['value']:.3f}"]
            cells += [_percent(entry["compliance"]), _percent(entry["evidence_validity"])]
            lines.append(_table_row([*cells, f"{answer['calls']:g}", f"{answer['completion_tokens']:.0f}"]))
        file = "program.json" if len(report["tasks"]) == 1 else f"program-{name}.json"
        command = f"python cli.py evaluate --task {name} --program RUN/{file} --model hf:RUN/model --ablate"
        command += f" --carrier {report['carrier']}" if report["carrier"] != "fields" else ""
        lines += ["", f"    {command}", "", "Its `r2p:template` is one call without corrections, as in this table."]
    lines += ["", "![learning curves](curves.png)", ""]
    return "\n".join(lines)


def plot_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw the learning curves as PNG: for each training a panel, with the score on dev over loss or rewards."""
    figure = new_figure((7 * len(histories), 4.5))
    panels = figure.subplots(1, len(histories), squeeze=False)[0]
    for axes, (name, log) in zip(panels, histories.items()):
        steps, scores = points(log, "eval_score")
        axes.plot(steps, scores, "ko-", label="score on dev")
        _, compliance = points(log, "eval_compliance")
        axes.plot(steps, compliance, "k:", label="compliance on dev")
        if any("reward" in entry for entry in log):
            axes.plot(*_smooth(*points(log, "rewards/composite/mean")), label="reward")
            for part in _PARTS:
                axes.plot(*_smooth(*points(log, f"rewards/{part}/mean")), linewidth=0.8, alpha=0.7, label=part)
            axes.plot(*_smooth(*points(log, "frac_reward_zero_std")), "--", color="grey", label="groups without spread")
        else:
            loss_axes = axes.twinx()
            loss_axes.plot(*points(log, "loss"), color="C0", linewidth=0.8)
            loss_axes.set_ylabel("loss", color="C0")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(-0.05, 1.05)
        axes.legend(fontsize=7, loc="lower right")
    write_figure(figure, path)


def _smooth(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Running means."""
    means = [sum(values[max(0, end - _WINDOW) : end]) / min(end, _WINDOW) for end in range(1, len(values) + 1)]
    return [*steps], means


def _table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(value: Mapping[str, float], sign: str = "") -> str:
    return f"{value['value']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
