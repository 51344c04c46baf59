"""GRPO steps on answers that were sampled and rewarded elsewhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trl
from datasets import Dataset

from finetune.config import GRPOConfig
from finetune.private_apis import prepare_optimizer, set_step_shape, take_metrics
from finetune.student import Student
from finetune.training import NaNGuard, lora_adapter, memory_errors_in_one_line, training_arguments
from r2p_dspy.errors import ConfigError


@dataclass(frozen=True)
class Rollout:
    """An answer of the model as tokens, with its prompt and reward."""

    prompt: Sequence[int]
    completion: Sequence[int]
    reward: float


class StepwiseGRPOTrainer(NaNGuard, trl.GRPOTrainer):
    """TRL's trainer, which stops at a NaN loss; its advantages, loss and optimizer are TRL's."""


class Policy:
    """A model that is trained one GRPO step at a time, with a constant learning rate.

    `options` are those of `trl.GRPOConfig`. `per_device_train_batch_size` limits the answers that are in memory
    together, by default to a group.
    """

    def __init__(self, student: Student, output: Path, *, lora: int = 0, options: Mapping[str, Any] | None = None):
        user_options = dict(options or {})
        if unknown := sorted(user_options.keys() - trl.GRPOConfig.__dataclass_fields__.keys()):
            raise ConfigError(f"train_kwargs: {', '.join(unknown)}: neither lora nor an option of trl.GRPOConfig")
        if user_options.get("use_vllm"):
            raise ConfigError("train_kwargs: leave out use_vllm, because the LM's own engine writes the answers")
        own_options = {
            **training_arguments(student, GRPOConfig(lora=lora), output, evaluates=False, begins=True),
            "save_strategy": "no",
            "report_to": "none",
        }
        self.student = student
        self.batch: int | None = user_options.pop("per_device_train_batch_size", None)
        # The rollouts decide a step's shape; until then the trainer gets one that TRL accepts.
        size = user_options.pop("num_generations", 2)
        shape = {"per_device_train_batch_size": size, "num_generations": size, "max_steps": 1}
        self._rollouts: list[Rollout] = []
        try:
            self.trainer: Any = StepwiseGRPOTrainer(
                model=student.model,
                reward_funcs=self.reward,
                args=trl.GRPOConfig(**{**own_options, **user_options, **shape}),
                train_dataset=Dataset.from_list([{"prompt": ""}]),
                processing_class=student.tokenizer,
                peft_config=lora_adapter(lora),
                rollout_func=self._rollout_tokens,
            )
        except TypeError as error:
            raise ConfigError(f"train_kwargs: {error}") from error
        prepare_optimizer(self.trainer)

    def update(self, groups: Sequence[Sequence[Rollout]]) -> dict[str, float]:
        """Take one step on groups of equal size, and return its metrics under TRL's names, with `loss` and `grad_norm`.

        The weights stay as they are where the groups or the loss cannot be used, or memory runs out (ConfigError).
        """
        size = len(groups[0])
        if any(len(group) != size for group in groups):
            raise ConfigError(f"groups of rollouts must be of one size, and have {sorted({*map(len, groups)})}")
        self._rollouts = [rollout for group in groups for rollout in group]
        trainer = self.trainer
        batch = math.gcd(len(self._rollouts), self.batch or size)
        parts = len(self._rollouts) // batch
        set_step_shape(trainer, size, batch, parts)
        trainer.model.train()
        inputs = [{"prompt": ""} for _ in self._rollouts]
        try:
            with memory_errors_in_one_line("lower per_device_train_batch_size, use lora, or take a smaller student"):
                losses = [float(trainer.training_step(trainer.model_wrapped, inputs, None)) for _ in range(parts)]
                norm = trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
                trainer.optimizer.step()
        finally:
            trainer.optimizer.zero_grad()
        trainer.state.global_step += 1
        return {"loss": sum(losses), "grad_norm": float(norm), **take_metrics(trainer)}

    def save(self, target: Path) -> Path:
        """Write the current model, with an adapter merged into it."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)
        # A copy, because saving merges the adapter and changes the dtype.
        return self.student.save(copy.deepcopy(model), target)

    def reward(self, prompts: Sequence[str], **_: Any) -> list[float]:
        """The rollouts' rewards, as a reward function of TRL's; TRL logs it under this name."""
        return [rollout.reward for rollout in self._rollouts]

    def _rollout_tokens(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [[*rollout.prompt] for rollout in self._rollouts],
            "completion_ids": [[*rollout.completion] for rollout in self._rollouts],
            "logprobs": None,  # TRL uses the current model's: each rollout is used in one step
        }
