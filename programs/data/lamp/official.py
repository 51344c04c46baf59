"""LaMP's official files: where they are, and getting them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from programs.data.lamp.download import DownloadError, download
from programs.data.lamp.files import File
from programs.data.lamp.row_errors import FlawError
from programs.runs.directory import write_json
from programs.tasks.task import Task
from programs.text import one_line
from r2p_dspy.errors import ConfigError, DataError

# What lamp-benchmark.github.io/download links to. The movies of LaMP_2 are in a folder `new`, as downloaders of both
# splits have it; without, one gets the old LaMP_2 of news categories. A wrong address gives a web page, not a 404.
BASE = "https://ciir.cs.umass.edu/downloads/LaMP"
_PAGE = "https://lamp-benchmark.github.io/download"
_LICENSED = "https://github.com/LaMP-Benchmark/LaMP#avocado"

By = Literal["time", "user"]


def files(task: Task, by: By, test: bool = False, base: str = "") -> dict[str, str]:
    """The addresses of a task's official files, by the names that they get.

    Args:
        task: one whose data are public.
        by: LaMP's split by time (the same users in every set, later questions last), or by user.
        test: also the test questions; LaMP keeps their golds.
        base: another place with the same folders.

    Raises:
        DataError: for task 6, whose e-mails need a licence; the line says where to find it.

    Example:
        >>> from programs.tasks import TASKS
        >>> files(TASKS["lamp2"], "time")["dev_outputs.json"]
        'https://ciir.cs.umass.edu/downloads/LaMP/time/LaMP_2/new/dev/dev_outputs.json'
    """
    if task.lamp == "LaMP_6":
        what = "LaMP_6 is made from the Avocado e-mails (LDC2015T03), which need a licence"
        raise DataError(f"{what}; {_LICENSED} says how, and --data takes the directory")
    folder = f"{base or BASE}/{'time/' if by == 'time' else ''}{task.lamp}{'/new' if task.lamp == 'LaMP_2' else ''}"
    names = [f"{part}_{kind}.json" for part in ("train", "dev") for kind in ("questions", "outputs")]
    return {
        name: f"{folder}/{name.split('_')[0]}/{name}" for name in [*names, *(["test_questions.json"] if test else [])]
    }


def get(
    task: Task,
    by: By,
    output: Path,
    *,
    test: bool = False,
    base: str = "",
    progress: Callable[[str, int, int | None], None] = lambda name, done, total: None,
) -> list[str]:
    """Download a task's official files, those excepted that are there.

    Args:
        task, by, test, base: see `files`.
        output: the directory, made when it does not exist; `source.json` in it says what it holds.
        progress: is told of a file, how many bytes of it are there, and how many there are to be.

    Returns:
        The names of the files that were downloaded now. Each is whole JSON of this task.

    Raises:
        DataError: see `files`; for a directory that holds other files, or cannot be written; for anything that goes
            wrong with a download: what there is to fetch, and where to put it.
    """
    if by not in get_args(By):
        raise ConfigError(f"LaMP is split by time or by user, not by {by!r}")
    wanted = files(task, by, test, base)
    missing = {name: url for name, url in wanted.items() if not (output / name).exists()}
    if missing:
        _claim(output, {"task": task.lamp, "split": by, "from": base or BASE})
    for name, url in missing.items():
        try:
            download(url, output / name, _check(task, url), partial(progress, name))
        except DownloadError as error:
            left = " ".join(url for name, url in missing.items() if not (output / name).exists())
            raise DataError(f"{error}; otherwise fetch by other means, and put into {output}: {left}") from None
    return list(missing)


def _claim(output: Path, source: dict[str, str]) -> None:
    """Keep files of another task or split out of the same directory."""
    path = output / "source.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        if path.exists() and any(output.glob("*_*.json*")):
            before = json.loads(path.read_text(encoding="utf-8"))
            if any(before.get(key) != source[key] for key in ("task", "split")):
                held = ", ".join(f"{key} {value}" for key, value in before.items())
                raise DataError(one_line(f"{output} is for other files ({held}); give another --output"))
        write_json(path, source)
    except OSError as error:
        raise DataError(f"cannot write to {output}: {error.strerror}; give another --output") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        raise DataError(f"{path} is no account of the files beside it; remove it, or give another --output") from None


def _check(task: Task, url: str) -> Callable[[Path], None]:
    """What a downloaded file has to be: whole JSON, golds of the task or questions with its wording."""

    def worded(row: Any) -> bool:
        text = row.get("input") if isinstance(row, dict) else None
        return isinstance(text, str) and task.query(text) != text.strip()

    def check(path: Path) -> None:
        file = File(task, path)
        try:
            if url.endswith("_outputs.json"):
                file.golds()
            elif not sum(map(worded, file.stream())):  # all of them, for the file has to be whole
                file.fail("the file", f"no question in it is one of {task.lamp}", "")
        except FlawError as error:
            why = f"{error.flaw.brief}; give the same command again, or see {_PAGE}"
            raise DataError(f"{url} gave no good file, and it was removed: {why}") from None

    return check
