"""Writing predictions: every row of the input goes into one of two files, in order, whatever stops the run."""

import fcntl
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from programs.predict.input_rows import InputRow
from programs.runs.directory import Rows, check_same, read_json, write_json
from r2p_dspy.errors import RunError

MOST = 50  # failures one after another that stop a run


class PredictionWriter:
    """Writes the answers to an input's rows, and the rows that failed into a second file.

    A row is done when its whole line stands in one of the two files. They are filled in the input's order, so a killed
    run leaves the beginning of the input done, and every other row is asked again.

    Failures are held back until a row is answered or the input ends. Many failures in a row are the fault of the model
    or the options, not of the rows: they stop the run.

    Args:
        target: the file of answers. `NAME.failed.jsonl` and `NAME.run.json`, which holds the config, go beside it.
        config: what decides the answers. A resumed run must have the same config.
        source: the input; `config["input"]` is its digest.
        resume: go on with the answers that are there. If no row is done yet, the run begins anew.
        skip: ids of rows that are left out. A resumed run may leave out further ones; its record names them all.

    Raises:
        RunError: for answers that are there already, answers of another input or of other options, nothing to resume,
            and a file that cannot be written or that another process writes.
    """

    def __init__(
        self, target: Path, config: dict[str, Any], source: Path, resume: bool = False, skip: Collection[str] = ()
    ):
        self.source, self._skip = source, skip
        self.answered = self.failed = 0
        self._failing, self._held = 0, list[dict[str, Any]]()
        name = target.name.removesuffix(".jsonl")
        self._record = target.with_name(f"{name}.run.json")
        try:
            self.answers, self.failures = Rows(target), Rows(target.with_name(f"{name}.failed.jsonl"))
            self._check_files(resume)
            target.touch(0o600)
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
        self._held.append({"id": row.id, "line": row.line, "error": reason, **more})
        self._failing += asked or not self.answered
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

    def _check_files(self, resume: bool) -> None:
        begun = self._record.exists()
        # A run that was killed when it had just begun leaves an empty file.
        existing = [rows.path for rows in (self.answers, self.failures) if not rows.is_empty()]
        if existing and not begun:
            raise RunError(f"{existing[0]} is there already, and not from an unfinished run; give another --output")
        if resume and not begun:
            raise RunError(f"there is no run of {self.answers.path} to resume; leave out --resume")

    def _begin(self, config: dict[str, Any], resume: bool) -> None:
        target, skipped = self.answers.path, {*self._skip}
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is writing {target}; wait for it, or give another --output") from None
        if not (self.answers.is_empty() and self.failures.is_empty()):
            if not resume:
                raise RunError(f"{target} is there already; add --resume to go on with it, or give another --output")
            before = read_json(self._record)
            skipped |= {*before.pop("skipped", ())}
            if before.get("input") != config["input"]:
                raise RunError(
                    f"{self.source} is not the input that {target} was begun with, or has changed since; "
                    "give that input, or another --output"
                )
            check_same(target, before, config)
        self.answered, self.failed = self.answers.drop_partial_line(), self.failures.drop_partial_line()
        write_json(self._record, {**config, "skipped": sorted(skipped)})

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
