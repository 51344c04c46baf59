"""Run directories: a config first, results as they come, `report.json` last, which makes a run finished."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from r2p_dspy.errors import RunError
from r2p_dspy.files import write_atomic

_LOCK = ".lock"


class Run:
    """One run's directory; a context manager, within which no other process can work in it.

    Args:
        directory: where it is, made when it does not exist.
        config: what was asked for; a resumed run must have been asked for the same.
        resume: go on with an unfinished run that is there.

    Raises:
        RunError: for a finished run, an unfinished one without `resume`, one of another config, one in which another
            process works, nothing to resume, or a directory that cannot be written.
    """

    def __init__(self, directory: Path | str, config: dict[str, Any], resume: bool = False):
        self.path = Path(directory)
        # An OS lock, which goes with the process that holds it, however that ends.
        self._lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False)
        try:
            self._begin(config, resume)
        except Timeout:
            raise RunError(
                f"another process works in {self.path}; wait until it has ended, or give another --output"
            ) from None
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}; give another --output") from None

    def _begin(self, config: dict[str, Any], resume: bool) -> None:
        self._before(config, resume)  # before anything is written
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            before = self._before(config, resume)  # another process may have begun, or finished, meanwhile
            self._new = not before
            self.id: str = before.get("id") or uuid.uuid4().hex
            write_json(self.path / "config.json", {**config, "id": self.id})
        except BaseException:
            self.close()
            raise

    def _before(self, config: dict[str, Any], resume: bool) -> dict[str, Any]:
        """The config of the run that is there; refuses what cannot be gone on with."""
        if (self.path / "report.json").exists():
            raise RunError(f"{self.path} holds a finished run; give another --output or remove it")
        before = self.path / "config.json"
        if before.exists():
            if not resume:
                raise RunError(f"{self.path} holds an unfinished run; add --resume to go on, or give another --output")
            found = read_json(before)
            check_same(self.path, {name: one for name, one in found.items() if name != "id"}, config)
            return found
        if resume:
            raise RunError(f"{self.path} holds no run to resume; leave out --resume")
        if self.path.is_dir() and any(one.name != _LOCK for one in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and no run; give another --output")
        return {}

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def withdraw(self) -> None:
        """Take a run back that could not begin."""
        if self._new:
            (self.path / "config.json").unlink()

    def close(self) -> None:
        """Let others work in the directory."""
        self._lock.release()

    def rows(self, name: str) -> "Rows":
        """The results of one program, example by example."""
        return results(self.path, name)

    def save(self, name: str, data: Any) -> None:
        """A file of JSON in the run's directory, below a folder if the name says so."""
        path = self.path / f"{name.replace(':', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)

    def finish(self, report: dict[str, Any]) -> None:
        """Write the report, after everything else."""
        write_json(self.path / "report.json", report)


def results(directory: Path, name: str) -> "Rows":
    """The results of one program in a run's directory."""
    return Rows(directory / "results" / f"{name.replace(':', '-')}.jsonl")


def check_same(path: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse to go on with what was started otherwise.

    Raises:
        RunError: with the first option that differs.
    """
    now = json.loads(json.dumps(config))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        raise RunError(
            f"{path} was started with {key} = {before.get(key)!r}, not {now.get(key)!r}; "
            "give the same options to resume it"
        )


class Rows:
    """Results that are appended one by one, so that nothing is lost when a run is stopped."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        # As bytes, since a text may hold other line separators, and half a line may end within a character.
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:  # the last line of a run that was killed while it wrote
                    continue

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; whole lines only, and nothing after half a line that a killed run left."""
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            # Half of a surrogate pair, which models do write, becomes its JSON escape.
            file.write(json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")

    def mend(self) -> int:
        """Take half a line away that a killed run left at the end; how many lines there are then."""
        if not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            whole = [len(line) for line in file if line.endswith(b"\n")]
            file.truncate(sum(whole))
        return len(whole)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomic(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        RunError: for a file that cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} cannot be read ({error}); give another --output, or remove the run") from None
