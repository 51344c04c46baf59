"""Check LaMP's files, or a user's own rows, for what the loader refuses and for what would distort reported numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dspy

from programs.data.jsonl import is_jsonl, iter_examples, jsonl_files
from programs.data.lamp.files import LampFile
from programs.data.lamp.row_errors import DATE, LEAK, REPEATED, SHARED, InvalidDataError, RowError
from programs.data.lamp.rows import golds_file, read_rows
from programs.data.lamp_qa.rows import file_of
from programs.data.splits import group_users, question_key, user_fingerprint
from programs.tasks import TASKS
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.errors import DataError

_ORDER = ("train", "dev", "test")
_Row = tuple[Sequence[RowError], dspy.Example | None]
_PROGRESS_ROWS = 100  # rows between two reports of progress


@dataclass
class Split:
    """The counts of one split."""

    name: str
    file: Path  # its questions
    ids: list[str] = field(default_factory=list)  # of the questions without errors, in order
    fingerprints: list[str | bytes] = field(default_factory=list)  # the users of these questions
    items: int = 0  # in their histories
    dated: int = 0  # items with a date
    undated: dict[str, int] = field(default_factory=dict)  # number of items without a date, by the question's id
    rows: int = 0  # that were read, flawed ones included


class FolderCheck:
    """The errors of LaMP's files or JSONL rows, found in one pass; memory holds one question at a time.

    Errors are what the loader refuses, and what distorts reported numbers: a gold in the profile of a reported
    question, or a user in two splits that are not by time. Notes are worth knowing: a gold in a profile of the training
    set, users that splits by time share, items without a date.

    Args:
        directory: the folder with the files, or a JSONL file.
        task: whose files they should be; None for the task that the first outputs file names. JSONL rows name none.
        progress: is called now and then with a split and the number of its rows read so far.

    Raises:
        DataError: if there is no such directory, it has none of LaMP's files, or nothing names the task.

    Examples:
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev_questions.json").write_text('[{"id": "7"}]')
        >>> _ = (folder / "dev_outputs.json").write_text('{"task": "LaMP_3", "golds": [{"id": "7", "output": "5"}]}')
        >>> [error.brief for error in FolderCheck(folder)]
        ['question 7: its input is None, not a text', 'question 7: its profile is None, not a list of items']
    """

    def __init__(
        self, directory: Path, task: Task | None = None, progress: Callable[[str, int], None] = lambda split, rows: None
    ):
        self.directory, self.progress = directory, progress
        self._read = self._lamp_rows
        if is_jsonl(directory):
            if task is None:
                raise DataError(f"{directory} holds JSONL rows, which do not name their task; give --task")
            own = [directory] if directory.is_file() else jsonl_files(directory)
            self.task, self.splits, self._read = task, [Split(file.stem, file) for file in own], self._jsonl_rows
            return
        if not directory.is_dir():
            raise DataError(f"{directory}: no such file or directory; name JSONL rows, or the folder of LaMP's files")
        categories = [task for task in TASKS.values() if task.by_rubric and _splits_of(task, directory)]
        if task is None and categories:
            if len(categories) > 1:
                choice = ", ".join(task.name for task in categories)
                raise DataError(f"{directory} holds files of several categories; give --task, one of {choice}")
            task = categories[0]
        if task is not None and task.by_rubric:
            self.task, self.splits = task, _splits_of(task, directory)
            if not self.splits:
                raise DataError(f"{directory}: no {file_of(task, directory, 'dev').name}; name the directory with it")
            return
        files = [path for kind in ("questions", "outputs") for path in directory.glob(f"*_{kind}.json")]
        if not files:
            what = "it has neither {train,dev}_{questions,outputs}.json nor {train,dev,test}.jsonl"
            raise DataError(f"{directory}: {what}; name the directory with LaMP's files, or with your rows")
        names = {path.name.rsplit("_", 1)[0] for path in files}
        ordered = sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
        self.splits = [Split(name, directory / f"{name}_questions.json") for name in ordered]
        self.task = task or _task_of(sorted(directory.glob("*_outputs.json")))

    def __iter__(self) -> Iterator[RowError]:
        seen: dict[int, str] = {}
        for split in self.splits:
            try:
                yield from self._rows(split, seen)
            except InvalidDataError as error:
                yield error.row_error
        if self.by_time:
            remedy = "find the dates; an item without one counts as the oldest"
            for split in self.splits:
                for name, count in split.undated.items():
                    what = f"items without a date in its profile: {count}"
                    yield _error(split, name, what, remedy, DATE, note=True)
        yield from self._shared_users()

    @property
    def by_time(self) -> bool:
        """Whether items have dates, as in LaMP's split by time."""
        return any(split.dated for split in self.splits)

    def _rows(self, split: Split, seen: dict[int, str]) -> Iterator[RowError]:
        for errors, example in self._read(split):
            split.rows += 1
            if not split.rows % _PROGRESS_ROWS:
                self.progress(split.name, split.rows)
            yield from errors
            if example is not None:
                yield from self._example(split, example, seen)

    def _lamp_rows(self, split: Split) -> Iterator[_Row]:
        golds = split.name != "test" or golds_file(self.task, self.directory, "test").exists()  # LaMP keeps its own
        for row in read_rows(self.task, self.directory, split.name, golds):
            yield row.errors, row.example

    def _jsonl_rows(self, split: Split) -> Iterator[_Row]:
        errors: list[RowError] = []

        def drained() -> Iterator[_Row]:
            yield from (([error], None) for error in errors)
            errors.clear()

        for example in iter_examples(self.task, split.file, left_out=errors.append):
            yield from drained()
            yield [], example
        yield from drained()

    def _example(self, split: Split, example: dspy.Example, seen: dict[int, str]) -> Iterator[RowError]:
        items = list(example[self.task.profile])
        dated = sum(item.date is not None for item in items)
        split.ids.append(example.id)
        split.fingerprints.append(user_fingerprint(example))
        split.items += len(items)
        split.dated += dated
        if dated < len(items):
            split.undated[example.id] = len(items) - dated
        first = seen.setdefault(hash(question_key(example)), split.name)
        if first != split.name:
            yield _error(split, example.id, f"{first} has it too", "take it out of one of them", REPEATED)
        gold = _gold_title(self.task, example)
        own = (self.task.written,) if self.task.shape else self.task.fields
        for item in items:
            texts = [item.fields[name].strip() for name in own if name in item.fields]
            if gold is not None and gold in (" ".join(texts) if self.task.by_rubric else texts):
                what = f"its gold is in the profile, as item {item.id}: {short_repr(gold)}"
                remedy = "take that item out, or leave the question out with --skip"
                yield _error(split, example.id, what, remedy, LEAK, note=split.name == "train")
                break

    def _shared_users(self) -> Iterator[RowError]:
        users = iter(group_users([fingerprint for split in self.splits for fingerprint in split.fingerprints]))
        remedy = "this is expected of splits by time" if self.by_time else "leave one out, or split by user"
        first_seen: dict[int, tuple[str, str]] = {}  # by user
        for split in self.splits:
            for name in split.ids:
                first, other = first_seen.setdefault(next(users), (split.name, name))
                if first != split.name:
                    what = f"its user is in {first} too, with question {other}"
                    yield _error(split, name, what, remedy, SHARED, note=self.by_time)


