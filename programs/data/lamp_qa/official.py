"""Download LaMP-QA from the Hugging Face hub, into the files that its own scripts read."""

from pathlib import Path

from programs.data import hub
from programs.data.lamp.download import DownloadError
from programs.data.lamp.reserving import reserve
from programs.data.lamp_qa.rows import SPLITS, file_of
from programs.tasks.task import Task
from r2p_dspy.errors import DataError

DATASET = "alireza7/LaMP-QA"


def get(
    task: Task, output: Path, *, test: bool = False, base: str = "", progress: hub.Progress | None = None
) -> list[str]:
    """Download LaMP-QA's data of a category that are not in the directory yet.

    Args:
        task: a task of LaMP-QA.
        output: the directory, made if it does not exist.
        test: add the test set, whose rubrics LaMP-QA publishes.
        base: the address of a mirror of the hub; empty for the hub.
        progress: see `hub.fetch`.

    Returns:
        The names of the files that this call wrote: `CATEGORY_{train,validation,test}.json`.

    Raises:
        DataError: for a directory that holds other files or cannot be written, and for a download that fails.
    """
    missing = [split for split in SPLITS if (test or split != "test") and not file_of(task, output, split).exists()]
    if missing:
        reserve(output, {"task": task.shape, "split": "LaMP-QA's", "from": f"{base or hub.HUB}/datasets/{DATASET}"})
    for split in missing:
        try:
            folder = hub.fetch(DATASET, task.shape, SPLITS[split], output, base, progress)
        except DownloadError as error:
            raise DataError(f"{error}; {base or hub.HUB}/datasets/{DATASET} has the data set") from None
        except OSError as error:
            raise DataError(f"cannot write to {output}: {error.strerror}; give another --output") from None
        with hub.written(file_of(task, output, split)) as file:
            hub.write_list(file, hub.rows(folder))
        hub.remove(folder)
    return [file_of(task, output, split).name for split in missing]
