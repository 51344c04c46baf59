"""Where predictions go: each row of the input into one of two files, in order, whatever stops the run in between."""

import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from programs.predict.questions import Row
from programs.runs.directory import Rows, check_same, read_json, write_json
from r2p_dspy.errors import RunError

MOST = 50  # rows that may fail one after another


class PredictionWriter:
    """The answers to an input's rows, and in a file beside them the rows that failed.

    A row is settled when its line stands, whole, in one of the two. They are filled in the input's order, so what is
    settled is a beginning of the input whenever a run is killed, and every other row is asked again.

    Failures are held back until a row is answered, or all are through: many that follow each other are the fault of
    the model or the options, not of the rows, and stop the run.

    Args:
        target: of the answers; `NAME.failed.jsonl` and `NAME.run.json`, which says what was asked for, are beside it.
        config: what was asked for; a resumed run must have been asked for the same.
        source: the input, and `config["input"]` its digest.
        resume: go on with what is there; where nothing is settled yet, a run is begun anew anyway.

    Raises:
        RunError: for answers that are there already, of another input or other options; nothing to resume; a file that
            cannot be written, or that another process writes.
    """

    def __init__(self, target: Path, config: dict[str, Any], source: Path, resume: bool = False):
        self.source = source
        self.answered = self.failed = 0
        self._failing, self._held = 0, list[dict[str, Any]]()
        name = target.name.removesuffix(".jsonl")
        self._record = target.with_name(f"{name}.run.json")
        try:
            self.answers, self.failures = Rows(target), Rows(target.with_name(f"{name}.failed.jsonl"))
            self._check_files(resume)
            self._lock = target.open("ab")
            try:
                self._begin(config, resume)
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise RunError(f"cannot write to {target}: {error.strerror}; give another --output") from None

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def unsettled(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows that are not settled yet, out of all of the input.

        Raises:
            RunError: when what is settled is no beginning of the input.
        """
        answers, failures = _objects(self.answers), _objects(self.failures)
        answer, failure = next(answers, None), next(failures, None)
        for row in rows:
            if failure is not None and failure.get("line") == row.line:
                failure = next(failures, None)
            elif answer is not None and answer.get("id") == row.id:
                answer = next(answers, None)
            elif answer is not None or failure is not None:
                raise self._changed(f"line {row.line} of {self.source} is not settled, but later ones are")
            else:
                yield row
        if answer is not None or failure is not None:
            raise self._changed(f"they hold more than {self.source}")

    def answer(self, row: dict[str, Any]) -> None:
        """Settle a row with its answer."""
        self.finish()
        self._append(self.answers, row)
        self.answered += 1

    def fail(self, row: Row, why: str, asked: bool) -> None:
        """Settle a row, now or later, with the reason why it has no answer.

        Args:
            row: the row.
            why: the reason.
            asked: whether a model was asked; flawed rows alone stop a run only where nothing is answered yet.

        Raises:
            RunError: for one failure too many.
        """
        self._held.append({"id": row.id, "line": row.line, "error": why})
        self._failing += asked or not self.answered
        if self._failing == MOST:
            first = self._held[0]
            raise RunError(
                f"{MOST} rows failed one after another, the first one, line {first['line']}: {first['error']}; "
                "they are not settled: mend that, then go on with --resume"
            )
        if not self._failing:
            self.finish()

    def finish(self) -> None:
        """Settle what was held back."""
        for row in self._held:
            self._append(self.failures, row)
            self.failed += 1
        self._failing, self._held = 0, []

    def _check_files(self, resume: bool) -> None:
        begun = self._record.exists()
        there = [rows.path for rows in (self.answers, self.failures) if rows.path.exists()]
        if there and not begun:
            raise RunError(f"{there[0]} is there already, and not of an unfinished run; give another --output")
        if resume and not begun:
            raise RunError(f"there is no run of {self.answers.path} to resume; leave out --resume")

    def _begin(self, config: dict[str, Any], resume: bool) -> None:
        target = self.answers.path
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is writing {target}; wait for it, or give another --output") from None
        if any(rows.path.exists() and rows.path.stat().st_size for rows in (self.answers, self.failures)):
            if not resume:
                raise RunError(f"{target} is there already; add --resume to go on with it, or give another --output")
            before = read_json(self._record)
            if before.get("input") != config["input"]:
                raise RunError(
                    f"{self.source} is not what {target} was begun with, or has changed since; "
                    "give that input, or another --output"
                )
            check_same(target, before, config)
        self.answered, self.failed = self.answers.mend(), self.failures.mend()
        write_json(self._record, config)

    def _append(self, rows: Rows, row: dict[str, Any]) -> None:
        try:
            rows.append(row)
        except OSError as error:
            raise RunError(
                f"cannot write to {rows.path}: {error.strerror}; mend that, then go on with --resume"
            ) from None

    def _changed(self, how: str) -> RunError:
        files = f"{self.answers.path} and {self.failures.path.name}"
        return RunError(f"{files} are not as a run left them: {how}; give another --output")


def _objects(rows: Rows) -> Iterator[dict[str, Any]]:
    return (row for row in rows if isinstance(row, dict))
