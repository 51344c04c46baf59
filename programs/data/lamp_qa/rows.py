"""The rows of LaMP-QA's files, `CATEGORY_{train,validation,test}.json`.

[{"id": …, "question": …, "profile": [{"id": …, "text": …}],
  "narrative": …, "rubric_aspects": [{"aspect": …, "reason": …, "evidence": …}]}]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy

from metrics.rubric import Aspect, Rubric
from programs.data.lamp.files import LampFile
from programs.data.lamp.row import LampRow
from programs.data.lamp.row_errors import key_names
from programs.data.values import repair_text
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.profile import Profile

SPLITS = {"train": "train", "dev": "validation", "test": "test"}  # LaMP's names, and LaMP-QA's
_ASPECT = tuple(Aspect.model_fields)


def file_of(task: Task, directory: Path, split: str) -> Path:
    """The file of a split, under LaMP's name for it or under LaMP-QA's own."""
    return directory / f"{task.shape}_{SPLITS.get(split, split)}.json"


def read_rows(task: Task, directory: Path, split: str, golds: bool = True) -> Iterator[LampRow]:
    """Read the rows of one split, one at a time; see `programs.data.lamp.files.read_rows`.

    Without `golds`, rows need no narrative and no aspects.
    """
    file = LampFile(task, file_of(task, directory, split))
    for row, data in file.questions("LaMP-QA's is a list of {id, question, narrative, …}"):
        if data is not None:
            _read(row, data, golds)
        yield row


def _read(row: LampRow, data: dict[str, Any], golds: bool) -> None:
    """Set a row's example or its errors."""
    task = row.task
    question, items = _text(row, data, "question", f"it has {key_names(data)}"), row.items(data)
    known: dict[str, Any] = {"id": row.id}
    if golds:
        advice = "a split without rubrics cannot be scored: answer it with `predict`"
        narrative, aspects = _text(row, data, "narrative", advice), _aspects(row, data.get("rubric_aspects"))
        if not row.errors:
            known[task.gold] = Rubric(narrative=narrative, aspects=aspects)
    if not row.errors:
        values = {task.question: question, task.profile: Profile(items=items)}
        row.example = dspy.Example(**known, **values).with_inputs(*values)


def _aspects(row: LampRow, entries: Any) -> list[Aspect]:
    if not isinstance(entries, list) or not entries:
        what = (
            "its rubric has no aspects" if entries == [] else f"its rubric_aspects is {short_repr(entries)}, not a list"
        )
        row.add_error(f"question {row.id}", what, "leave it out with --skip, or answer it with `predict`")
        return []
    return [aspect for number, entry in enumerate(entries, start=1) if (aspect := _aspect(row, entry, number))]


def _aspect(row: LampRow, entry: Any, number: int) -> Aspect | None:
    texts: dict[str, Any] = {key: entry.get(key) for key in _ASPECT} if isinstance(entry, dict) else {}
    wrong = next((key for key in _ASPECT if not isinstance(texts.get(key), str)), None)
    if not texts or wrong or not texts["aspect"].strip():
        key = wrong or "aspect"
        what = f"its {key} is {short_repr(texts.get(key))}, not a text" if texts else f"it is {short_repr(entry)}"
        row.add_error(f"question {row.id}, aspect {number}", what, f"an aspect has {', '.join(_ASPECT)}")
        return None
    return Aspect(**{key: repair_text(text) for key, text in texts.items()})


def _text(row: LampRow, data: dict[str, Any], key: str, remedy: str) -> str:
    value = data.get(key)
    if isinstance(value, str) and value.strip():
        return repair_text(value.strip())
    row.add_error(f"question {row.id}", f"its {key} is {short_repr(value)}, not a text", remedy)
    return ""
