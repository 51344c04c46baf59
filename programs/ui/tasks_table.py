"""The tasks on the terminal: their metrics and baselines, their data, and the names in their rows."""

from rich.table import Table

from metrics.lamp import METRICS
from programs.data.at_hand import ROOTS, folders
from programs.data.dataset import personas
from programs.data.makers.sources import GIT
from programs.data.personas import ALL_MAKERS
from programs.evaluate import published
from programs.evaluate.baselines import trivial_baselines
from programs.tasks import TASKS
from programs.tasks.commits import TASK as COMMITS
from programs.tasks.task import Task
from programs.ui.terminal import output
from programs.ui.terminal import table as new_table

_USERS = 200  # personas on which the trivial baselines are computed


def print_tasks() -> None:
    """Print the tasks to stdout, then published results, then the names in the rows of each task."""
    for table in (_tasks(), _published(), _rows()):
        output().print(table)


def _tasks() -> Table:
    table = new_table("task", "what", "metrics", "best trivial baseline\n(persona world)")
    table.add_column("data at hand", overflow="fold")
    table.columns[0].no_wrap = True
    for task in TASKS.values():
        synthetic = ["persona world"] if task.name in ALL_MAKERS else []
        own = [f"--data {GIT}REPOSITORY"] if task is COMMITS else []
        data = [*synthetic, *own, *(f"--data {folder}" for folder in folders(task, *ROOTS))]
        table.add_row(
            task.name,
            (task.signature.__doc__ or "").strip().splitlines()[0],
            ", ".join(task.metrics),
            _best_baseline(task) if synthetic else "–",
            "\n".join(data) or "none",
        )
    return table


def _best_baseline(task: Task) -> str:
    examples = personas(task, seed=0, limit=_USERS)
    values = trivial_baselines(task, examples.test, examples.train)
    values.pop("blind_oracle", None)  # it knows the golds
    better = max if METRICS[task.metrics[0]].higher_is_better else min
    best = better(values, key=values.__getitem__)
    return f"{best} {values[best]:.3f}"


def _published() -> Table:
    table = new_table("task", "published results (from other models and splits)", "arXiv")
    for task in TASKS.values():
        figures = published.published(task.name)
        for source, line in zip(figures, published.lines(figures), strict=True):
            table.add_row(task.name, line, published.PAPERS.get(source, "–"))
    return table


def _rows() -> Table:
    """The names in a task's JSONL rows, which `--data` and `predict` read."""
    title = "names in JSONL rows; predict needs no answer and also reads history for profile, label for an item's label"
    table = new_table("task", "inputs", "answer", "fields of a profile item", title=title)
    for task in TASKS.values():
        item = ["id", *task.fields, *([task.label] if task.label else []), "date (optional)"]
        inputs = ["id", "user (optional)", *task.inputs, task.profile]
        table.add_row(task.name, ", ".join(inputs), task.answer, ", ".join(item))
    return table
