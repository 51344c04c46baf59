"""Checking a folder with LaMP's files: what the loader refuses, and what would make its numbers mean something else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dspy

from programs.data.lamp.files import File, rows
from programs.data.lamp.row_errors import DATE, LEAK, REPEATED, SHARED, FlawError, RowError
from programs.data.splits import grouped, key, telling
from programs.tasks import TASKS
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.errors import DataError

_ORDER = ("train", "dev", "test")
_TICK = 100  # rows


@dataclass
class Split:
    """What was counted in one split.

    Args:
        name: such as "dev".
        file: its questions.
        ids: of the questions without flaw, in order.
        tellings: what tells the user of each (see `splits.telling`).
        items, dated: how many items their histories have, and how many of these have a date.
        undated: the ids of questions with items that have none, and how many.
        rows: how many rows were read, flawed ones included.
    """

    name: str
    file: Path
    ids: list[str] = field(default_factory=list)
    tellings: list[str | bytes] = field(default_factory=list)
    items: int = 0
    dated: int = 0
    undated: dict[str, int] = field(default_factory=dict)
    rows: int = 0


class Check:
    """Everything that is wrong in a folder, found in one pass; of the questions no more than one row is in memory.

    Flaws are what the loader refuses, and what makes reported numbers mean something else: a gold that stands in the
    profile of a question that is reported, a user of two splits where no dates show them to be split by time. Notes are
    what to know: a gold in a profile of the training set, users that splits by time share, items without a date.

    Args:
        directory: holds the files.
        task: whose they should be; None: what its first outputs file says.
        progress: is told, now and then, of a split and how many of its rows are read.

    Raises:
        DataError: where there is no such directory, no file of LaMP's in it, or no telling of which task they are.

    Example:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev_questions.json").write_text('[{"id": "7"}]')
        >>> _ = (folder / "dev_outputs.json").write_text('{"task": "LaMP_3", "golds": [{"id": "7", "output": "5"}]}')
        >>> [flaw.brief for flaw in Check(folder)]
        ['question 7: its input is None, not a text', 'question 7: its profile is None, not a list of items']
    """

    def __init__(
        self, directory: Path, task: Task | None = None, progress: Callable[[str, int], None] = lambda split, rows: None
    ):
        self.directory, self.progress = directory, progress
        if not directory.is_dir():
            raise DataError(f"{directory}: there is no such directory; name the one with LaMP's files")
        files = [path for kind in ("questions", "outputs") for path in directory.glob(f"*_{kind}.json")]
        if not files:
            what = "it holds no {train,dev}_{questions,outputs}.json"
            raise DataError(f"{directory}: {what}; name the directory with LaMP's files")
        names = {path.name.rsplit("_", 1)[0] for path in files}
        ordered = sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
        self.splits = [Split(name, directory / f"{name}_questions.json") for name in ordered]
        self.task = task or _task_of(sorted(directory.glob("*_outputs.json")))

    def __iter__(self) -> Iterator[RowError]:
        seen: dict[int, str] = {}
        for split in self.splits:
            try:
                yield from self._rows(split, seen)
            except FlawError as error:
                yield error.flaw
        if self.by_time:
            remedy = "find the dates; without one an item counts as the oldest"
            for split in self.splits:
                for name, count in split.undated.items():
                    what = f"items without a date in its profile: {count}"
                    yield _flaw(split, name, what, remedy, DATE, note=True)
        yield from self._shared()

    @property
    def by_time(self) -> bool:
        """Whether items have dates, as in LaMP's split by time."""
        return any(split.dated for split in self.splits)

    def _rows(self, split: Split, seen: dict[int, str]) -> Iterator[RowError]:
        golds = split.name != "test" or (self.directory / "test_outputs.json").exists()  # LaMP keeps its test golds
        for row in rows(self.task, self.directory, split.name, golds):
            split.rows += 1
            if not split.rows % _TICK:
                self.progress(split.name, split.rows)
            yield from row.flaws
            if row.example is not None:
                yield from self._example(split, row.example, seen)

    def _example(self, split: Split, example: dspy.Example, seen: dict[int, str]) -> Iterator[RowError]:
        items = list(example[self.task.profile])
        dated = sum(item.date is not None for item in items)
        split.ids.append(example.id)
        split.tellings.append(telling(example))
        split.items += len(items)
        split.dated += dated
        if dated < len(items):
            split.undated[example.id] = len(items) - dated
        before = seen.setdefault(hash(key(example)), split.name)
        if before != split.name:
            yield _flaw(split, example.id, f"it stands in {before} too", "take it out of one of them", REPEATED)
        gold = _gold_title(self.task, example)
        for item in items:
            if gold is not None and item.fields[self.task.fields[0]].strip() == gold:
                what = f"its gold stands in the profile, as item {item.id}: {short_repr(gold)}"
                remedy = "take that item out, or the question with --skip"
                yield _flaw(split, example.id, what, remedy, LEAK, note=split.name == "train")
                break

    def _shared(self) -> Iterator[RowError]:
        owners = iter(grouped([told for split in self.splits for told in split.tellings]))
        before: dict[int, tuple[str, str]] = {}  # where each user was first
        for split in self.splits:
            for name in split.ids:
                first, other = before.setdefault(next(owners), (split.name, name))
                if first != split.name:
                    what = f"its user is in {first} too, with question {other}"
                    remedy = (
                        "that is so where splits are by time" if self.by_time else "leave one out, or split by user"
                    )
                    yield _flaw(split, name, what, remedy, SHARED, note=self.by_time)


def _flaw(split: Split, name: str, what: str, remedy: str, kind: str, note: bool = False) -> RowError:
    return RowError(split.file, name, f"question {name}", what, remedy, kind, note)


def _gold_title(task: Task, example: dspy.Example) -> str | None:
    """The text that gives the answer away where an item has it as its title; None where there is no such thing."""
    gold = example.get(task.answer)
    if gold is None or not task.labels:
        return gold and gold.strip()
    if task.lamp != "LaMP_1":
        return None
    titles = (line.removeprefix(gold).strip() for line in example[task.question].split("\n") if line.startswith(gold))
    return next(titles, None)


def _task_of(outputs: list[Path]) -> Task:
    """The task that the first readable outputs file names."""
    known = {task.lamp: task for task in TASKS.values()}
    for path in outputs:
        try:
            data = File(known["LaMP_1"], path).read()
        except FlawError:
            continue
        for name, task in known.items():
            if isinstance(data, dict) and data.get("task") == name:
                return task
    where = outputs[0].parent if outputs else "it"
    raise DataError(f"no outputs file in {where} says which of {', '.join(known)} it is of; give --task")
