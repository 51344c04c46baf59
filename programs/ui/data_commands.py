"""`python cli.py data`: get LaMP's files, make data from git and mail, check files, show an example."""

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console as Terminal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from programs.data.fitting import task_for
from programs.data.getting import get as get_files
from programs.data.lamp import show
from programs.data.lamp.check import FolderCheck
from programs.data.lamp.official import By
from programs.data.makers.making import MakerConfig, counted
from programs.data.makers.sources import folder_of, from_git, from_mbox
from programs.data.makers.splitting import SplitConfig
from programs.feedback.commands import from_feedback_command
from programs.stores.commands import forget_command, import_command
from programs.tasks import TASKS
from programs.tasks.commits import TASK as COMMITS
from programs.tasks.task import Task
from programs.text import one_line
from programs.ui.errors import FAILED_ROWS
from r2p_dspy.errors import DataError

_SHOWN = {False: 20, True: 3}  # flaws, and notes, of one kind in one file that are listed without --all


@click.group()
def data() -> None:
    """Get and make data, check and show them; fill a store of histories, and forget a user."""


data.add_command(import_command)
data.add_command(forget_command)
data.add_command(from_feedback_command)


@data.command()
@click.argument("task")
@click.option(
    "--split",
    type=click.Choice(["time", "user"]),
    help="Choose the split by time (the same users, later) or by user (other users); LaMP-QA has one split.",
)
@click.option("--output", metavar="DIR", help="Set the directory of the files; default: lamp/TASK-SPLIT.")
@click.option("--test", is_flag=True, help="Also download the test set; LaMP keeps its golds.")
def get(task: str, split: By | None, output: str | None, test: bool) -> None:
    """Download the official files of TASK. The same command continues a download that was stopped."""
    directory = Path(output or f"lamp/{task}{'' if split is None else f'-{split}'}")
    terminal = Terminal(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bars: dict[str, Any] = {}
    with Progress(*columns, TimeRemainingColumn(), console=terminal, disable=not terminal.is_terminal) as progress:

        def tell(name: str, done: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
                if not terminal.is_terminal:
                    click.echo(f"{name}: {'' if total is None else f'{total:,} bytes '}from byte {done:,}", err=True)
            progress.update(bars[name], completed=done, total=total)

        files = get_files(_task(task), split, directory, test=test, progress=tell)
    done = f"{len(files)} files downloaded" if files else "all files were there before"
    click.echo(f"{directory}: {done}; next: python cli.py data check {directory}")


_MAKING = (
    click.option("--output", metavar="DIR", required=True, help="Write the files into this new directory."),
    click.option(
        "--split",
        type=click.Choice(["time", "user"]),
        default="time",
        show_default=True,
        help="Report on everybody's last message (time), or on other people than those to train on (user).",
    ),
    click.option(
        "--min-history",
        default=4,
        show_default=True,
        type=click.IntRange(1),
        help="Ask for a subject only after so many messages.",
    ),
    click.option(
        "--max-history",
        default=20,
        show_default=True,
        type=click.IntRange(1, 1000),
        help="Keep at most so many before it.",
    ),
    click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Leave out messages before this day."),
    click.option("--limit", type=click.IntRange(2), help="Keep at most so many people, drawn at random."),
    click.option("--salt", help="Hash people with this secret text, so that another run gives the same hashes."),
)


def _making(command: Any) -> Any:
    """Give a command the options of making data."""
    for option in reversed(_MAKING):
        command = option(command)
    return command


@data.command("from-git")
@click.argument("repositories", metavar="REPOSITORY...", nargs=-1, required=True)
@_making
def from_git_command(repositories: tuple[str, ...], output: str, **options: Any) -> None:
    """Make data from the commits of git repositories.

    The body of a message is the question, the author's earlier commits are the history, the subject is the answer.
    REPOSITORY is the folder of a git repository; what its HEAD reaches is read. Left out are merges, reverts, fixups,
    bots, trailers, links, e-mail addresses, messages of few words, and near-duplicates. The files have LaMP-6's shape.

    Authors are written as hashes, with a random salt that is not kept: two runs give other hashes, and with --limit
    other people. Names within the texts stay.
    """
    _make(from_git, repositories, output, "commits", "commits", options)


@data.command("from-mbox")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@_making
def from_mbox_command(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Make data from the e-mails of mbox files.

    The body of an e-mail is the question, the sender's earlier e-mails are the history, the subject is the answer.
    FILE is an mbox file. Left out are quoted texts, signatures, links, addresses, automatic e-mails, replies without a
    subject of their own, e-mails of few words, and near-duplicates.

    Senders are written as hashes, with a random salt that is not kept: two runs give other hashes, and with --limit
    other people. Names within the texts stay.
    """
    _make(from_mbox, files, output, "e-mails", "lamp6", options)


def _make(make: Any, sources: tuple[str, ...], output: str, what: str, task: str, options: dict[str, Any]) -> None:
    """Make data, and say what they hold and what was left out."""
    since = options.pop("since")
    split = SplitConfig(options.pop("min_history"), options.pop("max_history"), options.pop("split"))
    config = MakerConfig(split, since and since.date(), **options)
    terminal = Terminal(stderr=True)
    with ExitStack() as stack:
        status = stack.enter_context(terminal.status("reading")) if terminal.is_terminal else None
        tell = (lambda line: None) if status is None else status.update
        summary = make(sources, config, Path(output), tell)
    left_out = summary.left_out
    questions = f"{summary.train:,} questions to train on and {summary.dev:,} to report"
    click.echo(f"{output}: {questions}, of {summary.authors:,} people, from {left_out[what]:,} {what}")
    click.echo(f"left out: {counted(left_out)}")
    if broken := left_out["broken encodings"]:
        click.echo(f"broken encodings: {broken:,} of the {what}; what cannot be read is replaced")
    if config.salt is None:
        click.echo("people are hashed with a random salt that is not kept; --salt gives the same hashes again")
    click.echo(f"next: python cli.py evaluate --task {task} --data {output}")


@data.command()
@click.argument("directory", metavar="PATH")
@click.option("--task", help="Set the task of the files, a name or a task file; default: what LaMP's outputs name.")
@click.option("--all", "every", is_flag=True, help="List all flaws and notes, not only the first of each kind.")
@click.option("--strict", is_flag=True, help="Count notes as flaws.")
def check(directory: str, task: str | None, every: bool, strict: bool) -> None:
    """List the flaws of files by row id. The exit code is 3 if there are any, else 0.

    PATH is a folder with LaMP's files, a file of JSONL rows, a folder with train.jsonl, dev.jsonl and test.jsonl, or
    git:REPOSITORY.
    """
    terminal = Terminal(stderr=True)
    counts: Counter[tuple[bool, str]] = Counter()
    lines: Counter[tuple[Path, bool, str]] = Counter()
    with ExitStack() as stack:
        # Only if both are a terminal: rich redirects what is printed meanwhile to its own stream.
        visible = terminal.is_terminal and sys.stdout.isatty()
        status = stack.enter_context(terminal.status("reading")) if visible else None

        def tell(split: str, rows: int) -> None:
            if status is not None:
                status.update(f"{split}: {rows:,} rows read")

        known = None if task is None else task_for(task, directory)
        checked = FolderCheck(folder_of(known or COMMITS, directory), known, tell)
        for flaw in checked:
            counts[flaw.note, flaw.kind] += 1
            lines[flaw.file, flaw.note, flaw.kind] += 1
            if every or lines[flaw.file, flaw.note, flaw.kind] <= _SHOWN[flaw.note]:
                click.echo(str(flaw))
    for (file, note, kind), count in lines.items():
        if not every and count > _SHOWN[note]:
            click.echo(one_line(f"{file}: … {count - _SHOWN[note]:,} more of “{kind}”; --all lists them"))
    for split in checked.splits:
        dates = "no dates" if not split.dated else f"{split.dated:,} of them with a date"
        good = f"{len(split.ids):,} of {split.rows:,} rows are good"
        name = one_line(f"{checked.task.lamp or checked.task.name} {split.name}")
        click.echo(f"{name}: {good}; their profiles hold {split.items:,} items, {dates}")
    flaws, notes = ({kind: n for (note, kind), n in counts.items() if note == which} for which in (False, True))
    click.echo(f"flaws: {_counted(flaws)} · notes: {_counted(notes)}")
    sys.exit(FAILED_ROWS if flaws or (strict and notes) else 0)


@data.command("show")
@click.argument("task")
@click.option(
    "--data",
    "directory",
    metavar="PATH",
    help="Read LaMP's files or JSONL rows in PATH, or git:REPOSITORY; default: the persona world (synthetic).",
)
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "test"]),
    default="dev",
    show_default=True,
    help="Choose the split of a folder.",
)
@click.option("--id", "name", help="Choose the example by its id; default: the first.")
@click.option("--all", "every", is_flag=True, help="Show long texts as a whole.")
def show_command(task: str, directory: str | None, split: str, name: str | None, every: bool) -> None:
    """Show an example of TASK: the question, the user's history from old to new, and the gold answer.

    TASK is a name, or a task file (docs/your-task.md).
    """
    known, most = task_for(task, directory), {"most": None} if every else {}
    if directory is None:
        example = show.persona_example(known, split, name)
    else:
        example = show.read_example(known, folder_of(known, directory), split, name)
    click.echo(show.text(known, example, width=min(Terminal().width, 110), **most))


def _task(name: str) -> Task:
    if name not in TASKS:
        raise DataError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    return TASKS[name]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "none"
