"""LaMP-QA's response files, {"12": [{"output": "Buy a pen that …"}]}, and the rubrics that they are scored by."""

from pathlib import Path
from typing import Any

from metrics.rubric import Rubric
from programs.data.lamp_qa.rows import SPLITS, file_of, read_rows
from programs.tasks import TASKS
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.errors import DataError


def rubrics_of(path: Path) -> tuple[Task, dict[str, Rubric]] | None:
    """The task of a file of LaMP-QA, which its name says, with the rubric of each question; None for another file.

    Raises:
        DataError: for a row without a rubric, and for a file that cannot be read.
    """
    for task in (task for task in TASKS.values() if task.by_rubric):
        for split in SPLITS:
            if file_of(task, path.parent, split) == path:
                return task, _rubrics(task, path.parent, split)
    return None


def _rubrics(task: Task, directory: Path, split: str) -> dict[str, Rubric]:
    rubrics: dict[str, Rubric] = {}
    for row in read_rows(task, directory, split):
        if row.example is None:
            raise DataError(str(row.errors[0]))
        rubrics[row.id] = row.example[task.gold]
    return rubrics


def responses_of(data: Any) -> dict[str, Any]:
    """The first response to each question, as the official script takes it.

    Raises:
        DataError: for JSON of another shape: one line without the file's name.

    Examples:
        >>> responses_of({"12": [{"output": "Buy a pen."}, {"output": "Buy two."}]})
        {'12': 'Buy a pen.'}
    """
    shape = 'LaMP-QA\'s is {"12": [{"output": …}]}'
    if not isinstance(data, dict) or not data:
        raise DataError(f"it has no responses; {shape}")
    for name, responses in data.items():
        if not isinstance(responses, list) or not responses:
            raise DataError(f"question {name} has {short_repr(responses)}, and no list with a response; {shape}")
        if not all(isinstance(response, dict) and "output" in response for response in responses):
            raise DataError(f"a response to question {name} has no output; {shape}")
    return {name: str(responses[0]["output"]) for name, responses in data.items()}
