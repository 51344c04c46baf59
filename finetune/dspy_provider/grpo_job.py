"""Trainings by reward: DSPy's GRPO asks for one step at a time."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy
from dspy.clients.provider import ReinforceJob
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus

from finetune.dspy_provider.jobs import Cancellable
from finetune.dspy_provider.lm import TrainableLM
from finetune.dspy_provider.rows import asks_for_xml, is_cut_off
from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:  # loads TRL
    from finetune.dspy_provider.policy import Policy, Rollout

# DSPy fills every batch that a job asks for, and repeats groups until there are enough. So the job asks for a number of
# batches that nearly every number of groups divides, and trains on each group once.
_BATCHES = 840
_batch_ids = itertools.count()  # an optimizer that is used twice must not meet an id again


class GRPOJob(Cancellable, ReinforceJob):
    """A training on rewarded answers, one step of TRL's GRPO at a time; after each step the LM runs the new weights.

    `checkpoints` holds the directories of `save_checkpoint` by name. While the job runs, every call of the LM draws
    another sample.

    Args:
        lm: its model is trained in place.
        train_kwargs: `lora`, the rank of an adapter, and options of `trl.GRPOConfig`.
    """

    lm: TrainableLM
    last_checkpoint: Any  # DSPy declares None

    def initialize(self) -> None:
        """Load the model and prepare the first step. Raises ConfigError for what cannot be trained."""
        options = dict(self.train_kwargs)
        if options.get("num_generations", 2) < 2:
            raise ConfigError("GRPO compares answers to one example: set num_rollouts_per_grpo_step to at least 2")
        temperature = self.lm.kwargs.get("temperature")
        if temperature == 0:
            raise ConfigError("at temperature 0 all answers to an example are the same: connect with temperature=1")
        from finetune.dspy_provider.policy import Policy
        from finetune.student import Student

        self.directory: Path = self.lm.provider.new_directory("grpo")
        options.setdefault("temperature", temperature or 1.0)
        lora = options.pop("lora", 0)
        student = Student.load(self.lm.finetuning_model, lora=bool(lora))
        self._policy: Policy | None = Policy(student, self.directory, lora=lora, options=options)
        self.current: Path | None = None
        self._status = TrainingStatus.pending
        self._pending = [next(_batch_ids) for _ in range(_BATCHES)]
        self._last_groups: list[Any] = []
        self.lm.rollouts = iter(range(2**62))  # unlike itertools.count, the LM can be copied with it

    def step(self, train_data: Sequence[Mapping[str, Any]], train_data_format: Any = None) -> None:
        """Take one step of the optimizer on groups of rewarded answers.

        Args:
            train_data: `{"batch_id": …, "group": [{"messages": …, "completion": …, "reward": …}, …]}` for each group.
            train_data_format: `TrainDataFormat.GRPO_CHAT`.

        Raises:
            ConfigError: for rows, rewards or a loss that cannot be used; the LM keeps the weights of the step before.
            CancelledError: the job was cancelled.
        """
        if train_data_format not in (None, TrainDataFormat.GRPO_CHAT):
            raise ConfigError(f"rewarded answers come in the format grpo_chat, not {train_data_format}")
        try:
            with self.turn(self.lm.provider.training):
                self._status = TrainingStatus.running
                groups = [[self._rollout(row) for row in group] for group in self._new_groups(train_data)]
                metrics = self.policy.update(groups)
                self.steps += 1
                self.update_model()
        except BaseException as error:
            self._end(TrainingStatus.cancelled if isinstance(error, CancelledError) else TrainingStatus.failed)
            raise
        with (self.directory / "steps.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.steps, "groups": len(groups), **metrics}) + "\n")
        self._pending = [next(_batch_ids) for _ in range(_BATCHES)]

    @property
    def policy(self) -> Policy:
        """The model in training, with its optimizer. Raises ConfigError after the training."""
        if self._policy is None:
            raise ConfigError("this training is over; start another one")
        return self._policy

    def update_model(self) -> None:
        """Let the LM run the current weights."""
        before = self.current
        self.current = self.policy.save(self.directory / f"step-{self.steps}")
        self.lm.switch(f"hf:{self.current}")
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def save_checkpoint(self, checkpoint_name: str, **_: Any) -> None:
        """Save the current model in a directory of this name."""
        if not checkpoint_name or Path(checkpoint_name).name != checkpoint_name:
            raise ConfigError(f"a checkpoint's name must be a plain file name, not {checkpoint_name!r}")
        path = self.policy.save(self.directory / "checkpoints" / checkpoint_name)
        self.checkpoints[checkpoint_name] = str(path)
        self.last_checkpoint = checkpoint_name

    def terminate(self) -> None:
        """End the training; the LM keeps the last step's weights."""
        self._end(TrainingStatus.succeeded)

    def cancel(self) -> bool:
        """Stop before the next step, which then raises CancelledError; False if the training is over."""
        if self.status() not in (TrainingStatus.pending, TrainingStatus.running):
            return False
        self._cancel_requested.set()
        return True

    def status(self) -> TrainingStatus:
        """`pending` (before the first step), `running`, `succeeded`, `failed` or `cancelled`."""
        return self._status

    def get_status(self) -> dict[str, Any]:
        """What `dspy.GRPO` asks for: status, model name, checkpoints, and the ids of the batches that the job wants."""
        try:
            self.check_cancelled()
        except CancelledError:
            self._end(TrainingStatus.cancelled)
            raise
        return {
            "job_id": self.directory.name,
            "status": self._status.value,
            "current_model": self.lm.model,
            "checkpoints": self.checkpoints,
            "last_checkpoint": self.last_checkpoint,
            "pending_batch_ids": self._pending,
        }

    def _end(self, status: TrainingStatus) -> None:
        if self._status in (TrainingStatus.pending, TrainingStatus.running):
            self._status = status
        self.lm.rollouts = None
        self._policy = None  # frees the weights and the optimizer

    def _new_groups(self, train_data: Sequence[Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
        """Each group once, without the groups that DSPy repeats from the step before."""
        groups = list({id(entry["group"]): entry["group"] for entry in train_data}.values())
        before = {id(group) for group in self._last_groups}
        new = [group for group in groups if id(group) not in before] or groups
        self._last_groups = groups
        if not new or not all(new):
            raise ConfigError("there are no answers to train on")
        return new

    def _rollout(self, row: Mapping[str, Any]) -> Rollout:
        from finetune.dspy_provider.policy import Rollout

        reward = float(row["reward"])
        if not math.isfinite(reward):
            raise ConfigError(f"the reward of an answer is {reward}, not a finite number")
        if asks_for_xml(row["messages"]) and dspy.settings.adapter is None:
            raise ConfigError("GRPO writes rows in XML unless an adapter is set: pass it adapter=dspy.ChatAdapter()")
        call = self.lm.provider.normalize(row["messages"], row["completion"]["content"])
        student = self.policy.student
        student.thinking = call.thinks or None
        encoded = student.encode({"prompt": call.prompt, "completion": call.answer})
        tokens, mask = encoded["input_ids"], encoded["completion_mask"]
        student.check_fits(len(tokens), 0)
        # An answer that was cut off has no end token that the reward could count for.
        cut_off = is_cut_off(call.prompt, call.completion)
        start = mask.index(1)
        return Rollout(tokens[:start], tokens[start : -1 if cut_off and call.completion else None], reward)
