"""Run directories: `config.json` first, results as they come, then `report.json`, which marks a run complete.

They hold users' texts: only their owner can read the files.
"""

import json
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from r2p_dspy.errors import RunError
from r2p_dspy.files import write_atomic

RESULTS, TRANSCRIPTS = "results", "transcripts"  # folders of a run's directory, with a file for each program
FAILED = "failed.jsonl"  # the failed rows of all programs
_LOCK = ".lock"
_LATER = {"history": "list"}  # what runs of earlier versions did, which did not know the option
_BEGINNING = (_LOCK, ".config.json.part")  # all that a run leaves that was killed when it had just begun
SKIPPED_LATER = "skipped_later"  # in the config: ids of examples that are left out since the run was resumed
_MAY_CHANGE = ("id", SKIPPED_LATER)
_SYNC_SECONDS = 1.0  # a power failure loses the rows of at most so many seconds; a killed process loses none
# What a run's config holds beside options, in the words of `check_same`.
_IDENTITY = {
    "command": "another command",
    "lm": "another model (--model)",
    "judge_lm": "another judge (--judge)",
    "lm_settings": "other settings of the model (--lm)",
    "examples": "other examples (--data)",
    "skipped": "other flawed rows (--data)",
    "task_file": "another task file (--task)",
    "compiled": "another program (--program)",
    "program_file": "another program (--program)",
    "student_weights": "other weights of the student (--student)",
    "given": "other settings given (--tune)",
}


class Run:
    """One run's directory. As a context manager, it keeps other processes out of the directory.

    Args:
        directory: its path; it is made if it does not exist.
        config: what decides the run's results. A resumed run must have the same config.
        resume: go on with the unfinished run that is there.

    Raises:
        RunError: for a finished run, an unfinished one without `resume`, one with another config, one in which another
            process works, nothing to resume, or a directory that cannot be written.
    """

    def __init__(self, directory: Path | str, config: dict[str, Any], resume: bool = False):
        self.path = Path(directory)
        # An OS lock, which is released when its process ends, however it ends.
        self._lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False)
        try:
            self._begin(config, resume)
        except Timeout:
            raise RunError(
                f"another process works in {self.path}; wait until it ends, or give another --output"
            ) from None
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}; give another --output") from None

    def _begin(self, config: dict[str, Any], resume: bool) -> None:
        self._earlier_config(config, resume)  # before anything is written
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(0o700, exist_ok=True)
        self._lock.acquire()
        try:
            earlier = self._earlier_config(config, resume)  # another process may have begun or finished meanwhile
            self._new = not earlier
            self.id: str = earlier.get("id") or uuid.uuid4().hex
            write_json(self.path / "config.json", {**config, "id": self.id})
        except BaseException:
            self.close()
            raise

    def _earlier_config(self, config: dict[str, Any], resume: bool) -> dict[str, Any]:
        """The config of the run that is there, empty if there is none; refuses a run that cannot go on."""
        if (self.path / "report.json").exists():
            raise RunError(f"{self.path} holds a finished run; give another --output or remove it")
        file = self.path / "config.json"
        if file.exists():
            if not resume:
                raise RunError(f"{self.path} holds an unfinished run; add --resume to go on, or give another --output")
            earlier = read_json(file)
            check_same(self.path, *(_deciding(entries) for entries in (earlier, config)))
            return earlier
        if resume:
            raise RunError(f"{self.path} holds no run to resume; leave out --resume")
        if self.path.is_dir() and any(path.name not in _BEGINNING for path in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and no run; give another --output")
        return {}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def withdraw(self) -> None:
        """Remove the config of a new run that could not begin."""
        if self._new:
            (self.path / "config.json").unlink()

    def close(self) -> None:
        """Let other processes work in the directory."""
        self._lock.release()

    def rows(self, name: str) -> "Rows":
        """The results of one program, example by example."""
        return results(self.path, name)

    def transcripts(self, name: str) -> "Rows":
        """The transcripts of one program, example by example."""
        return Rows(_jsonl(self.path / TRANSCRIPTS, name))

    def save(self, name: str, data: Any) -> None:
        """Write a JSON file into the run's directory; the name may have a folder."""
        path = self.path / f"{name.replace(':', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)

    def finish(self, report: dict[str, Any]) -> None:
        """Write the report, after everything else. This marks the run complete."""
        write_json(self.path / "report.json", report)


def results(directory: Path, name: str) -> "Rows":
    """The results of one program in a run's directory."""
    return Rows(_jsonl(directory / RESULTS, name))


def _jsonl(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(':', '-')}.jsonl"


def default_directory(command: str, name: str, resume: bool) -> Path:
    """The directory of a run without `--output`: the first free of runs/compile-lamp2, runs/compile-lamp2-2, …

    `resume` takes the latest unfinished run instead.
    """
    numbered = [Path(f"runs/{command}-{name}{'' if number == 1 else f'-{number}'}") for number in range(1, 1000)]
    if not resume:
        return next(path for path in numbered if not path.exists())
    unfinished = [path for path in numbered if path.exists() and not (path / "report.json").exists()]
    if not unfinished:
        raise RunError(f"there is no unfinished {command} run of {name} in runs/; leave out --resume")
    return unfinished[-1]


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _MAY_CHANGE}


def check_same(path: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse to resume a run with another config; the error names the first entry that differs."""
    now = json.loads(json.dumps(config))
    before = {**{key: value for key, value in _LATER.items() if key in now}, **before}
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        was, is_now = before.get(key), now.get(key)
        if key in _IDENTITY:
            difference = f"{_IDENTITY[key]}: {was!r}, not {is_now!r}"
        else:
            difference = f"{_as_typed(key, was)}, not with {_as_typed(key, is_now)}"
        raise RunError(f"{path} was started with {difference}; give the same options to resume it")


def _as_typed(key: str, value: Any) -> str:
    """An option as a user types it."""
    option = f"--{key.replace('_', '-')}"
    if value is None or value is False or value == []:
        return f"no {option}"
    values = value if isinstance(value, list) else [value]
    return option if value is True else " ".join(f"{option} {value}" for value in values)


class Rows:
    """A file of JSON lines, appended one by one so that a stopped run loses nothing. Its folder is made.

    Each line is handed to the operating system at once, and to the disk once a second at most, and by `sync`.
    """

    def __init__(self, path: Path):
        self.path, self._synced = path, 0.0
        path.parent.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        # As bytes: a text may hold other line separators, and half a line may end within a character.
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:  # half a line, from a run that was killed while it wrote
                    continue

    def is_empty(self) -> bool:
        """Whether nothing has been written yet."""
        return not self.path.exists() or (self.path.is_file() and not self.path.stat().st_size)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row on a line of its own, also after half a line that a killed run left."""
        with open(self.path, "ab+", opener=_private) as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            # Models write halves of surrogate pairs; they become JSON escapes.
            file.write(json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                file.flush()
                _sync(file)
                self._synced = time.monotonic()

    def sync(self) -> None:
        """Wait until the disk has every line."""
        if self.path.exists():
            with self.path.open("rb") as file:
                _sync(file)

    def drop_partial_line(self) -> int:
        """Remove the half line that a killed run left at the end, and return the number of lines."""
        if not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            whole = [len(line) for line in file if line.endswith(b"\n")]
            file.truncate(sum(whole))
        return len(whole)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomic(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n", private=True)


def _sync(file: BinaryIO) -> None:
    """Wait until the disk has a file; a pipe or a device has none."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    """An opener of files that only their owner can read."""
    return os.open(path, flags, 0o600)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run's directory; raises `RunError` if that fails."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} cannot be read ({error}); give another --output, or remove the run") from None
