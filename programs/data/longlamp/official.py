"""Download LongLaMP from the Hugging Face hub, into files of LaMP's shape.

The hub has a row for each question: {"author": …, "input": …, "output": …, "profile": [{"id": …, "summary": …, …}]}.
The name of the user's column differs from task to task, rows have no ids, and the items of reviews have none either.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from programs.data import hub
from programs.data.lamp.download import DownloadError
from programs.data.lamp.official import By
from programs.data.lamp.reserving import reserve
from programs.tasks.task import Task
from r2p_dspy.errors import DataError

DATASET = "LongLaMP/LongLaMP"
_CONFIGS = {  # by the task's name in files of golds
    "LongLaMP_abstract_generation": "abstract_generation",
    "LongLaMP_topic_writing": "topic_writing",
    "LongLaMP_product_review": "product_review",
}
_BY = {"user": "user", "time": "temporal"}
_SPLITS = {"train": "train", "dev": "val", "test": "test"}  # LaMP's names, and the hub's
_USERS = ("name", "author", "reviewerId")  # the columns that name the user, one in each task
_LICENSED = "https://github.com/LongLaMP-benchmark/LongLaMP-Benchmark"


def get(
    task: Task, by: By, output: Path, *, test: bool = False, base: str = "", progress: hub.Progress | None = None
) -> list[str]:
    """Download LongLaMP's data of a task that are not in the directory yet.

    Args:
        task: a task of LongLaMP with public data.
        by: the split by time (`temporal`), or by user.
        output: the directory, made if it does not exist; its `source.json` says what it holds.
        test: add the test set, whose golds LongLaMP publishes.
        base: the address of a mirror of the hub; empty for the hub.
        progress: see `hub.fetch`.

    Returns:
        The names of the files that this call wrote: `{train,dev,test}_{questions,outputs}.json`. A row is named after
        its split and its place in it, such as `dev-0`; an item without an id after its place in the profile.

    Raises:
        DataError: for the e-mails, which need a licence; for a directory that holds other files or cannot be written;
            for a download that fails.
    """
    config = f"{config_of(task)}_{_BY[by]}"
    wanted = [split for split in _SPLITS if test or split != "test"]
    missing = [split for split in wanted if not (output / f"{split}_outputs.json").exists()]
    if missing:
        reserve(output, {"task": task.lamp, "split": by, "from": f"{base or hub.HUB}/datasets/{DATASET}"})
    files: list[str] = []
    for split in missing:
        try:
            folder = hub.fetch(DATASET, config, _SPLITS[split], output, base, progress)
        except DownloadError as error:
            raise DataError(
                f"{error}; {base or hub.HUB}/datasets/{DATASET} has the data set, config {config}"
            ) from None
        except OSError as error:
            raise DataError(f"cannot write to {output}: {error.strerror}; give another --output") from None
        files += _write(task, folder, split, output)
        hub.remove(folder)
    return files


def config_of(task: Task) -> str:
    """The first part of a task's config on the hub; DataError for the e-mails."""
    if task.lamp not in _CONFIGS:
        what = f"{task.lamp} is made from the Avocado e-mails (LDC2015T03), which need a licence"
        raise DataError(f"{what}; {_LICENSED} says how to make the files; then give their directory to --data")
    return _CONFIGS[task.lamp]


def _write(task: Task, folder: Path, split: str, output: Path) -> list[str]:
    """Write a split's questions, and then its golds, which say that the split is complete."""
    questions, outputs = (f"{split}_{kind}.json" for kind in ("questions", "outputs"))
    with hub.written(output / questions) as file:
        hub.write_list(file, _questions(folder, split))
    golds = [{"id": f"{split}-{place}", "output": row.get("output")} for place, row in enumerate(hub.rows(folder))]
    with hub.written(output / outputs) as file:
        json.dump({"task": task.lamp, "golds": golds}, file, ensure_ascii=False)
    return [questions, outputs]


def _questions(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    for place, row in enumerate(hub.rows(folder)):
        user = next((row[column] for column in _USERS if row.get(column)), None)
        named = {} if user is None else {"user_id": str(user)}
        items = [_item(item, number) for number, item in enumerate(row.get("profile") or (), start=1)]
        yield {"id": f"{split}-{place}", "input": row.get("input"), **named, "profile": items}


def _item(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An item with an id, the year of a paper as its date, and empty texts for what the data set lacks."""
    date = {"date": str(item["year"])} if item.get("year") else {}
    texts = {key: "" if value is None else value for key, value in item.items() if key not in ("id", "year")}
    return {"id": str(number if item.get("id") in (None, "") else item["id"]), **texts, **date}