def _splits_of(task: Task, directory: Path) -> list[Split]:
    """The splits of LaMP-QA's files of a category."""
    files = ((name, file_of(task, directory, name)) for name in _ORDER)
    return [Split(name, file) for name, file in files if file.exists()]


def _error(split: Split, name: str, what: str, remedy: str, kind: str, note: bool = False) -> RowError:
    return RowError(split.file, name, f"question {name}", what, remedy, kind, note)


def _gold_title(task: Task, example: dspy.Example) -> str | None:
    """The text that gives the answer away if an item of the profile has it; None if there is no such text."""
    gold = example.get(task.gold)
    if task.by_rubric:
        return gold and gold.narrative.strip()
    if gold is None or not task.labels:
        return gold and gold.strip()
    if task.lamp != "LaMP_1":
        return None
    titles = (line.removeprefix(gold).strip() for line in example[task.question].split("\n") if line.startswith(gold))
    return next(titles, None)


def _task_of(outputs: list[Path]) -> Task:
    """The task that the first readable outputs file names."""
    known = {task.lamp: task for task in TASKS.values() if task.lamp}
    for path in outputs:
        try:
            data = LampFile(known["LaMP_1"], path).read()
        except InvalidDataError:
            continue
        for name, task in known.items():
            if isinstance(data, dict) and data.get("task") == name:
                return task
    where = f"in {outputs[0].parent} " if outputs else ""
    raise DataError(f"no outputs file {where}names its task, which of {', '.join(known)} it is; give --task")
