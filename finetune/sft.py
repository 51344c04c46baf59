"""Supervised fine-tuning on chat rows, with TRL's `SFTTrainer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trl
from datasets import Dataset

from finetune.config import SFTConfig
from finetune.evaluation import EvaluatesStudent, Evaluation
from finetune.rollout.forms import Forms, chosen, grammars_of
from finetune.student import Student, is_finished
from finetune.training import NaNGuard, OnStep, fit, last_checkpoint, processes, rows_at_once, training_arguments
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.local.masks import ConstrainedAnswer
from r2p_dspy.errors import ConfigError


class StudentSFTTrainer(NaNGuard, EvaluatesStudent, trl.SFTTrainer):
    """TRL's trainer, which stops at a NaN loss and evaluates on dev with `Evaluation`."""


def train_sft(
    source: str | Path,
    rows: Dataset | Sequence[Mapping[str, Any]],
    config: SFTConfig,
    output: Path,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
    evaluation: Evaluation | None = None,
    thinking: bool | None = None,
    forms: Forms | None = None,
) -> Path:
    """Train a student to write the completions of rows; the loss covers only these.

    Args:
        source: the student: a model's directory, a hub name, or `pocket`.
        rows: `prompt` and `completion`, each a list of messages (`role`, `content`); other columns are ignored.
        config: settings of the training.
        output: directory for checkpoints, TensorBoard's log, and the finished model.
        resume: continue from the last checkpoint, or return the finished model.
        on_step: called with (step, steps) after each step; an exception it raises stops the training, and the last
            checkpoint stays.
        evaluation: evaluates the student on dev every `config.every` steps; the best model is kept, and training stops
            when the score no longer rises. None trains to the end.
        thinking: whether the student's template is told to think; None leaves it to the template.
        forms: of the answers to the rows' prompts, for `config.mask_forced`.

    Returns:
        The directory of the finished model with its tokenizer. With LoRA its `adapter` is merged, and kept too.

    Raises:
        ConfigError: for a student or rows that cannot be used, a loss that is not a number, or too little memory.
        RunError: for checkpoints of another training.
    """
    if not isinstance(rows, Dataset):
        rows = Dataset.from_list([{"prompt": [*row["prompt"]], "completion": [*row["completion"]]} for row in rows])
    if not len(rows):
        raise ConfigError("there are no rows to train on")
    student = Student.load(source, lora=bool(config.lora), thinking=thinking)
    checkpoint = last_checkpoint(output, "sft", student, rows, config, resume)
    if is_finished(output / "model"):
        return output / "model"
    encoded = Dataset.from_list([*map(encoder(student, config, forms), rows)])
    student.check_fits(max(map(len, encoded["input_ids"])), 0)
    arguments = trl.SFTConfig(
        **training_arguments(student, config, output, evaluates=evaluation is not None, begins=checkpoint is None),
        num_train_epochs=config.epochs,
        **_batch_sizes(config, student),
        warmup_steps=config.warmup,
        lr_scheduler_type="cosine",
        completion_only_loss=True,
        max_length=None,
    )
    return fit(
        StudentSFTTrainer,
        student,
        config,
        output,
        checkpoint=checkpoint,
        on_step=on_step,
        evaluation=evaluation,
        memory_advice="lower --batch, use --lora, or take a smaller student",
        args=arguments,
        train_dataset=encoded,
    )


def check_mask(config: SFTConfig, student: Student) -> None:
    """Refuse a mask of forced tokens for a student whose tokenizer cannot follow a grammar."""
    if config.mask_forced:
        grammars_of(student, "--mask-forced")


def encoder(student: Student, config: SFTConfig, forms: Forms | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What makes a row's tokens, and the mask of those that the loss counts."""
    if not config.mask_forced:
        return student.encode
    if forms is None:
        raise ConfigError("--mask-forced needs answers that have a form, and these rows have none: leave it out")
    grammars = grammars_of(student, "--mask-forced")

    def encode(row: Mapping[str, Any]) -> dict[str, Any]:
        encoded, begun = student.encode(row), student.prompt(row["prompt"])[1]
        start = encoded["completion_mask"].index(1)
        answer = ConstrainedAnswer(grammars, forms.of(row["prompt"]), f"{OPEN}\n" if begun else "")
        counted = chosen(answer, encoded["input_ids"][start:], student.end_tokens)
        return {**encoded, "completion_mask": [0] * start + counted}

    return encode


def _batch_sizes(config: SFTConfig, student: Student) -> dict[str, Any]:
    """The rows of a step shared by the processes."""
    count = processes().num_processes
    if config.batch % count:
        raise ConfigError(f"{config.batch} rows per step cannot be shared by {count} processes; change --batch")
    rows = config.batch // count
    together = rows_at_once(student, rows)
    return {
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": config.accumulate * rows // together,
    }
