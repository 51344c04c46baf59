"""The labels of files in LaMP-2's shape: LaMP's fifteen tags, or labels of their own."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from programs.data.lamp.files import LampFile
from programs.data.lamp.row import is_news
from programs.data.lamp.row_errors import InvalidDataError
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.errors import DataError

_MOST = 300  # labels that a prompt can list
_FOREIGN = 0.5  # the share of golds from which the labels are not the task's own


def own_labels(task: Task, directory: Path) -> tuple[str, ...]:
    """The labels of LaMP-2-shaped files that are not LaMP's; () for LaMP's own, and for any other data.

    Files have labels of their own if most golds are none of the task's. Then their labels are those of the golds to
    train on and of the histories, in the order of the alphabet. The news categories of the old LaMP_2 are none of
    their own: reading says what they are.

    Raises:
        DataError: one line, for a right answer of dev that neither train nor a history has, and for more labels than a
            prompt can list.
    """
    if task.lamp != "LaMP_2":
        return ()
    try:
        golds = {part: _golds(task, directory / f"{part}_outputs.json") for part in ("train", "dev")}
        outputs = [*chain.from_iterable(golds.values())]
        foreign = [label for label in outputs if label not in task.labels]
        if len(foreign) <= _FOREIGN * len(outputs) or sum(map(is_news, foreign)) > _FOREIGN * len(foreign):
            return ()
        known = {*golds["train"], *_history_labels(task, directory)}
    except InvalidDataError:
        return ()  # reading says what is wrong
    if new := sorted({*golds["dev"]} - known):
        what = f"{directory}: labels that differ between splits: neither train nor a history has {short_repr(new[0])}"
        more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
        raise DataError(f"{what}{more} of dev; take it out, or list all labels in a task file (docs/your-task.md)")
    if len(known) > _MOST:
        raise DataError(
            f"{directory}: {len(known)} labels are more than a prompt can list ({_MOST}); use a task of texts"
        )
    return tuple(sorted(known))


def _golds(task: Task, path: Path) -> list[str]:
    if not path.exists():
        return []
    rows = LampFile(task, path).golds()
    return [label for row in rows if isinstance(row, dict) and (label := _text(row.get("output")))]


def _history_labels(task: Task, directory: Path) -> Iterator[str]:
    for part in ("train", "dev"):
        path = directory / f"{part}_questions.json"
        for row in LampFile(task, path).stream() if path.exists() else ():
            items = row.get("profile") if isinstance(row, dict) else None
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and (label := _text(item.get(task.label))):
                    yield label


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""
