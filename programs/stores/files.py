"""Taking a user out of the files of runs: rows, reports, artifacts, pages."""

import html
import json
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from programs.report_html.page import PAGE
from programs.stores.owners import Owned
from programs.stores.pages import made_again, shows
from programs.stores.texts import UserTexts
from r2p_dspy.artifact_file import KIND
from r2p_dspy.errors import RunError
from r2p_dspy.files import atomic_path
from r2p_dspy.redaction import without_quotes

LEDGER = "ledger.sqlite"  # a call cache's file, which `CallCache.forget` cleans
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_MADE = (".html", ".md", ".txt", ".csv", ".log", ".svg")  # made from the rows, and made again from what is left of them
_REDACTED = "[…]"
_COPIES = ".cache"  # a trainer's copies of the rows beside it
_NAMED_PLACES = 3  # in a message


@dataclass
class Cleaning:
    """Takes one user out of files, and keeps account.

    Clean all places, then make the pages again, which need whole runs.

    Args:
        user: the user's name, as rows have it.
        texts: what the user wrote.
    """

    user: str
    texts: UserTexts
    removed: list[str] = field(default_factory=list)  # what was removed, a line for each file
    left: list[str] = field(default_factory=list)  # what cannot be cleaned, a line for each file
    _changed: set[Path] = field(default_factory=set)  # files that held the user
    _pages: set[Path] = field(default_factory=set)

    def clean(self, place: Path) -> None:
        """Clean a file, or all files of a directory.

        Raises:
            RunError: a run is in progress there.
        """
        files = sorted(path for path in _files(place) if path.name != LEDGER and path.is_file())
        locked = {path.parent for path in files if path.name == ".lock"}
        for run in locked | {folder for folder in place.parents if (folder / ".lock").is_file()}:
            _refuse_running(run)
        owned = Owned(self.user, (path for path in files if path.suffix == ".jsonl"))
        for copies in sorted({path.parent for path in files if path.suffix == ".arrow"}):
            self._clean_copies(copies, owned)
        # Files that name the user come last: they tell which ids are the user's if this is stopped, and repeated.
        for path in sorted(files, key=lambda path: path in owned.naming):
            try:
                self._clean_file(path, owned)
            except FileNotFoundError:  # one of the copies
                continue
            except (OSError, UnicodeDecodeError, ValueError) as error:
                self.left.append(f"{path} cannot be read ({' '.join(str(error).split())[:80]}); look into it yourself")
        self._pages.update(path for path in files if path.name == PAGE)
        self._say_what_ids_hide(owned)

    def make_pages(self) -> None:
        """Make the pages again on which the user was, those of sweeps after those of their runs."""
        folders = {folder for path in self._changed for folder in path.parents if (folder / PAGE).is_file()}
        pages = self._pages | {folder / PAGE for folder in folders}
        for page in sorted(pages, key=lambda page: (-len(page.parts), page)):
            if page.parent in folders or shows(page, self.user, self.texts):
                self.removed.append(f"{page}: {made_again(page, self.user, self.texts)}")

    def _clean_file(self, path: Path, owned: Owned) -> None:
        if path.name == PAGE:
            return
        if path.suffix == ".jsonl":
            self._clean_rows(path, owned)
        elif path.suffix == ".json":
            self._clean_json(path, owned)
        elif path.suffix in WEIGHTS:
            self.left.append(f"{path}: weights cannot forget; if they were trained on this user, train them anew")
        elif path.suffix in _MADE and self.texts.stand_in(
            html.unescape(path.read_text(encoding="utf-8", errors="replace"))
        ):
            path.unlink()
            self.removed.append(f"{path}: removed, since it showed texts of the user")
        elif path.suffix not in _MADE and self._holds_bytes(path):
            self.left.append(f"{path} holds texts of the user, and is of a kind that is not written here; remove it")

    def _clean_copies(self, folder: Path, owned: Owned) -> None:
        """Remove a folder of copies of the rows beside `.cache`, if they held the user; a trainer makes it again."""
        above = next((parent.parent for parent in (folder, *folder.parents) if parent.name == _COPIES), None)
        if above is None:
            return
        beside = any(path.parent == above for path in owned.naming)
        if beside or any(map(self._holds_bytes, filter(Path.is_file, folder.iterdir()))):
            shutil.rmtree(folder)
            self.removed.append(f"{folder}: removed, since it held copies of the user's rows")

    def _say_what_ids_hide(self, owned: Owned) -> None:
        """A user of whom rows tell nothing but their ids is found by one id at a time."""
        places = [*map(str, sorted(owned.nameless))]
        if places:
            more = f" and {len(places) - _NAMED_PLACES} more" if len(places) > _NAMED_PLACES else ""
            self.left.append(
                f"rows that name no user, in {', '.join(places[:_NAMED_PLACES])}{more}: they were looked through for "
                f"the id {self.user!r}, and for texts of the store; forget the ids of the user's other rows too"
            )

    def _clean_rows(self, path: Path, owned: Owned) -> None:
        ids = owned.ids(path)
        with path.open("rb") as file:
            dropped = [number for number, line in enumerate(file) if self._is_users(line, owned, ids)]
        if not dropped:
            return
        numbers = {*dropped}
        with path.open("rb") as file, _rewriting(path) as part, part.open("wb") as kept:
            kept.writelines(line for number, line in enumerate(file) if number not in numbers)
        self._note(path, _counted(len(dropped), "row"))

    def _is_users(self, line: bytes, owned: Owned, ids: Container[str]) -> bool:
        """Whether a row is the user's, or holds a text of theirs."""
        try:
            row = json.loads(line)
        except ValueError:  # half a line, of a run that was killed while it wrote
            return owned.names(line) or self.texts.stand_in(line.decode(errors="replace"))
        return owned.is_users(row, ids) or self.texts.are_in(row)

    def _clean_json(self, path: Path, owned: Owned) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        before = json.dumps(data)
        what = "texts of the user"
        if isinstance(data, dict) and data.get("kind") == KIND:
            if demos := self._clean_demos(data):
                what = _counted(demos, "demo")
        elif isinstance(data, dict) and isinstance(golds := data.get("golds"), list):  # a submission
            ids = owned.ids(path)
            data["golds"] = [gold for gold in golds if not owned.is_users(gold, ids)]
            what = _counted(len(golds) - len(data["golds"]), "answer")
        elif isinstance(data, dict) and owned.is_submission(path):  # LaMP-QA's: responses by id
            ids, count = owned.ids(path), len(data)
            data = {name: responses for name, responses in data.items() if name not in ids}
            what = _counted(count - len(data), "answer")
        if self.texts.are_in(data):
            data = self._without(without_quotes(data, self.texts.all))
        if json.dumps(data) == before:
            return
        with _rewriting(path) as part:
            part.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        self._note(path, what)

    def _note(self, path: Path, what: str) -> None:
        self._changed.add(path)
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


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


@contextmanager
def _rewriting(path: Path) -> Iterator[Path]:
    """A file to write in the place of another one, with the same permissions."""
    with atomic_path(path) as part:
        part.touch(0o600)
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
