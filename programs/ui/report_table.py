"""A report on the terminal: one table with a row per program, and what it leaves out in lines below it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metrics.intervals import Interval
from programs.evaluate.ablation import FULL, TEMPLATE
from programs.optimize.estimate import in_words
from programs.tasks.task import Task
from programs.text import one_line
from programs.ui.terminal import Line, interval_text, output, print_lines
from programs.ui.terminal import table as new_table
from programs.ui.tuning_table import print_tuning

Report = Mapping[str, Any]


def print_report(report: Report, directory: Path) -> None:
    """Print a report to stdout as one table and a few lines, the last of which says where everything is.

    Args:
        report: of `report.build_report`.
        directory: the run's directory.
    """
    if report["programs"]:
        output().print(_table(report))
        _print(_comparisons(report))
        if "tuning" in report:
            print_tuning(report["tuning"])
        _print(_compiling(report.get("compiling", {})))
    _print(_calls(report))
    _print([f"{report['seconds']:.0f} s; everything is in {directory}"])


def print_scores(task: Task, examples: int, scores: Mapping[str, Interval]) -> None:
    """Print what a file of predictions scores to stdout.

    Args:
        task: the task.
        examples: how many examples were scored.
        scores: each metric with its 95 % interval.
    """
    table = new_table("metric", "value (95 %)", title=f"{task.name} ({task.lamp}), {examples} examples")
    for name, interval in scores.items():
        table.add_row(name, escape(interval_text(interval._asdict())))
    output().print(table)


def _print(lines: Iterable[str]) -> None:
    print_lines(Line(one_line(line)) for line in lines)


def _table(report: Report) -> Table:
    first = next(iter(report["programs"].values()))
    judged = report.get("judge", {}).get("programs", {})
    facts = (report["task"], report["data"], f"{report['examples']} examples", report["lm"], f"k={report['k']}")
    table = new_table(title=escape(" · ".join(facts)))
    table.add_column("program", no_wrap=True)
    for name in [*first["metrics"], *(["judge"] if judged else [])]:
        table.add_column(f"{name} (95 %)", justify="right", no_wrap=True)
    columns = ["compliance first/final", "evidence first/final", "unparsed", "calls", "tokens in/out", "seconds"]
    for column in [*columns, *(["tokens for a compliant answer"] if _ablated(report) else [])]:
        table.add_column(column, justify="right")
    for name, entry in report["programs"].items():
        intervals = [*entry["metrics"].values(), *([judged[name]] if judged else [])]
        table.add_row(
            name,
            *(escape(interval_text(interval)) for interval in intervals),
            _percentages(entry["compliance_first"], entry["compliance"]),
            _percentages(entry["evidence_validity_first"], entry["evidence_validity"]),
            str(sum(entry["parse_failures"].values())),
            str(entry["calls"]),
            f"{entry['tokens']['prompt']}/{entry['tokens']['completion']}",
            f"{entry['seconds']:.0f}",
            *([_or_dash(entry["tokens_per_compliant"])] if _ablated(report) else []),
        )
    return table


def _ablated(report: Report) -> bool:
    return "not_runnable" in report


def _comparisons(report: Report) -> Iterator[str]:
    """What the programs are compared with: trivial baselines, users' means, a judge, each other."""
    programs = report["programs"]
    first = next(iter(programs.values()))
    metric = next(iter(first["metrics"]))
    baselines = ", ".join(f"{name} {value:.3f}" for name, value in first["baselines"].items())
    yield f"trivial baselines ({metric}): {baselines}"
    if "per_user" in first:
        means = ", ".join(f"{name} {interval_text(entry['per_user'][metric])}" for name, entry in programs.items())
        yield f"{metric}, mean of the means of {first['users']} users (95 %): {means}"
    if "judge" in report:
        yield from _judge(report["judge"])
    for base in (TEMPLATE, FULL) if _ablated(report) else ():
        if base in report["differences"]:
            differences = "; ".join(
                f"{name} {interval_text(by_metric[metric], '+')}"
                for name, by_metric in report["differences"][base].items()
            )
            yield f"{metric}, paired difference to {base} (95 %): {differences}"
    for program, reason in report.get("not_runnable", {}).items():
        yield f"{program} cannot run here: {reason}"


def _judge(judge: Mapping[str, Any]) -> Iterator[str]:
    for pair, result in judge["pairwise"].items():
        first = "" if result["first_place"] is None else f", the first place {100 * result['first_place']:.0f} %"
        yield f"judge, {pair}: wins {interval_text(result)}, ties {100 * result['ties']:.0f} %{first}"
    tokens = f"{judge['tokens']['prompt']}/{judge['tokens']['completion']}"
    yield f"judge {judge['lm']}: {judge['calls']} calls, tokens in/out {tokens}, {judge['seconds']:.0f} s"


def _compiling(compiling: Mapping[str, Any]) -> Iterator[str]:
    """Which program won on dev, by what score, and what failed."""
    if compiling.get("optimizer", "none") == "none":
        return
    scores = ", ".join(f"{name} {score}" for name, score in compiling["dev_scores"].items())
    none = "no candidate was rated" if "stopped" in compiling else "no training example passes the gate"
    result = f"won on dev ({scores})" if scores else f"stays: {none}"
    yield f"compiling: the {compiling['winner']} program {result}"
    if metric := compiling.get("metric"):
        parts = ", ".join(f"{part} {weight:g}" for part, weight in metric["weights"].items())
        yield f"score: {parts} ({metric['task']}; an answer passes from {metric['threshold']:g})"
    failures = {what: count for what, count in compiling.get("failures", {}).items() if count}
    if failures:
        counts = ", ".join(f"{count} of the {what}" for what, count in failures.items())
        yield f"failed while compiling, each scored 0: {counts}"


def _calls(report: Report) -> Iterator[str]:
    """Where the budget ended the run, what was estimated, and what was used."""
    for name, reason in report.get("unmeasured", {}).items():
        yield f"{name} was not measured: {reason}"
    if stopped := report.get("compiling", {}).get("stopped"):
        yield f"compiling stopped: {stopped}; program.json holds the best program so far"
    plan = report.get("plan", {})
    if plan.get("estimate"):
        yield f"estimated {in_words(plan['estimate'])}; took {in_words(plan['actual'])}"
    calls = report.get("calls", {})
    if calls.get("latency"):
        spent, replayed, latency = calls["spent"], calls["replayed"]["calls"], calls["latency"]
        price = f", ${spent['cost_usd']:,.2f}" if spent["cost_usd"] else ""
        cached = f"; {replayed:,} more came from the cache" if replayed else ""
        yield (
            f"used: {spent['calls']:,} calls, {sum(spent['tokens'].values()):,} tokens{price}{cached}; "
            f"a call took {latency['mean']:.2f} s, 95 % of the calls at most {latency['p95']:.2f} s"
        )


def _percentages(first: float | None, final: float | None) -> str:
    return "–" if first is None or final is None else f"{100 * first:.1f} / {100 * final:.1f} %"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
