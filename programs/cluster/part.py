"""One partition's files in a run's directory, and what is known when all of its rows are done.

part-00003.jsonl         its answers, as `predict` writes them
part-00003.failed.jsonl  its rows that failed
part-00003.done.json     {"rows": 1000, "answered": 998, "failed": 2, "usage": {"calls": 1204, "prompt": …, …}}
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from programs.calls.cache import Usage
from programs.calls.keeping import CallKeeping
from programs.cluster.partitions import Partition
from programs.predict.answer_files import AnswerFiles
from r2p_dspy.errors import RunError
from r2p_dspy.files import write_atomic

ANSWERS = "answers"  # the folder of these files in a run's directory
_WAIT = 60.0  # seconds for a process that is being killed to let go of its partition


@dataclass(frozen=True)
class Done:
    """What has become of a partition: its rows, and what its calls took, those of killed workers included."""

    rows: int = 0
    answered: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Done":
        state = json.loads(text)
        return cls(**{**state, "usage": Usage(**state["usage"])})

    def __add__(self, other: "Done") -> "Done":
        return Done(
            self.rows + other.rows,
            self.answered + other.answered,
            self.failed + other.failed,
            self.usage + other.usage,
        )


class Part:
    """The files of a partition.

    Args:
        run: the run's directory.
        partition: which.
        cache: whether completed calls are kept until the partition is done.
    """

    def __init__(self, run: Path, partition: Partition, cache: bool = True):
        self.partition, folder = partition, run / ANSWERS
        self.answers = folder / f"{partition.name}.jsonl"
        self._done = folder / f"{partition.name}.done.json"
        self.calls = CallKeeping.of(None, cache, folder / f"{partition.name}.calls")

    def done(self) -> Done | None:
        """What has become of it; None while rows are to be answered."""
        return Done.from_json(self._done.read_text(encoding="utf-8")) if self._done.exists() else None

    @contextmanager
    def writer(self) -> Iterator[AnswerFiles]:
        """Writes its rows; goes on where a worker that was killed has stopped."""
        source = Path(self.partition.file)
        beside = {"file": source.name} if self.partition.named else {}
        try:
            files = AnswerFiles(self.answers, source, begun=self.partition.number > 0, beside=beside)
            files.open(_WAIT)
        except OSError as error:
            raise RunError(f"cannot write to {self.answers}: {error.strerror}; correct this, then --resume") from None
        with files:
            yield files

    def finish(self, writer: AnswerFiles, usage: Usage) -> Done:
        """All of its rows are done: write so, and remove what need not be kept."""
        done = Done(self.partition.rows, writer.answered, writer.failed, usage)
        write_atomic(self._done, f"{done.to_json()}\n", private=True)
        self.calls.finish()
        return done
