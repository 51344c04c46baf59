"""A file of answers and one of failures: every row of an input goes into one of them, in order, whatever happens."""

import fcntl
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from programs.predict.input_rows import InputRow
from programs.runs.directory import Rows
from r2p_dspy.errors import RunError

MOST = 50  # failures one after another that stop a run
_PAUSE = 0.1  # seconds between two attempts to lock the files


class AnswerFiles:
    """Writes the answers to an input's rows, and the rows that failed into a second file.

    A row is done when its whole line stands in one of the two files. They are filled in the input's order, so a killed
    run leaves the beginning of the input done, and every other row is asked again.

    Failures are held back until a row is answered or the input ends. Many failures in a row are the fault of the model
    or the options, not of the rows: they stop the run.

    Args:
        target: the file of answers. `NAME.failed.jsonl` goes beside it.
        source: the input.
        begun: whether rows of the input may have been answered elsewhere. Then flawed rows never stop the run.
        beside: what the line of a failure has beside the row's id and line.

    Raises, when it is opened,
        RunError: for a file that cannot be written or that another process writes.
    """

    def __init__(self, target: Path, source: Path, *, begun: bool = False, beside: Mapping[str, str] = {}):
        self.source, self._begun, self._beside = source, begun, beside
        self.answered = self.failed = 0
        self._failing, self._held = 0, list[dict[str, Any]]()
        name = target.name.removesuffix(".jsonl")
        self.answers, self.failures = Rows(target), Rows(target.with_name(f"{name}.failed.jsonl"))

    def open(self, wait: float = 0.0) -> None:
        """Keep other processes from writing, and count the rows that are done.

        Args:
            wait: seconds to wait for another process, such as one that is being killed.
        """
        target, until = self.answers.path, time.monotonic() + wait
        target.touch(0o600)
        self._lock = target.open("ab")
        try:
            while not self._locked():
                if time.monotonic() >= until:
                    raise RunError(f"another process is writing {target}; wait for it, or give another --output")
                time.sleep(_PAUSE)
            self.begin()
            self.answered, self.failed = self.answers.drop_partial_line(), self.failures.drop_partial_line()
        except BaseException:
            self._lock.close()
            raise

    def begin(self) -> None:
        """Look at what is there, once no other process can change it."""

    def __enter__(self) -> "AnswerFiles":
        return self

    def __exit__(self, *_: object) -> None:
        for rows in (self.answers, self.failures):
            rows.sync()
        self._lock.close()

    def remaining(self, rows: Iterable[InputRow]) -> Iterator[InputRow]:
        """The rows that are not done yet, out of all rows of the input. Those that are done must be its beginning."""
        answers, failures = _objects(self.answers), _objects(self.failures)
        answer, failure = next(answers, None), next(failures, None)
        for row in rows:
            if failure is not None and failure.get("line") == row.line:
                failure = next(failures, None)
            elif answer is not None and answer.get("id") == row.id:
                answer = next(answers, None)
            elif answer is not None or failure is not None:
                raise self._changed(f"line {row.line} of {self.source} is not done, but later ones are")
            else:
                yield row
        if answer is not None or failure is not None:
            raise self._changed(f"they hold more than {self.source}")

    def answer(self, row: dict[str, Any]) -> None:
        """Write a row's answer."""
        self.finish()
        self._append(self.answers, row)
        self.answered += 1

    def fail(self, row: InputRow, reason: str, asked: bool, **more: str) -> None:
        """Write, now or later, why a row has no answer; raises `RunError` for one failure too many.

        Flawed rows, for which no model was asked, stop a run only if no row is answered yet. `more` is what else the
        failure's line says, such as its cause.
        """
        self._held.append({"id": row.id, **self._beside, "line": row.line, "error": reason, **more})
        self._failing += asked or not (self.answered or self._begun)
        if self._failing == MOST:
            first = self._held[0]
            raise RunError(
                f"{MOST} rows failed one after another, the first at line {first['line']}: {first['error']}; "
                "they do not count as done: correct this, then go on with --resume"
            )
        if not self._failing:
            self.finish()

    def finish(self) -> None:
        """Write the failures that were held back."""
        for row in self._held:
            self._append(self.failures, row)
            self.failed += 1
        self._failing, self._held = 0, []

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _append(self, rows: Rows, row: dict[str, Any]) -> None:
        try:
            rows.append(row)
        except OSError as error:
            raise RunError(
                f"cannot write to {rows.path}: {error.strerror}; correct this, then go on with --resume"
            ) from None

    def _changed(self, how: str) -> RunError:
        files = f"{self.answers.path} and {self.failures.path.name}"
        return RunError(f"{files} have changed since the run wrote them: {how}; give another --output")


def _objects(rows: Rows) -> Iterator[dict[str, Any]]:
    return (row for row in rows if isinstance(row, dict))
