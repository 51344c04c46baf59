"""Constrained rollouts by the project's own batches, on the weights in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from trl.models import unwrap_model_for_generation

from finetune.constrained.forms import Forms, Prompt, grammars_of
from finetune.private_apis import without_mixed_precision
from finetune.student import Student
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.masks import ConstrainedAnswer
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.errors import ConfigError

_SEEDS = 2**62


class ConstrainedRollouts:
    """A `rollout_func` of TRL's `GRPOTrainer`: every completion follows the grammar of its own prompt.

    The loss leaves out forced tokens, `env_mask` 0: those that the grammar wrote, and those that were the only ones
    allowed. The model chose the others, from what the grammar allows. `forced` of a completion, which reward functions
    get, is the share of its tokens that the loss leaves out.

    Args:
        student: the model in training, as it was loaded.
        forms: the constraints of the training prompts.
    """

    def __init__(self, student: Student, forms: Forms) -> None:
        self._student, self._forms, self._grammars = student, forms, grammars_of(student)

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """One completion for each prompt; TRL repeats a prompt for each answer of its group."""
        # Seeds come from torch's generator: each process has its own, and checkpoints keep it.
        seeds: list[int] = torch.randint(_SEEDS, (len(prompts),)).tolist()
        rows = [self._row(prompt, seed, trainer.args) for prompt, seed in zip(prompts, seeds, strict=True)]
        with _generating(trainer) as model:
            # A new one for each step: it remembers prompts as the weights of its time computed them.
            batch = Batcher(model, self._student.end_tokens, max_rows=len(rows))
            try:
                batch.run(rows)
            finally:
                batch.close()
        completions, masks = zip(*map(self._completion, rows), strict=True)
        return {
            "prompt_ids": [row.prompt for row in rows],
            "completion_ids": list(completions),
            # The ratio of the loss is of the model's own probabilities, without a grammar, now and when the answers
            # were written; TRL computes both. It needs those of sampling only to correct for an engine such as vLLM.
            "logprobs": None,
            "env_mask": list(masks),
            "forced": [1 - sum(mask) / len(mask) for mask in masks],
        }

    def _row(self, prompt: Prompt, seed: int, arguments: Any) -> Row:
        ids, inside = self._student.prompt(prompt)
        return Row(
            ids,
            arguments.max_completion_length - 1,  # the last is for the token that ends the turn
            arguments.temperature,
            arguments.top_p,
            top_k=arguments.top_k or None,
            seed=seed,
            constrained=ConstrainedAnswer(self._grammars, self._forms.of(prompt), f"{OPEN}\n" if inside else ""),
        )

    def _completion(self, row: Row) -> tuple[list[int], list[int]]:
        """The tokens of a completion, and 1 for each that the model chose; only a cut one has no token at its end."""
        mask = [int(not forced) for forced in row.forced]
        if row.finish != "stop":
            return row.tokens, mask
        end = self._student.tokenizer.eos_token_id if row.end is None else row.end
        return [*row.tokens, end], [*mask, int(row.end is not None)]


def check_batches(student: Student) -> None:
    """Refuse a student that the project's own batches cannot run."""
    try:
        Batcher(student.model, student.end_tokens)
    except ConfigError as error:
        raise ConfigError(f"--constrain-rollouts cannot be used with student {student.source!r}: {error}") from None


@contextmanager
def _generating(trainer: Any) -> Iterator[Any]:
    """The model as it is now, ready to generate; an adapter in training takes part."""
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as unwrapped:
        model = unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped
        training = model.training
        model.eval()
        with without_mixed_precision(model):
            try:
                yield model
            finally:
                model.train(training)
