"""Programs of several runs on the same examples: `python -m benchmarks.compare TASK NAME=ROWS.jsonl …`.

The files are those of a run's `results/`. Prints each program's metrics, and how much it exceeds each earlier one,
paired by example, with 95 % intervals over users. Only the examples that all programs answered are compared.
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from metrics.intervals import Interval, of_differences, of_metric
from programs.evaluate.report import answer_of, scored
from programs.tasks.task_file import task_of

Row = dict[str, Any]


@click.command(help=__doc__)
@click.argument("task")
@click.argument("programs", nargs=-1, required=True, metavar="NAME=FILE…")
@click.option("--digits", type=int, help="An id without its last N digits names its user; default: one user a row.")
def main(task: str, programs: tuple[str, ...], digits: int | None) -> None:
    chosen = task_of(task)
    rows = {name: _read(Path(path)) for name, path in (program.split("=", 1) for program in programs)}
    ids = [each for each in next(iter(rows.values())) if all(each in answered for answered in rows.values())]
    users = [each[:-digits] for each in ids] if digits else ids
    golds = [next(iter(rows.values()))[each]["gold"] for each in ids]
    answers = {name: [answer_of(answered[each]) for each in ids] for name, answered in rows.items()}
    click.echo(f"{len(ids)} examples of {len({*users})} users")
    for metric in map(chosen.metric, chosen.metrics):
        labels = chosen.labels or sorted({*golds})
        for name, given in answers.items():
            click.echo(f"{metric.name:12} {name:24} {_text(of_metric(metric, given, golds, labels, users=users))}")
        differences = of_differences(metric, answers, golds, labels, answers, users=users)
        for base, name in combinations(answers, 2):
            click.echo(f"{metric.name:12} {name} - {base}: {_text(differences[base][name])}")


def _read(path: Path) -> dict[str, Row]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in scored([json.loads(line) for line in lines])}


def _text(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    main()
