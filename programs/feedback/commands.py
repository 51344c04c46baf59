"""`python cli.py data from-feedback`: make rows of what users said of a service's answers."""

from contextlib import closing
from pathlib import Path

import click

from programs.feedback.opening import existing_answers
from programs.tasks.task_file import task_of
from r2p_dspy.errors import DataError
from r2p_dspy.stores import open_store

_STORE = "Read from this store, which the service has: sqlite:///FILE or postgresql+psycopg://…"
_SPLIT = "Report on other users than those to train on (user), or on everybody's last answer (time)."


@click.command("from-feedback")
@click.option("--store", metavar="URL", required=True, envvar="R2P_STORE", show_envvar=True, help=_STORE)
@click.option("--task", required=True, help="Take the answers of this task, a name or a task file.")
@click.option("--output", metavar="DIR", required=True, help="Write the files into this new directory.")
@click.option("--split", type=click.Choice(["user", "time"]), default="user", show_default=True, help=_SPLIT)
def from_feedback_command(store: str, task: str, output: str, split: str) -> None:
    """Make data from the feedback on a service's answers.

    An edited text is the right answer; an answer that was accepted, or rated 4 or 5, is right too. Rows go to
    train.jsonl and dev.jsonl, with the history that the user had then. pairs.jsonl has preference pairs, of users to
    train on: the right answer beside the one that was given.
    """
    known, answers = task_of(task), existing_answers(store)
    if answers is None:
        raise DataError(f"no service has kept answers beside {store}; start one with --store {store}")
    from programs.feedback.rows import rows_of

    with closing(answers), closing(open_store(store)) as opened:
        made = rows_of(known, answers, opened, split)  # type: ignore[arg-type]  # click allows no other
    made.write(Path(output))
    counts = f"{len(made.train):,} rows to train on, {len(made.dev):,} to report, {len(made.pairs):,} preference pairs"
    click.echo(f"{output}: {counts}")
    if made.left_out:
        click.echo(f"left out: {', '.join(f'{count:,} {why}' for why, count in made.left_out.items())}")
    click.echo(f"next: python cli.py compile --task {task} --data {output}")
