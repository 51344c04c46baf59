"""Data of real users, split by user: `python -m benchmarks.real_users SOURCE OUTPUT`.

LaMP's files that are split in time have the same users in train and dev. Here users are drawn for the report: of them
dev keeps the last question, and train loses all. Train gets the dev questions of the others too. A user is what the
rows' ids have in common but for their last digits, as in the files of `projects_LaMP6like`.
"""

import json
import random
from pathlib import Path
from typing import Any

import click

Row = dict[str, Any]


@click.command(help=__doc__)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--users", default=100, show_default=True, help="Report on this many users.")
@click.option("--digits", default=3, show_default=True, help="An id without its last N digits names its user.")
@click.option("--seed", default=0, show_default=True, help="Seed the draw of users.")
def main(source: Path, output: Path, users: int, digits: int, seed: int) -> None:
    parts = {name: _read(source, name) for name in ("train", "dev")}

    def user(row: Row) -> str:
        return str(row["id"])[:-digits]

    everyone = sorted({user(row) for row, _ in parts["dev"]})
    reported = {*random.Random(seed).sample(everyone, min(users, len(everyone)))}
    dev = [pair for pair in parts["dev"] if user(pair[0]) in reported]
    train = [pair for part in parts.values() for pair in part if user(pair[0]) not in reported]
    output.mkdir(parents=True, exist_ok=True)
    for name, pairs in (("train", train), ("dev", dev)):
        task = json.loads((source / f"{name}_outputs.json").read_text(encoding="utf-8"))["task"]
        answers = {"task": task, "golds": [gold for _, gold in pairs]}
        (output / f"{name}_questions.json").write_text(json.dumps([row for row, _ in pairs], ensure_ascii=False))
        (output / f"{name}_outputs.json").write_text(json.dumps(answers, ensure_ascii=False))
        click.echo(f"{name}: {len(pairs)} rows of {len({user(row) for row, _ in pairs})} users")


def _read(source: Path, name: str) -> list[tuple[Row, Row]]:
    questions = json.loads((source / f"{name}_questions.json").read_text(encoding="utf-8"))
    golds = json.loads((source / f"{name}_outputs.json").read_text(encoding="utf-8"))["golds"]
    by_id = {gold["id"]: gold for gold in golds}
    return [(row, by_id[row["id"]]) for row in questions]


if __name__ == "__main__":
    main()
