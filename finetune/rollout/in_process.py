"""Rollouts by the project's own batches, on the weights in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from trl.models import unwrap_model_for_generation

from finetune.private_apis import without_mixed_precision
from finetune.rollout.forms import Prompt
from finetune.student import Student
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.errors import ConfigError

_SEEDS = 2**62


@dataclass(frozen=True)
class Rollout:
    """A completion, and what the loss and the rewards need to know of it.

    Args:
        prompt: its tokens.
        tokens: of the completion, the one that ends the turn included.
        counts: for each of them 1 where the loss counts it, else 0.
        text: what the rewards read; None for the text of the tokens.
    """

    prompt: list[int]
    tokens: list[int]
    counts: list[int]
    text: str | None = None


class InProcessRollouts(ABC):
    """A `rollout_func` of TRL's `GRPOTrainer`.

    Reward functions get the share of a completion's tokens that the loss leaves out, as `left_out`, and its `shown`
    text where that is not the text of its tokens.

    Args:
        student: the model in training, as it was loaded.
    """

    def __init__(self, student: Student) -> None:
        self.student = student

    @abstractmethod
    def write(self, batch: Batcher, prompts: Sequence[Prompt], rows: Sequence[Row]) -> list[Rollout]:
        """One completion for each row of the batch, which is not yet submitted."""

    def row(self, prompt: Prompt, seed: int, arguments: Any) -> Row:
        """The row that answers a prompt, with the sampling that TRL's arguments ask for."""
        return Row(
            self.student.prompt(prompt)[0],
            arguments.max_completion_length - 1,  # the last is for the token that ends the turn
            arguments.temperature,
            arguments.top_p,
            top_k=arguments.top_k or None,
            seed=seed,
        )

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """One completion for each prompt; TRL repeats a prompt for each answer of its group."""
        # Seeds come from torch's generator: each process has its own, and checkpoints keep it.
        seeds: list[int] = torch.randint(_SEEDS, (len(prompts),)).tolist()
        rows = [self.row(prompt, seed, trainer.args) for prompt, seed in zip(prompts, seeds, strict=True)]
        with _generating(trainer) as model:
            # A new one for each step: it remembers prompts as the weights of its time computed them.
            batch = Batcher(model, self.student.end_tokens, max_rows=len(rows))
            try:
                rollouts = self.write(batch, prompts, rows)
            finally:
                batch.close()
        return {
            "prompt_ids": [rollout.prompt for rollout in rollouts],
            "completion_ids": [rollout.tokens for rollout in rollouts],
            # The ratio of the loss is of the model's own probabilities, without a grammar, now and when the answers
            # were written; TRL computes both. It needs those of sampling only to correct for an engine such as vLLM.
            "logprobs": None,
            "env_mask": [rollout.counts for rollout in rollouts],
            "left_out": [1 - sum(rollout.counts) / len(rollout.counts) for rollout in rollouts],
            "shown": [rollout.text for rollout in rollouts],
        }


def check_batches(student: Student, option: str) -> None:
    """Refuse a student that the project's own batches cannot run."""
    try:
        Batcher(student.model, student.end_tokens)
    except ConfigError as error:
        raise ConfigError(f"{option} cannot be used with student {student.source!r}: {error}") from None


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
