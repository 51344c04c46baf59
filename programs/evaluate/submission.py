"""LaMP's submission format, which is also the format of its golds: writing it, and scoring such a file.

{"task": "LaMP_2", "golds": [{"id": "110", "output": "psychology"}]}
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from metrics.intervals import Interval, of_metric
from programs.data.lamp_qa.responses import responses_of, rubrics_of
from programs.tasks import TASKS
from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.files import read_bounded
from r2p_dspy.values.typed import as_text


class SubmissionError(DataError):
    """Predictions that cannot be scored. One line says which file, why, and what to do."""


def submission(task: Task, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Predictions as the benchmark's official script takes them; an answer of None becomes the empty text.

    For LaMP-QA that is a response file, {"12": [{"output": …}]}.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> submission(TASK, [{"id": "110", "answer": "comedy"}, {"id": "111", "answer": None}])
        {'task': 'LaMP_2', 'golds': [{'id': '110', 'output': 'comedy'}, {'id': '111', 'output': ''}]}
    """
    outputs = [{"id": row["id"], "output": "" if row["answer"] is None else as_text(row["answer"])} for row in rows]
    if task.by_rubric:
        return {output["id"]: [{"output": output["output"]}] for output in outputs}
    return {"task": task.lamp, "golds": outputs}


def score(predictions: Path, golds: Path) -> tuple[Task, int, dict[str, Interval]]:
    """Score a file of predictions against a file of golds (LaMP, `eval/evaluation.py`).

    For LaMP-QA these are a response file and the file of the questions, and the value is that of `coverage`, since the
    official metric asks a judge (`evaluate --judge`).

    Returns:
        The task, the number of examples, and each of the task's metrics with its 95 % interval.

    Raises:
        SubmissionError: for a file in another format, predictions for another task, a repeated id (the official script
            silently takes the last), and ids that differ from those of the golds.

    Examples:
        >>> import json, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "golds.json"
        >>> _ = file.write_text(json.dumps({"task": "LaMP_3", "golds": [{"id": "1", "output": "4"}]}))
        >>> score(file, file)[2]["mae"]
        Interval(value=0.0, low=0.0, high=0.0)
    """
    task, wanted, given = _by_rubrics(predictions, golds) or _by_golds(predictions, golds)
    missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing or unknown:
        kinds = (("missing", missing, wanted), ("unknown", unknown, given))
        counts = [f"{len(ids)} {kind} (the first is {_first(ids, rows)})" for kind, ids, rows in kinds if ids]
        _refuse(predictions, f"its ids differ from those of {golds}: {', '.join(counts)}; give one prediction per gold")
    answers = [given[name] for name in wanted], list(wanted.values())
    try:
        return task, len(wanted), {name: of_metric(task.metric(name), *answers, task.labels) for name in task.metrics}
    except ValueError as error:  # a gold rating is not a number
        _refuse(golds, str(error))


def _by_golds(predictions: Path, golds: Path) -> tuple[Task, dict[Any, Any], dict[Any, Any]]:
    """The task of two files of LaMP's shape, with the golds and the predictions by id."""
    task, wanted = _read(golds)
    other, given = _read(predictions)
    if other is not task:
        _refuse(predictions, f"the predictions are for {other.lamp}, but the golds in {golds} are for {task.lamp}")
    return task, wanted, given


def _by_rubrics(predictions: Path, questions: Path) -> tuple[Task, dict[Any, Any], dict[Any, Any]] | None:
    """The same of LaMP-QA's files; None for others."""
    if (rubrics := rubrics_of(questions)) is None:
        return None
    try:
        return *rubrics, responses_of(_json(predictions))
    except SubmissionError:
        raise
    except DataError as error:
        _refuse(predictions, str(error))


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path))
    except OSError as error:
        _refuse(path, f"it cannot be read ({error.strerror})")
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not valid JSON ({str(error)[:120]})")


def _read(path: Path) -> tuple[Task, dict[Any, Any]]:
    """The task of a file, and its outputs by id. Ids are compared as written: 110 is not "110"."""
    data = _json(path)
    shape = 'LaMP\'s is {"task": "LaMP_2", "golds": [{"id": …, "output": …}]}'
    if not isinstance(data, dict) or not isinstance(data.get("golds"), list) or not data["golds"]:
        _refuse(path, f"it has no golds; {shape}")
    known = {task.lamp: task for task in TASKS.values() if task.lamp}
    task = next((task for name, task in known.items() if name == data.get("task")), None)
    if task is None:
        _refuse(path, f"its task is {data.get('task')!r}; LaMP's are {', '.join(known)}")
    outputs: dict[Any, Any] = {}
    for number, row in enumerate(data["golds"], start=1):
        if not isinstance(row, dict) or not {"id", "output"} <= row.keys() or not isinstance(row["id"], str | int):
            _refuse(path, f"row {number} has no id or no output; {shape}")
        if isinstance(row["output"], dict | list):
            _refuse(path, f"the output of {row['id']!r} is not a text; {shape}")
        if row["id"] in outputs:
            _refuse(path, f"the id {row['id']!r} appears twice; keep one of them")
        outputs[row["id"]] = row["output"]
    return task, outputs


def _first(ids: Any, rows: Mapping[Any, Any]) -> str:
    return repr(next(name for name in rows if name in ids))


def _refuse(path: Path, what: str) -> NoReturn:
    raise SubmissionError(" ".join(f"{path}: {what}".split()))
