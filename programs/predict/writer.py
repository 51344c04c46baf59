"""The answers to one file: beside them stands what decides them, so that only the same run can go on with them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from programs.predict.answer_files import MOST, AnswerFiles
from programs.runs.directory import check_same, read_json, write_json
from r2p_dspy.errors import RunError

__all__ = ["MOST", "PredictionWriter"]


class PredictionWriter(AnswerFiles):
    """Writes the answers to a file's rows, and those that failed, as `AnswerFiles` does.

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
        self._config, self._resume = config, resume
        self.skipped = {*skip}  # and what the runs before have skipped, once it is begun
        self._record = target.with_name(f"{target.name.removesuffix('.jsonl')}.run.json")
        try:
            super().__init__(target, source)
            self._check_files()
            self.open()
        except OSError as error:
            raise RunError(f"cannot write to {target}: {error.strerror}; give another --output") from None

    def __enter__(self) -> "PredictionWriter":
        return self

    def begin(self) -> None:
        target, config = self.answers.path, self._config
        if not (self.answers.is_empty() and self.failures.is_empty()):
            if not self._resume:
                raise RunError(f"{target} is there already; add --resume to go on with it, or give another --output")
            before = read_json(self._record)
            self.skipped |= {*before.pop("skipped", ())}
            if before.get("input") != config["input"]:
                raise RunError(
                    f"{self.source} is not the input that {target} was begun with, or has changed since; "
                    "give that input, or another --output"
                )
            check_same(target, before, config)
        write_json(self._record, {**config, "skipped": sorted(self.skipped)})

    def _check_files(self) -> None:
        begun = self._record.exists()
        # A run that was killed when it had just begun leaves an empty file.
        existing = [rows.path for rows in (self.answers, self.failures) if not rows.is_empty()]
        if existing and not begun:
            raise RunError(f"{existing[0]} is there already, and not from an unfinished run; give another --output")
        if self._resume and not begun:
            raise RunError(f"there is no run of {self.answers.path} to resume; leave out --resume")
