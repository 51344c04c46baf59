"""Rollouts that are corrected while they are written, as R2P's calls are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from finetune.rollout.forms import Prompt
from finetune.rollout.in_process import InProcessRollouts, Rollout
from finetune.student import Student
from r2p_dspy.decoding.monitor import Monitor
from r2p_dspy.decoding.steering import generate_steered
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.local.segment import LocalSegment


class CorrectedRollouts(InProcessRollouts):
    """Each completion is monitored: where it leaves the template or fails a check, it is cut, corrected and resumed.

    The model reads the corrections in its own completion, so that is what it is trained on; but the loss leaves them
    out, because it did not write them. What was cut is in no completion. Rewards read the answer without the notes.

    Args:
        student: the model in training, as it was loaded.
        monitor_of: makes the monitor of an answer to a prompt.
    """

    def __init__(self, student: Student, monitor_of: Callable[[Prompt], Monitor]) -> None:
        super().__init__(student)
        self._monitor_of = monitor_of

    def write(self, batch: Batcher, prompts: Sequence[Prompt], rows: Sequence[Row]) -> list[Rollout]:
        with ThreadPoolExecutor(len(rows)) as executor:
            return [*executor.map(lambda prompt, row: self._corrected(batch, prompt, row), prompts, rows)]

    def _corrected(self, batch: Batcher, prompt: Prompt, row: Row) -> Rollout:
        text, last = generate_steered(LocalSegment(batch, row, self.student.chat), self._monitor_of(prompt))
        tokens = last.tokens()
        if last.finish == "stop":
            end = last.row.end
            tokens.append((self.student.tokenizer.eos_token_id if end is None else end, end is not None))
        return Rollout(row.prompt, [token for token, _ in tokens], [int(own) for _, own in tokens], text)
