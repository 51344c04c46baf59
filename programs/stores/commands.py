"""`python cli.py data import` and `data forget`: fill a profile store, and take a user out of everything."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import click

from programs.data.fitting import task_for
from programs.feedback.opening import existing_answers
from programs.stores.forgetting import forget
from programs.stores.importing import histories
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Profile
from r2p_dspy.stores import open_store

_URL = "Choose the store: sqlite:///FILE or postgresql+psycopg://…"


@click.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--store", metavar="URL", required=True, envvar="R2P_STORE", show_envvar=True, help=_URL)
@click.option("--task", required=True, help="Name the task whose items these are, or a task file.")
def import_command(source: Path, store: str, task: str) -> None:
    """Load the histories of files into a store. The same command goes on after a stop, and adds what is new.

    PATH is a folder with LaMP's files, or a file of JSONL rows: {"user": NAME, "profile": [ITEM, …]} or, one item a
    row, {"user": NAME, "id": …, TEXT: …}. A row of LaMP's without a user_id is of a user who is named by the row's id.
    """
    known, users = task_for(task, str(source)), set[str]()

    def seen() -> Iterator[tuple[str, Profile]]:
        for user, items in histories(source, known):
            users.add(user)
            yield user, items

    opened = open_store(store)
    try:
        items = opened.load(seen())
    finally:
        opened.close()
    click.echo(f"{len(users):,} users, {items:,} new items in {opened!r}")
    click.echo(
        f"next: python cli.py predict --task {task} --store {_shown(store)} --input ROWS.jsonl --output ANSWERS.jsonl"
    )


@click.command("forget")
@click.argument("user", metavar="USER")
@click.option("--store", metavar="URL", envvar="R2P_STORE", show_envvar=True, help=_URL)
@click.option(
    "--in",
    "places",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Clean this directory or file, such as runs, call caches, answers, artifacts. Repeatable; default: runs/.",
)
def forget_command(user: str, store: str | None, places: tuple[Path, ...]) -> None:
    """Delete a user's items from a store, and what was made of them: rows of runs and traces, calls, demos, caches,
    answers of a service with the feedback on them.

    DSPy's own cache is emptied, since it does not know whose answers it keeps. What cannot forget is listed at the end,
    such as trained weights. It may be repeated; texts are looked for as long as the store has them.
    """
    for place in places:
        if not place.exists():
            raise ConfigError(f"{place} does not exist; name the directories and files to clean with --in")
    if store is None and not places and not Path("runs").is_dir():
        raise ConfigError("nothing to clean: give --store, or --in with the directories that know the user")
    cleaned = [*places] or [path for path in [Path("runs")] if path.is_dir()]
    with ExitStack() as stack:
        opened = None if store is None else stack.enter_context(closing(open_store(store)))
        answers = None if store is None else existing_answers(store)
        if answers is not None:
            stack.enter_context(closing(answers))
        forgotten = forget(user, opened, cleaned, answers)
    click.echo("\n".join(["removed:", *(f"  {line}" for line in forgotten.removed or ["nothing"])]))
    click.echo("\n".join(["cannot forget, look after these yourself:", *(f"  {line}" for line in forgotten.left)]))


def _shown(url: str) -> str:
    """An address without its password; the environment can hold it."""
    return url if url.startswith("sqlite") else "URL"
