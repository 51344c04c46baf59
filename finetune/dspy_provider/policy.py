"""Updates of a model by TRL's GRPO, on answers that were sampled and rewarded elsewhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl import GRPOConfig, GRPOTrainer

from finetune.settings import RL
from finetune.student import Student
from finetune.training import NaNGuard, adapter, arguments, in_one_line
from r2p_dspy.errors import ConfigError


@dataclass(frozen=True)
class Rollout:
    """An answer that a model gave.

    Args:
        prompt: its tokens.
        completion: the answer's.
        reward: what it got.
    """

    prompt: Sequence[int]
    completion: Sequence[int]
    reward: float


class Policy:
    """A model that is trained one step at a time; the advantages, the loss and the optimizer are those of TRL's GRPO.

    Args:
        student: what is trained.
        output: the trainer's directory.
        lora: the rank of an adapter that is trained instead of the weights; 0 trains these.
        options: of `trl.GRPOConfig`, by name; `per_device_train_batch_size` is at most how many answers are in memory
            together, by default a group. The learning rate is constant.

    Raises:
        ValueError: for what is no option of TRL's, or has a value that TRL refuses.
    """

    def __init__(self, student: Student, output: Path, *, lora: int = 0, options: Mapping[str, Any] | None = None):
        from datasets import Dataset

        given = dict(options or {})
        if unknown := sorted(given.keys() - GRPOConfig.__dataclass_fields__.keys()):
            raise ConfigError(f"train_kwargs: {', '.join(unknown)}: neither lora nor an option of trl.GRPOConfig")
        if given.get("use_vllm"):
            raise ConfigError(
                "train_kwargs: use_vllm is of no use here, since the answers come from the LM's own engine"
            )
        settings = RL(lora=lora)
        own = {
            **arguments(student, settings, output, dev=False, begins=True),
            "save_strategy": "no",
            "report_to": "none",
        }
        self.student, self.lora = student, lora
        self.batch: int | None = given.pop("per_device_train_batch_size", None)
        # A step's shape is set with its rollouts; until then one that TRL takes.
        size = given.pop("num_generations", 2)
        shape = {"per_device_train_batch_size": size, "num_generations": size, "max_steps": 1}
        try:
            self.trainer: Any = _Trainer(
                model=student.model,
                reward_funcs=self.given,
                args=GRPOConfig(**{**own, **given, **shape}),
                train_dataset=Dataset.from_list([{"prompt": ""}]),
                processing_class=student.tokenizer,
                peft_config=adapter(settings),
                rollout_func=self._rolled,
            )
        except TypeError as error:
            raise ConfigError(f"train_kwargs: {error}") from error
        self.trainer.create_optimizer()
        prepared = self.trainer.accelerator.prepare(self.trainer.model, self.trainer.optimizer)
        self.trainer.model_wrapped, self.trainer.optimizer = prepared
        self._rows: list[Rollout] = []

    def update(self, groups: Sequence[Sequence[Rollout]]) -> dict[str, float]:
        """One step of the optimizer.

        Args:
            groups: the rollouts that are compared with one another; all groups of one size.

        Returns:
            The step's figures under TRL's names, with `loss` and `grad_norm`.

        Raises:
            ValueError: groups of different sizes, a loss that is not a number, or too little memory; the weights are
                as they were.
        """
        size = len(groups[0])
        if any(len(group) != size for group in groups):
            raise ConfigError(f"groups of rollouts must be of one size, and have {sorted({*map(len, groups)})}")
        self._rows = [row for group in groups for row in group]
        trainer = self.trainer
        batch = math.gcd(len(self._rows), self.batch or size)
        parts = len(self._rows) // batch
        trainer.num_generations, trainer.args.per_device_train_batch_size = size, batch
        trainer.args.steps_per_generation = trainer.args.gradient_accumulation_steps = parts
        trainer.current_gradient_accumulation_steps = parts
        trainer._step = 0  # so the first part takes the rollouts, and the others their shares of them
        trainer.model.train()
        places = [{"prompt": ""} for _ in self._rows]
        try:
            with in_one_line("lower per_device_train_batch_size, take lora, or a smaller student"):
                losses = [float(trainer.training_step(trainer.model_wrapped, places, None)) for _ in range(parts)]
                norm = trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
                trainer.optimizer.step()
        finally:
            trainer.optimizer.zero_grad()
        trainer.state.global_step += 1
        metrics = trainer._metrics["train"]
        figures = {name: sum(values) / len(values) for name, values in metrics.items() if values}
        metrics.clear()
        return {"loss": sum(losses), "grad_norm": float(norm), **figures}

    def save(self, target: Path) -> Path:
        """Write the model as it is now, an adapter merged into it."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)
        # A copy, since an adapter is merged, and weights are stored in the type in which they were read.
        return self.student.save(copy.deepcopy(model), target)

    def _rolled(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [[*row.prompt] for row in self._rows],
            "completion_ids": [[*row.completion] for row in self._rows],
            "logprobs": None,  # TRL takes those of the model as it is: each rollout is used in one step
        }

    def given(self, prompts: Sequence[str], **_: Any) -> list[float]:
        """The rewards, as a reward function of TRL's."""
        return [row.reward for row in self._rows]


class _Trainer(NaNGuard, GRPOTrainer):
    """TRL's, which stops at a loss that is not a number."""
