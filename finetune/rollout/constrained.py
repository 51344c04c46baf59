"""Rollouts that follow the grammars of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.rollout.forms import Forms, Prompt, grammars_of
from finetune.rollout.in_process import InProcessRollouts, Rollout
from finetune.student import Student
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.masks import ConstrainedAnswer
from r2p_dspy.engines.local.rows import Row


class ConstrainedRollouts(InProcessRollouts):
    """Every completion follows the grammar of its own prompt.

    The loss leaves out forced tokens: those that the grammar wrote, and those that were the only ones allowed. The
    model chose the others, from what the grammar allows.

    Args:
        student: the model in training, as it was loaded.
        forms: the constraints of the training prompts.
    """

    def __init__(self, student: Student, forms: Forms) -> None:
        super().__init__(student)
        self._forms, self._grammars = forms, grammars_of(student)

    def row(self, prompt: Prompt, seed: int, arguments: Any) -> Row:
        row = super().row(prompt, seed, arguments)
        begun = f"{OPEN}\n" if self.student.prompt(prompt)[1] else ""
        row.constrained = ConstrainedAnswer(self._grammars, self._forms.of(prompt), begun)
        return row

    def write(self, batch: Batcher, prompts: Sequence[Prompt], rows: Sequence[Row]) -> list[Rollout]:
        batch.run(rows)
        return [Rollout(row.prompt, *self._completion(row)) for row in rows]

    def _completion(self, row: Row) -> tuple[list[int], list[int]]:
        """The tokens of a completion, and 1 for each that the model chose; only a cut one has no token at its end."""
        chosen = [int(not forced) for forced in row.forced]
        if row.finish != "stop":
            return row.tokens, chosen
        end = self.student.tokenizer.eos_token_id if row.end is None else row.end
        return [*row.tokens, end], [*chosen, int(row.end is not None)]
