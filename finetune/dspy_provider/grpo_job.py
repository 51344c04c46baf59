"""Trainings by reward, of which DSPy's GRPO asks one step at a time."""

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

from finetune.dspy_provider.jobs import Stopping
from finetune.dspy_provider.rows import in_xml
from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:
    from finetune.dspy_provider.policy import Policy, Rollout
    from finetune.dspy_provider.provider import TrainableLM

# DSPy fills every batch that a job asks for, and repeats groups until they suffice; so it is told a number that nearly
# every number of groups divides, and each group is trained on once.
_ASKED = 840
_batches = itertools.count()  # an optimizer that is used twice must not meet a number again
_END = "[[ ## completed ## ]]"


class GRPOJob(Stopping, ReinforceJob):
    """A training on rewarded answers, one step of TRL's GRPO at a time; after each the LM runs the new weights.

    `checkpoints` holds the directories of `save_checkpoint` by name. While it runs, every call of the LM is another
    sample.

    Args:
        lm: whose model is trained, in place.
        train_kwargs: `lora`, the rank of an adapter, and what `trl.GRPOConfig` takes.
    """

    lm: TrainableLM

    def initialize(self) -> None:
        """Make ready. Raises ValueError, one line, for what cannot be trained."""
        options = dict(self.train_kwargs)
        if options.get("num_generations", 2) < 2:
            raise ConfigError("GRPO compares answers to one example: let num_rollouts_per_grpo_step be at least 2")
        temperature = self.lm.kwargs.get("temperature")
        if temperature == 0:
            raise ConfigError("at temperature 0 all answers to an example are the same: connect with temperature=1")
        from finetune.dspy_provider.policy import Policy
        from finetune.student import Student

        self.directory: Path = self.lm.provider.fresh("grpo")
        options.setdefault("temperature", temperature or 1.0)
        lora = options.pop("lora", 0)
        student = Student.load(self.lm.finetuning_model, lora=bool(lora))
        self._policy: Policy | None = Policy(student, self.directory, lora=lora, options=options)
        self.current: Path | None = None
        self.status_now = TrainingStatus.pending
        self._pending = [next(_batches) for _ in range(_ASKED)]
        self._last: list[Any] = []
        self.lm.rollouts = iter(range(2**62))  # which copies of the LM can be made with

    def step(self, train_data: Sequence[Mapping[str, Any]], train_data_format: Any = None) -> None:
        """One step of the optimizer on groups of rewarded answers.

        Args:
            train_data: `{"batch_id": …, "group": [{"messages": …, "completion": …, "reward": …}, …]}` for each group.
            train_data_format: `TrainDataFormat.GRPO_CHAT`.

        Raises:
            ValueError: one line: rows of another format, rows that exceed the model's context, a reward or a loss that
                is not a number, too little memory. The LM keeps the weights of the step before.
            CancelledError: the job was cancelled.
        """
        if train_data_format not in (None, TrainDataFormat.GRPO_CHAT):
            raise ConfigError(f"rewarded answers come in the format grpo_chat, not {train_data_format}")
        try:
            with self.turn(self.lm.provider.training):
                self.status_now = TrainingStatus.running
                groups = [[self._rollout(row) for row in group] for group in self._unseen(train_data)]
                logged = self.policy.update(groups)
                self.steps += 1
                self.update_model()
        except BaseException as error:
            self._over(TrainingStatus.cancelled if isinstance(error, CancelledError) else TrainingStatus.failed)
            raise
        with (self.directory / "steps.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.steps, "groups": len(groups), **logged}) + "\n")
        self._pending = [next(_batches) for _ in range(_ASKED)]

    @property
    def policy(self) -> Policy:
        """The model in training, with its optimizer."""
        if self._policy is None:
            raise ConfigError("this training is over; begin another")
        return self._policy

    def update_model(self) -> None:
        """Let the LM run the weights as they are now."""
        before = self.current
        self.current = self.policy.save(self.directory / f"step-{self.steps}")
        self.lm.become(f"hf:{self.current}")
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)

    def save_checkpoint(self, checkpoint_name: str, **_: Any) -> None:
        """Keep the model as it is now, in a directory of this name."""
        if not checkpoint_name or Path(checkpoint_name).name != checkpoint_name:
            raise ConfigError(f"a checkpoint's name is a file's name, not {checkpoint_name!r}")
        path = self.policy.save(self.directory / "checkpoints" / checkpoint_name)
        self.checkpoints[checkpoint_name] = str(path)
        self.last_checkpoint = checkpoint_name

    def terminate(self) -> None:
        """End the training; the LM keeps the last step's weights."""
        self._over(TrainingStatus.succeeded)

    def cancel(self) -> bool:
        """Stop before the next step, which then raises CancelledError; False if the training is over."""
        if self.status() not in (TrainingStatus.pending, TrainingStatus.running):
            return False
        self._asked.set()
        return True

    def status(self) -> TrainingStatus:
        """`pending` (no step was taken yet), `running`, `succeeded`, `failed` or `cancelled`."""
        return self.status_now

    def get_status(self) -> dict[str, Any]:
        """What `dspy.GRPO` asks for: the status, the model's name, checkpoints, and the batches that are wanted."""
        try:
            self.check()
        except CancelledError:
            self._over(TrainingStatus.cancelled)
            raise
        return {
            "job_id": self.directory.name,
            "status": self.status_now.value,
            "current_model": self.lm.model,
            "checkpoints": self.checkpoints,
            "last_checkpoint": self.last_checkpoint,
            "pending_batch_ids": self._pending,
        }

    def _over(self, status: TrainingStatus) -> None:
        if self.status_now in (TrainingStatus.pending, TrainingStatus.running):
            self.status_now = status
        self.lm.rollouts = None
        self._policy = None  # with its weights and its optimizer

    def _unseen(self, train_data: Sequence[Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
        """The groups, each once, without those that DSPy had left over from the step before."""
        groups = list({id(one["group"]): one["group"] for one in train_data}.values())
        before = {id(group) for group in self._last}
        new = [group for group in groups if id(group) not in before] or groups
        self._last = groups
        if not new or not all(new):
            raise ConfigError("there are no answers to train on")
        return new

    def _rollout(self, row: Mapping[str, Any]) -> Rollout:
        from finetune.dspy_provider.policy import Rollout

        reward = float(row["reward"])
        if not math.isfinite(reward):
            raise ConfigError(f"the reward of an answer is {reward}, no number")
        if in_xml(row["messages"]) and dspy.settings.adapter is None:
            raise ConfigError("GRPO writes rows in XML where no adapter is set: give it adapter=dspy.ChatAdapter()")
        mended = self.lm.provider.mended(row["messages"], row["completion"]["content"])
        student = self.policy.student
        student.thinking = mended.thinks or None
        ids = student.encode({"prompt": mended.prompt, "completion": mended.answer})
        tokens, learnt = ids["input_ids"], ids["completion_mask"]
        student.check_fits(len(tokens), 0)
        # An answer that was cut off has no end that could be blamed for its reward.
        cut = f"`{_END}`" in mended.prompt[-1]["content"] and not mended.completion.endswith(_END)
        start = learnt.index(1)
        return Rollout(tokens[:start], tokens[start : -1 if cut and mended.completion else None], reward)
