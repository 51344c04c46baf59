"""Taking a user out of the files of runs: rows, reports, artifacts, pages."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from programs.data.values import row_id
from programs.stores.texts import UserTexts
from r2p_dspy.artifact_file import KIND
from r2p_dspy.errors import RunError
from r2p_dspy.files import atomic_path
from r2p_dspy.redaction import without_quotes

LEDGER = "ledger.sqlite"  # a call cache's file, which `CallCache.forget` cleans
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_MADE = (".html", ".md", ".txt", ".csv", ".log", ".svg")  # made from the rows, and made again from what is left of them
_REDACTED = "[…]"


@dataclass
class Cleaning:
    """Takes one user out of files, and keeps account.

    Args:
        user: the user's name, as rows have it.
        texts: what the user wrote.
    """

    user: str
    texts: UserTexts
    removed: list[str] = field(default_factory=list)  # what was removed, a line for each file
    left: list[str] = field(default_factory=list)  # what cannot be cleaned, a line for each file
    _ids: set[str] = field(default_factory=set)  # of the rows that were the user's

    def clean(self, place: Path) -> None:
        """Clean a file, or all files of a directory.

        Raises:
            RunError: a run is in progress there.
        """
        files = sorted(path for path in _files(place) if path.name != LEDGER and path.is_file())
        for run in {path.parent for path in files if path.name == ".lock"}:
            _refuse_running(run)
        files.sort(key=lambda path: path.suffix != ".jsonl")  # rows first: they tell which ids are the user's
        for path in files:
            try:
                self._clean_file(path)
            except (OSError, UnicodeDecodeError, ValueError) as error:
                self.left.append(f"{path} cannot be read ({' '.join(str(error).split())[:80]}); look into it yourself")

    def _clean_file(self, path: Path) -> None:
        if path.suffix == ".jsonl":
            self._clean_rows(path)
        elif path.suffix == ".json":
            self._clean_json(path)
        elif path.suffix in WEIGHTS:
            self.left.append(f"{path}: weights cannot forget; if they were trained on this user, train them anew")
        elif path.suffix in _MADE and self.texts.stand_in(path.read_text(encoding="utf-8", errors="replace")):
            path.unlink()
            self.removed.append(f"{path}: removed, since it showed texts of the user")
        elif path.suffix not in _MADE and self._holds_bytes(path):
            self.left.append(f"{path} holds texts of the user, and is of a kind that is not written here; remove it")

    def _clean_rows(self, path: Path) -> None:
        with path.open("rb") as file:
            dropped = [number for number, line in enumerate(file) if self._is_users(line)]
        if not dropped:
            return
        numbers = {*dropped}
        with path.open("rb") as file, _rewriting(path) as part, part.open("wb") as kept:
            kept.writelines(line for number, line in enumerate(file) if number not in numbers)
        self.removed.append(f"{path}: {len(dropped)} row{'s' * (len(dropped) > 1)}")

    def _is_users(self, line: bytes) -> bool:
        """Whether a row is the user's, or holds a text of theirs."""
        try:
            row = json.loads(line)
        except ValueError:  # half a line, of a run that was killed while it wrote
            return self.texts.stand_in(line.decode(errors="replace"))
        if isinstance(row, dict) and self.user == (row_id({"id": row.get("user")}) or row_id(row)):
            self._ids.add(str(row.get("id")))
            return True
        return self.texts.are_in(row)

    def _clean_json(self, path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        before = json.dumps(data)
        demos = 0
        if isinstance(data, dict) and data.get("kind") == KIND:
            demos = self._clean_demos(data)
        if isinstance(data, dict) and isinstance(golds := data.get("golds"), list):  # a submission
            data["golds"] = [
                gold for gold in golds if not (isinstance(gold, dict) and str(gold.get("id")) in self._ids)
            ]
        if self.texts.are_in(data):
            data = self._without(without_quotes(data, self.texts.all))
        if json.dumps(data) == before:
            return
        with _rewriting(path) as part:
            part.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        what = f"{demos} demo{'s' * (demos > 1)}" if demos else "texts of the user"
        self.removed.append(f"{path}: {what}")

    def _clean_demos(self, artifact: dict[str, Any]) -> int:
        """Remove the demos of a compiled program that hold the user's texts; it loads like any other."""
        removed = 0
        predictors = artifact.get("predictors")
        for predictor in predictors.values() if isinstance(predictors, dict) else ():
            kept = [demo for demo in predictor["demos"] if not self.texts.are_in(demo)]
            count = len(predictor["demos"]) - len(kept)
            predictor["demos"], predictor["left_out"] = kept, predictor.get("left_out", 0) + count
            removed += count
        return removed

    def _without(self, data: Any) -> Any:
        """A piece of JSON without the strings in which a text of the user still stands: short ones, as a whole."""
        if isinstance(data, str):
            return _REDACTED if self.texts.stand_in(data) else data
        if isinstance(data, dict):
            return {self._without(name): self._without(value) for name, value in data.items()}
        return [*map(self._without, data)] if isinstance(data, list) else data

    def _holds_bytes(self, path: Path) -> bool:
        content = path.read_bytes()
        return any(text.encode(errors="replace") in content for text in self.texts.all if len(text) > 3)


@contextmanager
def _rewriting(path: Path) -> Iterator[Path]:
    """A file to write in the place of another one, with the same permissions."""
    with atomic_path(path) as part:
        part.touch()
        shutil.copymode(path, part)
        yield part


def _files(place: Path) -> Iterator[Path]:
    return place.rglob("*") if place.is_dir() else iter([place])


def ledgers(place: Path) -> list[Path]:
    """The directories of the call caches in a place."""
    return sorted({path.parent for path in _files(place) if path.name == LEDGER})


def _refuse_running(run: Path) -> None:
    try:
        with FileLock(run / ".lock", timeout=0):
            pass
    except Timeout:
        raise RunError(f"another process works in {run}; wait until it ends, then forget again") from None
