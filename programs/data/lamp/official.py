"""Download LaMP's official files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from programs.data.lamp.download import DownloadError, download
from programs.data.lamp.files import LampFile
from programs.data.lamp.reserving import reserve
from programs.data.lamp.row_errors import InvalidDataError
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError, DataError

# lamp-benchmark.github.io/download links here. The movies of LaMP_2 are in a folder `new`, in both splits; the folder
# above it has the old LaMP_2 of news categories. A wrong address gives a web page, not a 404.
BASE = "https://ciir.cs.umass.edu/downloads/LaMP"
_PAGE = "https://lamp-benchmark.github.io/download"
_LICENSED = "https://github.com/LaMP-Benchmark/LaMP#avocado"

By = Literal["time", "user"]


def official_urls(task: Task, by: By, test: bool = False, base: str = "") -> dict[str, str]:
    """The addresses of a task's official files, by file name.

    Args:
        task: a task with public data.
        by: LaMP's split by time (the same users in every set, later questions last), or by user.
        test: add the test questions; LaMP keeps their golds.
        base: the address of a mirror with the same folders; empty for LaMP's own.

    Raises:
        DataError: for task 6, whose e-mails need a licence, and for a task that is not LaMP's; the message says where
            to get the data.

    Examples:
        >>> from programs.tasks import TASKS
        >>> official_urls(TASKS["lamp2"], "time")["dev_outputs.json"]
        'https://ciir.cs.umass.edu/downloads/LaMP/time/LaMP_2/new/dev/dev_outputs.json'
    """
    if not task.lamp:
        raise DataError(f"LaMP has no data of {task.name}; `python cli.py data from-git` makes them from repositories")
    if task.lamp == "LaMP_6":
        what = "LaMP_6 is made from the Avocado e-mails (LDC2015T03), which need a licence"
        raise DataError(f"{what}; {_LICENSED} says how to make the files; then give their directory to --data")
    folder = f"{base or BASE}/{'time/' if by == 'time' else ''}{task.lamp}{'/new' if task.lamp == 'LaMP_2' else ''}"
    names = [f"{part}_{kind}.json" for part in ("train", "dev") for kind in ("questions", "outputs")]
    names += ["test_questions.json"] * test
    return {name: f"{folder}/{name.split('_')[0]}/{name}" for name in names}


def get(
    task: Task,
    by: By,
    output: Path,
    *,
    test: bool = False,
    base: str = "",
    progress: Callable[[str, int, int | None], None] = lambda name, done, total: None,
) -> list[str]:
    """Download the official files of a task that are not in the directory yet.

    Args:
        task, by, test, base: see `official_urls`.
        output: the directory, made if it does not exist; its `source.json` says which files it holds.
        progress: is called with a file's name, its bytes downloaded so far, and its size if known.

    Returns:
        The names of the files that this call downloaded. Each is complete JSON of this task.

    Raises:
        DataError: see `official_urls`; for a directory that holds other files or cannot be written; for a download that
            fails, with the addresses to fetch by hand and the directory to put the files into.
    """
    if by not in get_args(By):
        raise ConfigError(f"LaMP is split by time or by user, not by {by!r}")
    urls = official_urls(task, by, test, base)
    missing = {name: url for name, url in urls.items() if not (output / name).exists()}
    if missing:
        reserve(output, {"task": task.lamp, "split": by, "from": base or BASE})
    for name, url in missing.items():
        try:
            download(url, output / name, _check(task, url), partial(progress, name))
        except DownloadError as error:
            left = " ".join(url for name, url in missing.items() if not (output / name).exists())
            raise DataError(f"{error}; or download by other means, and put into {output}: {left}") from None
    return list(missing)


def _check(task: Task, url: str) -> Callable[[Path], None]:
    """A check of a downloaded file: complete JSON, with golds of the task or questions in its wording."""

    def has_wording(row: Any) -> bool:
        text = row.get("input") if isinstance(row, dict) else None
        return isinstance(text, str) and task.query(text) != text.strip()

    def check(path: Path) -> None:
        file = LampFile(task, path)
        try:
            if url.endswith("_outputs.json"):
                file.golds()
            elif not sum(map(has_wording, file.stream())):  # reads all rows, because the file must be complete
                file.fail("the file", f"it has no question of {task.lamp}", "")
        except InvalidDataError as error:
            reason = f"{error.row_error.brief}; give the same command again, or see {_PAGE}"
            raise DataError(f"the file from {url} was removed, because it cannot be used: {reason}") from None

    return check
