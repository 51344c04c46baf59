"""What a person sees: progress while a command works, one table at its end."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metrics.intervals import Interval
from programs.data.personas import MAKERS
from programs.evaluate import published
from programs.optimize.estimate import in_words
from programs.runs.reporter import Reporter
from programs.tasks import TASKS
from programs.tasks.task import Task
from programs.text import one_line
from programs.ui.terminal import Line, call_lines, moves, output, print_lines
from programs.ui.terminal import table as new_table
from programs.ui.tuning_table import print_tuning

_BARS = 12  # finished programs that a terminal still shows
_EVERY = 30.0  # seconds between two lines of progress where no bar can be drawn


class Console(Reporter):
    """Progress bars on a terminal, plain lines elsewhere.

    Args:
        verbose: also tell what the optimizer does, and show the first prompt of each program with its answer.
    """

    def __init__(self, verbose: bool = False):
        self.verbose = verbose
        if not verbose:  # DSPy tells of every truncated answer and every evaluation; the report counts them
            logging.getLogger("dspy").setLevel(logging.ERROR)
        self.terminal = Terminal(stderr=True)
        self.moves = moves(self.terminal)
        self.bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.terminal,
            disable=not self.moves,
        )

    def __enter__(self) -> "Console":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        if not self.moves:
            before = f", {done} of them done before" if done else ""
            self.terminal.print(f"{name}: {total} {unit}{before}", markup=False)
            return self._lines(name, total, done)
        for old in [task for task in self.bars.tasks if task.finished][:-_BARS]:
            self.bars.update(old.id, visible=False)
        bar = self.bars.add_task(name, total=total, completed=done)
        return lambda: self.bars.advance(bar)

    def _lines(self, name: str, total: int, done: int) -> Callable[[], None]:
        """Progress where no bar can be drawn: a line every now and then."""
        told = time.monotonic()

        def tick() -> None:
            nonlocal done, told
            done += 1
            if time.monotonic() - told >= _EVERY:
                told = time.monotonic()
                self.terminal.print(f"{name}: {done} of {total}", markup=False)

        return tick

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        if self.verbose:
            print_lines(call_lines(name, messages, answer), self.terminal)

    def say(self, line: str) -> None:
        if self.verbose or not line.startswith(
            ("Bootstrapped", "Average", "Scores so far", "Best score", "Going", "Will")
        ):
            print_lines([Line(one_line(line), "dim")], self.terminal)  # an optimizer's lines hold what a model wrote

    def table(self, report: dict[str, Any], directory: Path) -> None:
        """The report as one table on stdout, and where to find more."""
        out = output()
        if report["programs"]:
            self._programs(out, report)
        _print_calls(out, report)
        out.print(f"{report['seconds']:.0f} s; everything is in {directory}", soft_wrap=True, markup=False)

    def _programs(self, out: Terminal, report: dict[str, Any]) -> None:
        first = next(iter(report["programs"].values()))
        title = (
            f"{report['task']} · {report['data']} · {report['examples']} examples · {report['lm']} · k={report['k']}"
        )
        table = new_table(title=escape(title))
        table.add_column("program", no_wrap=True)
        for name in first["metrics"]:
            table.add_column(f"{name} (95 %)", justify="right", no_wrap=True)
        judged = report.get("judge", {}).get("programs", {})
        if judged:
            table.add_column("judge (95 %)", justify="right", no_wrap=True)
        for column in (
            "compliance first/final",
            "evidence first/final",
            "unparsed",
            "calls",
            "tokens in/out",
            "seconds",
        ):
            table.add_column(column, justify="right")
        ablated = "differences" in report
        if ablated:
            table.add_column("tokens for a compliant answer", justify="right")
        for name, entry in report["programs"].items():
            table.add_row(
                name,
                *map(_interval, entry["metrics"].values()),
                *([_interval(judged[name])] if judged else []),
                _pair(entry["compliance_first"], entry["compliance"]),
                _pair(entry["evidence_validity_first"], entry["evidence_validity"]),
                str(entry["parse_failures"]),
                str(entry["calls"]),
                f"{entry['tokens']['prompt']}/{entry['tokens']['completion']}",
                f"{entry['seconds']:.0f}",
                *([_or_dash(entry["tokens_per_compliant"])] if ablated else []),
            )
        out.print(table)
        name = next(iter(first["metrics"]))
        out.print(f"floors ({name}): " + ", ".join(f"{floor} {value:.3f}" for floor, value in first["floors"].items()))
        if "per_user" in first:
            means = ", ".join(
                f"{one} {_interval(entry['per_user'][name])}" for one, entry in report["programs"].items()
            )
            out.print(f"{name}, mean of the means of {first['users']} users (95 %): {means}")
        if "judge" in report:
            _print_judge(out, report["judge"])
        for base, others in report.get("differences", {}).items():
            out.print(f"{name}, paired difference to {base} (95 %): " + "; ".join(map(_difference, others.items())))
        for program, why in report.get("not_runnable", {}).items():
            out.print(f"{program} is not runnable here: {why}", markup=False)
        if "tuning" in report:
            print_tuning(out, report["tuning"])
        if report.get("compiling", {"optimizer": "none"})["optimizer"] != "none":
            done = report["compiling"]
            scores = ", ".join(f"{one} {score}" for one, score in done["dev_scores"].items())
            none = "no candidate was rated" if "stopped" in done else "no training example passes the gate"
            won = f"won on dev ({scores})" if scores else f"stays: {none}"
            out.print(f"compiling: the {done['winner']} program {won}")
            if metric := done.get("metric"):
                parts = ", ".join(f"{part} {weight:g}" for part, weight in metric["weights"].items())
                out.print(f"score: {parts} ({metric['task']}; an answer passes from {metric['threshold']:g})")
            if failed := {what: count for what, count in done.get("failures", {}).items() if count}:
                out.print(
                    "failed while compiling, each scored 0: " + ", ".join(f"{n} of the {w}" for w, n in failed.items())
                )


def _print_calls(out: Terminal, report: dict[str, Any]) -> None:
    """What was estimated and what it took, where the budget ended it, and what was spent."""
    for name, why in report.get("unmeasured", {}).items():
        out.print(f"{name} is not measured: {why}", markup=False)
    stopped = report.get("compiling", {}).get("stopped")
    if stopped:
        out.print(f"compiling stopped: {stopped}; program.json holds the best so far", markup=False)
    plan = report.get("plan", {})
    if plan.get("estimate"):
        out.print(f"estimated {in_words(plan['estimate'])}; took {in_words(plan['actual'])}", markup=False)
    calls = report.get("calls", {})
    if calls.get("latency"):
        spent, replayed, late = calls["spent"], calls["replayed"]["calls"], calls["latency"]
        price = f", ${spent['cost_usd']:,.2f}" if spent["cost_usd"] else ""
        again = f"; {replayed:,} more were answered from earlier ones" if replayed else ""
        out.print(
            f"spent: {spent['calls']:,} calls, {sum(spent['tokens'].values()):,} tokens{price}{again}; "
            f"a call took {late['mean']:.2f} s, 95 % of them up to {late['p95']:.2f} s",
            markup=False,
        )


def _print_judge(out: Terminal, judge: dict[str, Any]) -> None:
    for pair, found in judge["pairwise"].items():
        place = "" if found["first_place"] is None else f", the first place {100 * found['first_place']:.0f} %"
        out.print(f"judge, {pair}: wins {_interval(found)}, ties {100 * found['ties']:.0f} %{place}")
    tokens = f"{judge['tokens']['prompt']}/{judge['tokens']['completion']}"
    out.print(f"judge {judge['lm']}: {judge['calls']} calls, tokens in/out {tokens}, {judge['seconds']:.0f} s")


def _interval(found: dict[str, float]) -> str:
    return f"{found['value']:.3f} \\[{found['low']:.3f}, {found['high']:.3f}]"


def _pair(first: float | None, final: float | None) -> str:
    return "–" if first is None or final is None else f"{100 * first:.1f} / {100 * final:.1f} %"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _difference(named: tuple[str, dict[str, float]]) -> str:
    name, found = named
    return f"{name} {found['value']:+.3f} \\[{found['low']:+.3f}, {found['high']:+.3f}]"


def print_scores(task: Task, examples: int, scores: dict[str, Interval]) -> None:
    """What a file of predictions scores."""
    table = new_table("metric", "value (95 %)", title=f"{task.name} ({task.lamp}), {examples} examples")
    for name, interval in scores.items():
        table.add_row(name, _interval(interval._asdict()))
    output().print(table)


def print_tasks() -> None:
    """The tasks, with metric, floor, what others report, and where there is data."""
    from programs.data.at_hand import ROOTS, folders
    from programs.data.dataset import personas
    from programs.evaluate.report import floors

    table = new_table("task", "LaMP", "what", "metrics", "best trivial floor\n(persona world)")
    table.add_column(f"published (LaMP, k={published.K})", no_wrap=True)
    table.add_column("data at hand", overflow="fold")
    for task in TASKS.values():
        known = task.name in MAKERS
        best = "–"
        if known:
            made = personas(task, seed=0, limit=200)
            found = {name: v for name, v in floors(task, made.test, made.train).items() if name != "blind_oracle"}
            pick = (min if task.metrics[0] in ("mae", "rmse") else max)(found, key=found.__getitem__)
            best = f"{pick} {found[pick]:.3f}"
        here = ["persona world"] * known + [f"--data {folder}" for folder in folders(task, *ROOTS)]
        reported = "\n".join(published.lines(published.published(task.name))) or "–"
        what = (task.signature.__doc__ or "").strip().splitlines()[0]
        table.add_row(task.name, task.lamp, what, ", ".join(task.metrics), best, reported, "\n".join(here) or "none")
    output().print(table)
